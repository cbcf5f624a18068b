"""Resolution of images by Fourier ring correlation: ``python -m scripts.resolution IMAGE …``."""

from bundle.common.command_line import command
from bundle.evaluation.resolution_command import resolution

if __name__ == "__main__":
    command(resolution)
