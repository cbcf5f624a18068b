"""Slides to cut into tiles, and the command that cuts them."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from bundle.common.errors import InputError
from bundle.images.slides import read_slide
from bundle.preparation.tiles.command import tile as tile_slides

HALF = {"resolution": (20000, 20000), "resolutionunit": 3}  # 0.5 µm
NAMES = {"source_name": "H&E", "target_name": "Ki-67"}


def stained(height=96, width=128, seed=0):
    """Noise dark enough to be tissue everywhere, (H, W, 3)."""
    return np.random.default_rng(seed).integers(0, 180, (height, width, 3), dtype=np.uint8)


def write(path: Path, pixels, **options):
    path.parent.mkdir(exist_ok=True, parents=True)
    if path.suffix == ".png":
        Image.fromarray(pixels).save(path, **options)
    else:
        tifffile.imwrite(path, pixels, **{"photometric": "rgb", **HALF, **options})
    return path


@pytest.fixture
def slides(tmp_path):
    """Two slides of each stain, all tissue."""
    for number in (1, 2):
        write(tmp_path / f"he/s{number}.tif", stained(seed=number))
        write(tmp_path / f"ki67/s{number}.tif", stained(seed=number + 10))
    return tmp_path


def cut(folder: Path, output="tiles", **options):
    """Run the command on he/ and ki67/; the datalist, the table, and what was printed."""
    given = {"source": f"{folder}/he/*", "target": f"{folder}/ki67/*", "tile": 32, "overlap": 16, **NAMES, **options}
    told = tile_slides(output=str(folder / output), **given)
    listed = json.loads((folder / output / "datalist.json").read_text())
    with (folder / output / "tiles.csv").open() as file:
        return listed, list(csv.DictReader(file)), told


def fault(folder, **options):
    with pytest.raises(InputError) as error:
        cut(folder, **options)
    assert not (folder / "tiles").exists()
    assert not list(folder.glob(".*partial"))
    return str(error.value)


def pixels_of(folder, row):
    return read_slide(folder / "tiles" / row["file"]).pixels.transpose(1, 2, 0)
