"""A trained bundle as one zip for MONAI's model zoo: ``python -m scripts.export --help``."""

from bundle.commands import command
from bundle.export import export

if __name__ == "__main__":
    command(export)
