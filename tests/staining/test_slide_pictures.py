"""Pictures of slides, stains and errors, held against averages and colours worked out by hand."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image
from skimage.transform import downscale_local_mean

from bundle.images.channel_slides import facts_of, opened
from bundle.staining.whole_slides import pictures
from bundle.staining.whole_slides.pictures import PERIOD, as_picture, error_png, source_pictures

NOISE = np.random.default_rng(0)


@pytest.mark.parametrize("most", [2**24, 500])
def test_a_slide_is_averaged_whatever_is_read_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, most: int
) -> None:
    slide = NOISE.integers(0, 256, (123, 170, 3), np.uint8)
    tifffile.imwrite(tmp_path / "a.tif", slide, photometric="rgb")
    monkeypatch.setattr(pictures, "MOST_STORED", most)
    facts = facts_of(tmp_path / "a.tif")
    with opened(facts, 1.0, None) as scan:
        read = source_pictures(facts, scan)
        assert (read(0, slice(10, 50), slice(20, 100)) == slide[10:50, 20:100]).all()
        mean = downscale_local_mean(slide[:120, :168].astype(float), (4, 4, 1))
        assert np.abs(read(2, slice(0, 30), slice(0, 42)) - mean).max() <= 0.51
        # 42.5 columns: the stain's level has 43; 30.75 rows make 31, the last of them averaged over what is there
        whole = read(2, slice(0, 31), slice(0, 43))
        assert whole.shape == (31, 43, 3)
        assert np.abs(whole[:30, :42] - mean).max() <= 0.51
        last = slide[120:123, :4].astype(float).mean((0, 1))
        assert np.abs(whole[30, 0] - last).max() <= 0.51


def test_channels_are_lit_in_their_colours() -> None:
    box = np.array([[[100, 300], [200, 0], [50, 400]]], np.uint16)
    found = as_picture(box, False, ("FF0000", "00FF80"), (100, 300))
    assert found.tolist() == [[[0, 255, 128], [128, 0, 0], [0, 255, 128]]]
    assert as_picture(box[..., :1], False, ("FFFFFF",), (100, 300)).tolist() == [[[0] * 3, [128] * 3, [0] * 3]]


def test_colour_of_16_bits_is_shown_over_its_range(tmp_path: Path) -> None:
    slide = np.array([[[0, 65535, 257 * 7], [257, 514, 32768]]], np.uint16).repeat(8, 0).repeat(8, 1)
    tifffile.imwrite(tmp_path / "a.tif", slide, photometric="rgb")
    facts = facts_of(tmp_path / "a.tif")
    with opened(facts, 1.0, None) as scan:
        found = source_pictures(facts, scan)(0, slice(0, 8), slice(0, 16))
    assert found[0, 0].tolist() == [0, 255, 7]
    assert found[0, 8].tolist() == [1, 2, 128]


def test_channels_need_their_range_said(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((20, 20), np.uint16), photometric="minisblack")
    facts = facts_of(tmp_path / "a.tif")
    with opened(facts, 1.0, None) as scan, pytest.raises(ValueError, match="say which values are shown"):
        source_pictures(facts, scan)


def test_error_is_dark_where_little_is_expected_hatched_where_unknown_clear_where_nothing_is_stained() -> None:
    error = np.zeros((4 * PERIOD, 4 * PERIOD), np.float32)
    error[:PERIOD] = 64
    error[PERIOD : 2 * PERIOD] = 200  # more than is shown
    error[2 * PERIOD :, : 2 * PERIOD] = np.nan
    stained = np.ones(error.shape, bool)
    stained[3 * PERIOD :] = False
    found = np.asarray(Image.open(io.BytesIO(error_png(error, stained, 64))).convert("RGBA")).astype(int)
    assert found[0, 0].sum() > 600  # magma's brightest
    assert (found[0, 0] == found[PERIOD, 0]).all()
    assert found[-1, -1].tolist()[:3] == pytest.approx([0, 0, 4], abs=1)  # magma's darkest
    assert (found[..., 3] == 255)[: 2 * PERIOD].all()
    hatched = found[2 * PERIOD : 3 * PERIOD, : 2 * PERIOD, 3] == 255
    assert 0.1 < hatched.mean() < 0.3
    assert (found[3 * PERIOD :, : 2 * PERIOD, 3] == 0).all()
