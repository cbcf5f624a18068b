"""Bone and background of a new scan: ``python -m scripts.intensities --input SCAN``."""

from bundle.commands import command
from bundle.preparation.intensities import intensities

if __name__ == "__main__":
    command(intensities)
