"""A slide stained in blocks is the image that ``inference.json`` makes of it whole."""

from __future__ import annotations

import json

import numpy as np
import pytest
import tifffile
import zarr

from bundle.common.errors import InputError
from bundle.images.slides import read_slide
from bundle.staining.model import load_model
from bundle.staining.whole_slides.source import AROUND
from tests.helpers.firm import make_firm
from tests.helpers.slide_staining import (
    HE,
    IF,
    KI67,
    make_bundle,
    record_of,
    stain_slide,
    tissue,
    whole,
    write_slide,
)
from tests.helpers.tiling import cut, write
from tests.helpers.volumes import make_voxels, stain


@pytest.fixture(scope="module")
def he(tmp_path_factory):
    return make_bundle(tmp_path_factory.mktemp("he") / "bundle", HE, KI67)


@pytest.fixture(scope="module")
def if_(tmp_path_factory):
    return make_bundle(tmp_path_factory.mktemp("if") / "bundle", HE, IF)


def fault(bundle, slide, tmp_path, **ids):
    with pytest.raises(InputError) as error:
        stain_slide(bundle, slide, tmp_path / "out", **ids)
    assert not list((tmp_path / "out").glob("stained*"))
    return str(error.value)


@pytest.mark.parametrize(
    "ids",
    [
        {},
        {"step": None},
        {"step": 24, "window": 72},
        {"normalisation": "dense", "step": 48},
    ],
)
def test_blocks_are_parts_of_the_whole(he, tmp_path, small_blocks, ids):
    pixels = tissue()
    made = stain_slide(he, write_slide(tmp_path / "a.tif", pixels), tmp_path / "out", tissue=False, **ids)
    assert np.array_equal(whole(made), load_model(he, **ids)(pixels.transpose(2, 0, 1)).transpose(1, 2, 0))
    told = record_of(tmp_path / "out")
    assert told["stain_shape"] == [200, 300]
    assert told["spent"]["tissue_px"] == 200 * 300


@pytest.mark.parametrize("ids", [{}, {"normalisation": "dense"}])
def test_glass_is_left_out_and_tissue_is_the_same(he, tmp_path, small_blocks, ids):
    pixels = tissue(200, 500, 130, 190)
    made = whole(stain_slide(he, write_slide(tmp_path / "a.tif", pixels), tmp_path / "out", **ids))
    expected = load_model(he, **ids)(pixels.transpose(2, 0, 1)).transpose(1, 2, 0)
    near = 8 * AROUND
    assert np.array_equal(made[30:180, 130:310], expected[30:180, 130:310])
    assert (made[:, : 130 - near - 8] == 255).all()
    assert (made[:, 310 + near + 8 :] == 255).all()
    told = record_of(tmp_path / "out")
    assert told["spent"]["windows_skipped"] > 0
    assert 150 * 180 <= told["spent"]["tissue_px"] <= 200 * (180 + 2 * near + 16)


def test_windows_between_blocks_of_a_strip_are_computed_once(he, tmp_path, small_blocks):
    stain_slide(he, write_slide(tmp_path / "a.tif", tissue(128, 384)), tmp_path / "out", tissue=False)
    assert record_of(tmp_path / "out")["spent"]["windows"] == 3 * 11  # one row of blocks: as in one pass over all


def test_specimen_and_grey(trained, tmp_path, small_blocks):
    bundle = make_firm(trained / "bundle", tmp_path / "firm")
    pixels = np.concatenate([make_voxels((1, 300, 200), seed=seed)[0] for seed in (0, 1)], axis=1)
    pixel_um = json.loads((bundle / "configs" / "metadata.json").read_text())["pixel_um"]
    made = stain_slide(bundle, write_slide(tmp_path / "a.tif", pixels, pixel_um), tmp_path / "out")
    told = record_of(tmp_path / "out")
    assert "tissue" not in told  # a scan's slice is stained whole
    top, left, height, width = told["reference"]["region"]
    assert told["reference"]["distance"] < 3 * told["reference"]["usual"]
    model = load_model(bundle)
    model.inferer._specimen(model.prepared(pixels[None])[None], model.accelerated)
    own = model.inferer._own[1]
    own.settle(own.learn(model.prepared(pixels[None, top : top + height, left : left + width])[None]))
    settled = model.inferer.settled()(model.prepared(pixels[None])[None], own)[0]
    expected = model.postprocessing({"pred": settled})["pred"].numpy().transpose(1, 2, 0)
    assert np.abs(whole(made).astype(int) - expected).max() <= 1


