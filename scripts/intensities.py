"""Bone and background of a new scan: ``python -m scripts.intensities --input SCAN``."""

from bundle.common.command_line import command
from bundle.preparation.pairs.intensities import intensities

if __name__ == "__main__":
    command(intensities)
