"""Labelled brightfield images made in silico: ``python -m scripts.insilico --input TILES --labels LABELS …``."""

from bundle.common.command_line import command
from bundle.nuclei.insilico.command import insilico

if __name__ == "__main__":
    command(insilico)
