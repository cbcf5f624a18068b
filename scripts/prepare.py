"""Make a dataset of registered pairs: ``python -m scripts.prepare --pairs PAIRS --output DATASET``."""

from bundle.commands.main import script

if __name__ == "__main__":
    script("prepare")
