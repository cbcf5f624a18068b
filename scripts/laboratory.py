"""Phantom scans and slides that are not registered: ``python -m scripts.laboratory --output RAW --specimens 6``."""

from bundle.commands.main import script

if __name__ == "__main__":
    script("laboratory")
