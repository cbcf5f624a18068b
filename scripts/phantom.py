"""Make a phantom dataset: ``python -m scripts.phantom --output DIR --pairs N --seed S``."""

import fire

from bundle.errors import plain_errors
from bundle.phantom.dataset import make_dataset

if __name__ == "__main__":
    plain_errors()
    fire.Fire(make_dataset, serialize=str)
