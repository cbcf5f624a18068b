"""A trained bundle for MONAI's model zoo or a hub: ``python -m scripts.export --help``."""

from bundle.common.command_line import command
from bundle.training.export import export

if __name__ == "__main__":
    command(export)
