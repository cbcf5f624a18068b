"""Make a dataset of registered pairs: ``python -m scripts.prepare --pairs PAIRS --output DATASET``."""

from bundle.commands import command
from bundle.preparation.dataset import prepare

if __name__ == "__main__":
    command(prepare)
