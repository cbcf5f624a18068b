"""A trained bundle as one zip for MONAI's model zoo: ``python -m scripts.export --help``."""

from bundle.commands.main import script

if __name__ == "__main__":
    script("export")
