"""The model that comes with the package: it stains phantoms, and calls every real scan unlike its training."""

from __future__ import annotations

import json

import numpy as np
import pytest
import tifffile

from bundle.common.home import PRETRAINED
from bundle.common.verdicts import LIKE, UNLIKE
from bundle.images.slides import read_slide
from bundle.preparation.phantom.dataset import make_dataset
from bundle.staining.model import load_model

LARGEST = 500_000  # bytes of a file in the repository
BACKGROUND, BONE = 10000, 30000  # of phantoms


@pytest.fixture(scope="module")
def model():
    return load_model(PRETRAINED)


@pytest.fixture(scope="module")
def phantoms(tmp_path_factory):
    """Pairs of another seed than its training's."""
    folder = tmp_path_factory.mktemp("phantoms") / "data"
    make_dataset(str(folder), pairs=2, seed=7, material="Mg", volumes=False)
    return folder


def scaled(pixels, low, high):
    """Grey values with the means of background and bone, here percentiles, where a phantom's are."""
    low, high = np.percentile(pixels, [low, high])
    return np.clip((pixels.astype(np.float32) - low) / (high - low) * (BONE - BACKGROUND) + BACKGROUND, 0, 65535)[None]


def real_scans(shared):
    yield from (
        (f"rat_jaw/{part}", scaled(read_slide(shared / f"data/rat_jaw/{part}/microct.png").pixels[0], 20, 95))
        for part in ("train", "validation")
    )
    yield "implant", scaled(tifffile.imread(shared / "data/implant_slice/implant.tiff"), 30, 85)
    volume = tifffile.imread(shared / "data/trabecular_bone/volume.tif")
    yield from ((f"trabecular {z}", scaled(volume[z], 30, 97)) for z in (40, 100, 160))


def test_every_real_scan_is_unlike(model, shared):
    said = {name: model.judged(pixels)[2].word for name, pixels in real_scans(shared)}
    assert set(said.values()) == {UNLIKE}, said


def test_phantoms_are_like_and_their_stain_beats_one_colour(model, phantoms):
    for number in ("01", "02"):
        source = read_slide(phantoms / "ct" / f"{number}.png").pixels.astype(np.float32)
        target = read_slide(phantoms / "stain" / f"{number}.png").pixels.astype(float)
        stain, error, verdict = model.judged(source)
        assert verdict.word == LIKE
        inside = read_slide(phantoms / "mask" / f"{number}.png").pixels[0] > 0
        away = np.abs(stain - target)[:, inside].mean()
        one_colour = np.abs(np.median(target[:, inside], axis=1, keepdims=True) - target[:, inside]).mean()
        assert away < 0.8 * one_colour
        assert np.isfinite(error).all()


def test_it_is_marked_and_small():
    metadata = json.loads((PRETRAINED / "configs/metadata.json").read_text())
    assert "phantom" in metadata["description"]
    card = (PRETRAINED / "docs/README.md").read_text()
    assert "not for data" in card
    assert "make pretrained" in card
    assert max(path.stat().st_size for path in PRETRAINED.rglob("*") if path.is_file()) <= LARGEST
