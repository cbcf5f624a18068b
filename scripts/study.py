"""Compare methods on one dataset: ``python -m scripts.study --dataset_dir D --output_dir STUDY --methods "[…]"``."""

from bundle.common.command_line import command
from bundle.studies.command import study

if __name__ == "__main__":
    command(study)
