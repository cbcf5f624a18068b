"""Make a phantom dataset: ``python -m scripts.phantom --output DIR --pairs N --seed S``."""

from bundle.commands import command
from bundle.phantom.dataset import make_dataset

if __name__ == "__main__":
    command(make_dataset)
