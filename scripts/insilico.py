"""Labelled brightfield images made in silico: ``python -m scripts.insilico --input TILES --labels LABELS …``."""

from bundle.commands.main import script

if __name__ == "__main__":
    script("insilico")
