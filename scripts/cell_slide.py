"""Make a whole slide of synthetic cells: ``python -m scripts.cell_slide --output FILE.tif --stain he``."""

from bundle.commands.main import script

if __name__ == "__main__":
    script("cell_slide")
