"""Stained slides in Bio-Formats, which reads for QuPath, Fiji and OMERO: the planted pattern, in numbers."""

from __future__ import annotations

import numpy as np
import pytest

import bundle.images.stained_slides.dicom
import bundle.images.stained_slides.tiff  # noqa: F401  these make formats known
from bundle.images.stained_slides.formats import Packing
from tests.helpers.bioformats import look, pixels
from tests.helpers.stained_slides import KINDS, LEVELS, NAMES, PIXEL_UM, far, pyramid_of, written

pytestmark = pytest.mark.slow  # each starts Java
JPEG = Packing("jpeg", 95)
SLACK = 2.5  # grey levels on the mean, about an edge of a mark as JPEG
WIDTHS = [width for _, width in LEVELS]


def check_pixels(path, work, pyramid, levels, slack=0.0):
    """The lower left corner, over the edges of its mark and to the last row."""
    for level in levels:
        height = LEVELS[level][0]
        box = slice(height - (64 >> level), height), slice(20 >> level, 151 >> level)
        found = pixels(path, work, level, box)
        assert far(found, pyramid.read(level, *box)) <= slack


def check_size(seen):
    (size,) = seen.all("Pixels")
    unit = {"µm": 1, "mm": 1000}[size.get("PhysicalSizeXUnit")]
    assert [float(size.get(f"PhysicalSize{axis}")) * unit for axis in "XY"] == pytest.approx([PIXEL_UM] * 2, rel=1e-6)
    assert size.get("PhysicalSizeYUnit") == size.get("PhysicalSizeXUnit")


@pytest.mark.parametrize("kind", KINDS)
def test_it_reads_all_levels_of_an_ome_tiff(tmp_path, kind):
    pyramid, _ = pyramid_of(tmp_path / "p", kind)
    path = written(tmp_path / "stained.ome.tif", "ome-tiff", pyramid)
    seen = look(path)
    assert (seen.reader, seen.shape, seen.widths) == ("OME-TIFF", LEVELS[0], WIDTHS)
    assert seen.image.get("Name") == "stained µ"
    check_size(seen)
    (size,) = seen.all("Pixels")
    assert size.get("Type") == {"<f4": "float"}.get(KINDS[kind][0], pyramid.spec.kind.name)
    assert seen.all("Description")[0].text.startswith("SYNTHETIC. ")
    if kind != "rgb":
        assert [each.get("Name") for each in seen.all("Channel")] == list(NAMES[: pyramid.spec.channels])
        found = [int(each.get("Color")).to_bytes(4, "big", signed=True)[:3] for each in seen.all("Channel")]  # RGBA
        assert found == [bytes.fromhex(colour) for colour in pyramid.spec.colours]
    if kind != "map":  # of which nothing is known there
        check_pixels(path, tmp_path, pyramid, (0, 2))


def test_nothing_known_stays_so(tmp_path):
    pyramid, _ = pyramid_of(tmp_path / "p", "map")
    path = written(tmp_path / "stained.ome.tif", "ome-tiff", pyramid)
    box = (slice(600, 701), slice(0, 50))
    found = pixels(path, tmp_path, 0, box)
    assert np.isnan(found).any()
    assert np.array_equal(found, pyramid.read(0, *box), equal_nan=True)


def test_it_reads_jpeg(tmp_path):
    pyramid, _ = pyramid_of(tmp_path / "p", "rgb")
    path = written(tmp_path / "stained.ome.tif", "ome-tiff", pyramid, JPEG)
    assert look(path).widths == WIDTHS
    check_pixels(path, tmp_path, pyramid, (0, 1), SLACK)


def test_of_a_flat_pyramid_it_reads_the_finest_level(tmp_path):
    """As the page says; if it learns to read more, the page is to be mended."""
    pyramid, _ = pyramid_of(tmp_path / "p", "rgb")
    path = written(tmp_path / "stained.tif", "tiff-flat", pyramid)
    seen = look(path)
    assert (seen.reader, seen.shape, seen.widths) == ("Tagged Image File Format", LEVELS[0], WIDTHS[:1])
    check_size(seen)
    check_pixels(path, tmp_path, pyramid, (0,))


@pytest.mark.parametrize(("packing", "slack"), [(Packing("lossless"), 0.0), (JPEG, SLACK)], ids=["lossless", "jpeg"])
def test_it_reads_all_levels_of_a_dicom_slide(tmp_path, packing, slack):
    pyramid, _ = pyramid_of(tmp_path / "p", "rgb")
    path = written(tmp_path / "stained.dicom", "dicom", pyramid, packing) / "level-0.dcm"
    seen = look(path)
    assert (seen.reader, seen.shape, seen.widths) == ("DICOM", LEVELS[0], WIDTHS)
    assert "Series Description: SYNTHETIC virtual stain - research only" in seen.text
    check_size(seen)
    check_pixels(path, tmp_path, pyramid, (0, 2), slack)
