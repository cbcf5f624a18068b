"""A scan as a CT series, for trying things out: ``python -m scripts.series --input SCAN --output DIR``."""

from bundle.common.command_line import command
from bundle.hospital.objects.ct_command import series

if __name__ == "__main__":
    command(series)
