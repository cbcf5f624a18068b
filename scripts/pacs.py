"""A stained series in the study of its scan: ``python -m scripts.pacs find|stain|watch --pacs ADDRESS …``."""

from bundle.commands.main import script

if __name__ == "__main__":
    script("pacs")
