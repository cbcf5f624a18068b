"""A dataset of your own registered pairs: ``python -m scripts.pairs --source DIR --target DIR --output DATASET``."""

from bundle.commands.main import script

if __name__ == "__main__":
    script("pairs")
