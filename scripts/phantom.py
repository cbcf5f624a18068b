"""Make a phantom dataset: ``python -m scripts.phantom --output DIR --pairs N --seed S``."""

from bundle.common.command_line import command
from bundle.preparation.phantom.dataset import make_dataset

if __name__ == "__main__":
    command(make_dataset)
