"""A dataset of your own registered pairs: ``python -m scripts.pairs --source DIR --target DIR --output DATASET``."""

from bundle.common.command_line import command
from bundle.preparation.pairs.from_folders import pairs_from_folders

if __name__ == "__main__":
    command(pairs_from_folders)
