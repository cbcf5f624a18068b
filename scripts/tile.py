"""Cut slides of two stains into tiles: ``python -m scripts.tile --source HE --target KI67 --output DATASET …``."""

from bundle.commands.main import script

if __name__ == "__main__":
    script("tile")
