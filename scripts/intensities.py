"""Bone and background of a new scan: ``python -m scripts.intensities --input SCAN``."""

from bundle.commands.main import script

if __name__ == "__main__":
    script("intensities")
