"""Repeat a run from its record: ``python -m scripts.repeat --provenance RUN/provenance.json --output_dir NEW``."""

from bundle.common.command_line import command
from bundle.studies.repeating import repeat

if __name__ == "__main__":
    command(repeat)
