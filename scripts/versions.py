"""Versions of a dataset for studies: ``python -m scripts.versions --dataset_dir D --output V …``."""

from bundle.commands.main import script

if __name__ == "__main__":
    script("versions")
