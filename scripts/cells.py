"""Make tiles of synthetic cells, IHC and fluorescence: ``python -m scripts.cells --output DIR --tiles N --seed S``."""

from bundle.commands.main import script

if __name__ == "__main__":
    script("cells")
