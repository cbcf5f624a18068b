"""A stained series in the study of its scan: ``python -m scripts.pacs find|stain|watch --pacs ADDRESS …``."""

from bundle.common.command_line import commands
from bundle.hospital.pacs.commands import find, stain, watch

if __name__ == "__main__":
    commands({"find": find, "stain": stain, "watch": watch})
