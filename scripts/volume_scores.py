"""Score stained volumes against a true one: ``python -m scripts.volume_scores --stained PATH --truth STAIN``."""

from bundle.commands.main import script

if __name__ == "__main__":
    script("volume_scores")
