"""Boxes of a slide of any kind through the one door: the planted pattern, and what reading it from the top gives."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile
from wsidicom import WsiDicom

import bundle.images.stained_slides.dicom
import bundle.images.stained_slides.tiff  # noqa: F401  these make formats known
from bundle.images.channel_slides import facts_of, opened
from bundle.images.slide_boxes import SlideBoxes
from bundle.images.turning import turned
from tests.helpers.stained_slides import pattern, pyramid_of, written
from tests.helpers.whole_slides import WRITERS, pyramid, shrunk

SHAPE = (301, 442)  # of turned ones: odd, and not square
RATIOS = (1, 2, 1.37)
BOXES = ((slice(0, 60), slice(0, 90)), (slice(37, 141), slice(55, 200)), (slice(100, 101), slice(3, 4)))
NEAR = 1e-3  # grey levels: of sums in 32 bits


def averaged(pixels, ratio):
    """Means over boxes of ``ratio`` px, by integrals along one axis after the other: no matrix of weights."""
    for axis in (0, 1):
        moved = np.moveaxis(pixels.astype(np.float64), axis, 0)
        integral = np.concatenate([np.zeros((1, *moved.shape[1:])), np.cumsum(moved, axis=0)])
        count = int(np.floor(len(moved) / ratio + 0.5))
        edges = np.minimum(np.arange(count + 1) * ratio, len(moved))
        low = np.minimum(np.floor(edges).astype(int), len(moved) - 1)
        at = integral[low] + (edges - low)[:, None, None] * moved[low]
        sums = np.diff(at, axis=0) / np.diff(edges)[:, None, None]
        pixels = np.moveaxis(sums, 0, axis)
    return pixels


def check(path, planted, half=None):
    """At each ratio: the size, boxes, all of it, and the same from top to bottom.

    Args:
        path: the slide.
        planted: its pixels, (h, w, C).
        half: its level of twice the pixel, if it has one, (h, w, C).
    """
    facts = facts_of(path)
    assert facts.shape == planted.shape[:2]
    for ratio in RATIOS:
        wanted = planted if ratio == 1 else averaged(planted, ratio)
        if ratio == 2 and half is not None:
            wanted = half[: wanted.shape[0], : wanted.shape[1]]  # an odd end is half covered, as the level has it
        with opened(facts, ratio, None) as scan:
            boxes, rows = SlideBoxes(scan), np.concatenate(list(scan.rows()))
            assert boxes.size == wanted.shape[:2] == rows.shape[:2]
            whole = boxes.read(*(slice(0, side) for side in boxes.size))
            assert whole.dtype == rows.dtype
            np.testing.assert_allclose(whole, rows, rtol=1e-6, atol=NEAR)
            slack = NEAR if planted.dtype == np.uint8 else NEAR * 257
            np.testing.assert_allclose(whole, wanted, rtol=0, atol=slack)
            for box in BOXES:
                assert np.array_equal(boxes.read(*box), whole[box]) or ratio == 1.37
                np.testing.assert_allclose(boxes.read(*box), wanted[box], rtol=0, atol=slack)


@pytest.mark.parametrize("name", WRITERS)
def test_every_kind_of_slide(tmp_path, name):
    planted = pattern("|u1", 3, (480, 640))
    WRITERS[name](tmp_path / name, planted)
    has_half = "pyramid" in name or "pages" in name or "subifd" in name or "aperio" in name
    check(tmp_path / name, planted, shrunk(planted, 2) if has_half else None)


def test_channels(tmp_path):
    planted = pattern("<u2", 5, (480, 640))
    options = {"photometric": "minisblack", "tile": (64, 64), "metadata": {"axes": "CYX"}}
    tifffile.imwrite(tmp_path / "theirs.ome.tif", np.moveaxis(planted, -1, 0), **options)
    check(tmp_path / "theirs.ome.tif", planted)
    made, _ = pyramid_of(tmp_path / "p", "five", planted, shape=(480, 640))
    check(written(tmp_path / "ours.ome.tif", "ome-tiff", made), planted, made.read(1, slice(0, 240), slice(0, 320)))


@pytest.mark.parametrize("file_format", ["dicom", "tiff-flat", "ome-tiff"])
def test_what_we_write(tmp_path, file_format):
    shape = (700, 1104) if file_format == "dicom" else (701, 1102)
    planted = pattern("|u1", 3, shape)
    made, _ = pyramid_of(tmp_path / "p", "rgb", planted, shape=shape)
    path = written(tmp_path / "s.tif", file_format, made)
    half = made.read(1, *(slice(0, side) for side in made.spec.levels[1]))
    check(path / "level-0.dcm" if file_format == "dicom" else path, planted, half)


def test_a_dicom_slide_that_wsidicom_wrote(tmp_path):
    planted = pattern("|u1", 3, (700, 1104))
    made, _ = pyramid_of(tmp_path / "p", "rgb", planted, shape=(700, 1104))
    with WsiDicom.open(written(tmp_path / "ours", "dicom", made)) as slide:
        files = slide.save(tmp_path / "theirs")
    assert len(files) == 3
    half = made.read(1, slice(0, 350), slice(0, 552))
    for file in files:  # whichever is named, all of the slide is meant
        check(Path(str(file)), planted, half)


def test_openslide_places_boxes_of_a_level_to_half_a_pixel_of_the_finest(tmp_path):
    """As docs/slides.md says, where a level is no whole number of times coarser: a box is shifted by less than that."""
    planted = np.random.default_rng(0).integers(0, 256, (701, 1102, 3), dtype=np.uint8)
    made, _ = pyramid_of(tmp_path / "p", "rgb", planted)
    path = written(tmp_path / "s.dicom", "dicom", made) / "level-0.dcm"
    level = made.read(1, slice(0, 351), slice(0, 551)).astype(float)
    with opened(facts_of(path), 2, None) as scan:
        boxes = SlideBoxes(scan)
        assert np.array_equal(boxes.read(slice(0, 60), slice(0, 90)), level[:60, :90])
        for down, across in BOXES[1:]:
            around = [level[down.start + y : down.stop + y, across.start + x : across.stop + x]
                      for y in (-1, 0, 1) for x in (-1, 0, 1)]  # fmt: skip
            found = boxes.read(down, across)
            assert (found >= np.min(around, 0) - 1).all()
            assert (found <= np.max(around, 0) + 1).all()
            assert np.abs(found - around[4]).mean() < np.abs(around[3] - around[4]).mean() / 2


@pytest.mark.parametrize("levels", [False, True], ids=["one", "pyramid"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_orientation(tmp_path, orientation, levels):
    stored, path = pattern("|u1", 3, SHAPE), tmp_path / "turned.tif"
    planted = turned(stored, orientation)
    tag = [(274, 3, 1, orientation, False)]
    options = {"extratags": tag, "photometric": "rgb", "tile": (64, 64)}
    if levels:
        stored = pattern("|u1", 3, (304, 440))
        planted = turned(stored, orientation)
        pyramid(path, stored, "subifd", extratags=tag)
        check(path, planted, turned(shrunk(stored, 2), orientation))
    else:
        tifffile.imwrite(path, stored, **options)
        check(path, planted)


def test_the_orientations_are_those_of_the_tiff_6_document():
    """Its table: which visual side the 0th row and the 0th column of the stored image are."""
    sides = {1: "top left", 2: "top right", 3: "bottom right", 4: "bottom left"}
    sides |= {5: "left top", 6: "right top", 7: "right bottom", 8: "left bottom"}
    stored = np.zeros((3, 5), int)
    stored[0] += 1  # the 0th row
    stored[:, 0] += 2  # the 0th column
    for orientation, words in sides.items():
        seen = turned(stored, orientation)
        edges = {"top": seen[0], "bottom": seen[-1], "left": seen[:, 0], "right": seen[:, -1]}
        row, column = words.split()
        assert (edges[row] & 1).all()
        assert (edges[column] & 2).all()
