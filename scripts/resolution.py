"""Resolution of images by Fourier ring correlation: ``python -m scripts.resolution IMAGE …``."""

from bundle.commands.main import script

if __name__ == "__main__":
    script("resolution")
