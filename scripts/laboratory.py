"""Phantom scans and slides that are not registered: ``python -m scripts.laboratory --output RAW --specimens 6``."""

from bundle.common.command_line import command
from bundle.preparation.phantom.laboratory import make_laboratory

if __name__ == "__main__":
    command(make_laboratory)
