"""Labelled brightfield images made in silico: ``python -m scripts.insilico --input TILES --labels LABELS …``."""

from bundle.commands import command
from bundle.insilico.command import insilico

if __name__ == "__main__":
    command(insilico)
