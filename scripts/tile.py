"""Cut slides of two stains into tiles: ``python -m scripts.tile --source HE --target KI67 --output DATASET …``."""

from bundle.common.command_line import command
from bundle.preparation.tiles.command import tile

if __name__ == "__main__":
    command(tile)
