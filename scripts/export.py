"""A trained bundle for MONAI's model zoo or a hub: ``python -m scripts.export --help``."""

from bundle.commands.main import script

if __name__ == "__main__":
    script("export")
