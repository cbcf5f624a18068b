"""Versions of a dataset for studies: ``python -m scripts.versions --dataset_dir D --output V …``."""

from bundle.commands import command
from bundle.versions import write_versions

if __name__ == "__main__":
    command(write_versions)