def test_levels_are_means_of_the_finest(he, tmp_path, small_blocks):
    made = stain_slide(he, write_slide(tmp_path / "a.tif", tissue(201, 303)), tmp_path / "out")
    assert made.spec.levels == [(201, 303), (101, 152), (51, 76), (26, 38), (13, 19)]
    for level in range(1, 5):
        finer = whole(made, level - 1).astype(float)
        rows, columns = (size // 2 * 2 for size in finer.shape[:2])
        means = finer[:rows, :columns].reshape(rows // 2, 2, columns // 2, 2, 3).mean((1, 3))
        assert np.abs(whole(made, level)[: rows // 2, : columns // 2] - means).max() <= 0.5
    array = zarr.open_array(str(tmp_path / "out" / "stained.ome.zarr" / "0"), mode="r")
    assert np.array_equal(np.moveaxis(array[:], 0, -1), whole(made))
    assert not list((tmp_path / "out" / "stained.ome.zarr").rglob("*partial*"))


def test_a_slide_of_other_pixels_is_seen_as_its_tiles_were(he, tmp_path, small_blocks):
    fine = tissue().repeat(2, 0).repeat(2, 1).astype(int)
    fine = np.clip(fine + np.random.default_rng(0).integers(-9, 9, fine.shape), 0, 255).astype(np.uint8)
    made = stain_slide(he, write_slide(tmp_path / "a.tif", fine, 0.25), tmp_path / "out", tissue=False)
    assert made.spec.pixel_um == pytest.approx(0.5)
    for folder in ("he", "ki67"):
        write(tmp_path / folder / "s1.tif", fine, resolution=(40000, 40000), tile=(64, 64))
    cut(tmp_path, tile=200, overlap=0, tile_um=0.5, least_tissue=0, source_threshold=-1)
    tile = read_slide(next((tmp_path / "tiles" / "source" / "s1").glob("y00000_x00000*"))).pixels
    expected = load_model(he)(np.concatenate([tile, np.zeros((3, 200, 100))], 2))  # its left part is the slide's
    assert np.array_equal(whole(made)[:, :100], expected.transpose(1, 2, 0)[:, :100])


def test_pixel_sizes(he, tmp_path, small_blocks, capsys):
    pixels = tissue()
    unknown = write_slide(tmp_path / "unknown.tif", pixels, None)
    assert "states no pixel size" in fault(he, unknown, tmp_path)
    assert stain_slide(he, unknown, tmp_path / "given", pixel_um=0.25).spec.shape == (100, 150)
    coarse = write_slide(tmp_path / "coarse.tif", pixels, 1.0)
    assert "coarser than the 0.5 µm" in fault(he, coarse, tmp_path)
    assert stain_slide(he, coarse, tmp_path / "overruled", pixel_um=0.5).spec.shape == (200, 300)
    assert "states pixels of 1 µm; the 0.5 µm given" in capsys.readouterr().out
    near = write_slide(tmp_path / "near.tif", pixels, 0.4975)  # half a percent: its own pixels, as they are
    made = stain_slide(he, near, tmp_path / "near", tissue=False)
    assert made.spec.pixel_um == pytest.approx(0.4975)
    assert np.array_equal(whole(made), load_model(he)(pixels.transpose(2, 0, 1)).transpose(1, 2, 0))
    silent = make_bundle(tmp_path / "silent", HE, KI67, None)
    assert "does not say at which pixel size" in fault(silent, near, tmp_path)


def test_channels_and_back(if_, tmp_path, small_blocks):
    made = stain_slide(if_, write_slide(tmp_path / "a.tif", tissue()), tmp_path / "there")
    assert made.spec.kind == np.uint16
    assert made.spec.channel_names == ("DAPI", "CD3")
    assert (whole(made)[:, :20] == 0).all()  # no light where no tissue is
    channels = np.random.default_rng(0).integers(0, 60, (4, 260, 260)).astype(np.uint16)
    channels[:, 100:180, 90:170] += 3000
    slide = write_slide(tmp_path / "if.tif", channels, planarconfig="separate", metadata={"axes": "CYX"})
    told = fault(if_, slide, tmp_path, direction="reverse")
    assert '--channels "{DAPI: 0, CD3: 1}"' in told
    back = stain_slide(if_, slide, tmp_path / "back", direction="reverse", channels={"CD3": 0, "DAPI": 3})
    assert back.spec.rgb
    expected = load_model(if_, direction="reverse")(channels[[3, 0]]).transpose(1, 2, 0)
    assert np.array_equal(whole(back)[100:180, 90:170], expected[100:180, 90:170])
    assert (whole(back)[0] == 255).all()
    eight = write_slide(tmp_path / "8.tif", (channels // 16)[:2].astype(np.uint8), metadata={"axes": "CYX"})
    assert "is uint8" in fault(if_, eight, tmp_path, direction="reverse")


def test_what_is_wrong_is_said_in_a_line(he, tmp_path, small_blocks):
    good = write_slide(tmp_path / "good.tif", tissue())
    blank = write_slide(tmp_path / "blank.tif", np.full((200, 200, 3), 250, np.uint8))
    assert "has no tissue by its brightfield signal" in fault(he, blank, tmp_path)
    assert stain_slide(he, blank, tmp_path / "all", tissue=False).spec.shape == (200, 200)
    assert "does not exist" in fault(he, tmp_path / "none.svs", tmp_path)
    assert "is a folder; name one slide" in fault(he, tmp_path, tmp_path)
    (tmp_path / "text.pdf").write_text("no slide")
    assert "is not a slide this program reads" in fault(he, tmp_path / "text.pdf", tmp_path)
    assert "output_format is 'ome-tif'" in fault(he, good, tmp_path, output_format="ome-tif")
    assert "window is None" in fault(he, good, tmp_path, window=None, step=None)
    assert "tissue" in fault(he, good, tmp_path, tissue="nuclei")
    cut_off = tmp_path / "cut.tif"
    cut_off.write_bytes(good.read_bytes()[: good.stat().st_size // 2])
    assert "cut.tif" in fault(he, cut_off, tmp_path)
    grey = write_slide(tmp_path / "grey.tif", tissue()[..., 0])
    assert "has 1 channel(s), but this model takes H&E (3 channel(s)" in fault(he, grey, tmp_path)


def test_another_slide_does_not_go_into_the_same_folder(he, tmp_path, small_blocks):
    first, second = tissue(), tissue()
    second[150, 200] = 7
    stain_slide(he, write_slide(tmp_path / "a.tif", first), tmp_path / "out")
    with pytest.raises(InputError, match="made of other things"):
        stain_slide(he, write_slide(tmp_path / "b.tif", second), tmp_path / "out")
    stain_slide(he, write_slide(tmp_path / "c.tif", first), tmp_path / "out")  # the same slide under another name


def test_a_volume_is_no_slide(he, tmp_path):
    tifffile.imwrite(tmp_path / "v.tif", np.zeros((4, 64, 64), np.uint8), metadata={"axes": "ZYX"})
    with pytest.raises(InputError, match="v.tif"):
        stain(he, tmp_path / "v.tif", tmp_path / "out", "slide.json")
