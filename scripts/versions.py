"""Versions of a dataset for studies: ``python -m scripts.versions --dataset_dir D --output V …``."""

from bundle.common.command_line import command
from bundle.preparation.dataset_variants import write_versions

if __name__ == "__main__":
    command(write_versions)
