"""Make a phantom dataset: ``python -m scripts.phantom --output DIR --pairs N --seed S``."""

from bundle.commands.main import script

if __name__ == "__main__":
    script("phantom")
