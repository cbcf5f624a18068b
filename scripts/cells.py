"""Make tiles of synthetic cells, IHC and fluorescence: ``python -m scripts.cells --output DIR --tiles N --seed S``."""

from bundle.common.command_line import command
from bundle.preparation.phantom.cell_dataset import make_cells

if __name__ == "__main__":
    command(make_cells)
