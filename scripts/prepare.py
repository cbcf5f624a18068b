"""Make a dataset of registered pairs: ``python -m scripts.prepare --pairs PAIRS --output DATASET``."""

from bundle.common.command_line import command
from bundle.preparation.pairs.dataset import prepare

if __name__ == "__main__":
    command(prepare)
