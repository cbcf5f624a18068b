"""Repeat a run from its record: ``python -m scripts.repeat --provenance RUN/provenance.json --output_dir NEW``."""

from bundle.commands.main import script

if __name__ == "__main__":
    script("repeat")
