"""A scan as a CT series, for trying things out: ``python -m scripts.series --input SCAN --output DIR``."""

from bundle.commands.main import script

if __name__ == "__main__":
    script("series")
