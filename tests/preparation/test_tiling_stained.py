"""Stained whole slides are cut into tiles like any other slides: each tile holds the pixels that were stained there."""

from __future__ import annotations

import numpy as np
import pytest

import bundle.images.stained_slides.dicom
import bundle.images.stained_slides.tiff  # noqa: F401  these make formats known
from bundle.images.stained_slides.formats import Packing
from tests.helpers.stained_slides import far, level_of, pyramid_of, written
from tests.helpers.tiling import cut, pixels_of, stained, write

SHAPE = (700, 1104)
WRITTEN = {
    "s1.ome.tif": ("ome-tiff", Packing("lossless")),
    "s1.tif": ("tiff-flat", Packing("lossless")),
    "s1": ("dicom", Packing("lossless")),
    "s1-jpeg.ome.tif": ("ome-tiff", Packing("jpeg", 95)),
}


@pytest.mark.parametrize("name", WRITTEN)
@pytest.mark.parametrize("coarser", [1, 2])
def test_a_stained_slide_is_cut_into_tiles(tmp_path, name, coarser):
    blocks = np.random.default_rng(0).integers(0, 180, (44, 69, 3), dtype=np.uint8)
    planted = np.kron(blocks, np.ones((16, 16, 1), np.uint8))[: SHAPE[0], : SHAPE[1]]  # no two are alike
    pyramid, _ = pyramid_of(tmp_path / "p", "rgb", planted, shape=SHAPE, pixel_um=0.5)
    file_format, packing = WRITTEN[name]
    (tmp_path / "he").mkdir()
    path = written(tmp_path / "he" / name, file_format, pyramid, packing)
    source = path / "level-0.dcm" if file_format == "dicom" else path
    write(tmp_path / "ki67/s1.tif", stained(512, 512))
    size = 128
    _, rows, _ = cut(tmp_path, source=str(source), tile=size, overlap=0, tile_um=0.5 * coarser)
    rows = [row for row in rows if row["file"].startswith("source")]
    assert len(rows) >= (SHAPE[0] // coarser // size) * (SHAPE[1] // coarser // size)
    level = level_of(pyramid, coarser - 1)
    slack = 4 if packing.compression == "jpeg" else 0
    for row in rows:
        top, left = (int(row[side]) // coarser for side in ("top", "left"))  # the table has the slide's own pixels
        assert far(pixels_of(tmp_path, row), level[top : top + size, left : left + size]) <= slack
