"""Make a whole slide of synthetic cells: ``python -m scripts.cell_slide --output FILE.tif --stain he``."""

from bundle.common.command_line import command
from bundle.preparation.phantom.cell_slide import make_cell_slide

if __name__ == "__main__":
    command(make_cell_slide)
