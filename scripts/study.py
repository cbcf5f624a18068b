"""Compare methods on one dataset: ``python -m scripts.study --dataset_dir D --output_dir STUDY --methods "[…]"``."""

from bundle.commands.main import script

if __name__ == "__main__":
    script("study")
