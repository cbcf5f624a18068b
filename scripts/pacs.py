"""A stained series in the study of its scan: ``python -m scripts.pacs find|stain|watch --pacs ADDRESS …``."""

from bundle.commands import commands
from bundle.pacs.commands import find, stain, watch

if __name__ == "__main__":
    commands({"find": find, "stain": stain, "watch": watch})
