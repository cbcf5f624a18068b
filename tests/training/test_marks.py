"""Marks that masks hide are found and said; tissue, glass and noise are no marks."""

from __future__ import annotations

import json
from types import SimpleNamespace

import numpy as np
import pytest
from monai.bundle import ConfigParser

from bundle.data.datalist import Modality
from bundle.data.load import load_datalist
from bundle.data.patches import load_pair
from bundle.images.slides import read_slide, write_slide
from bundle.training.marks import LEAST_HIDDEN, LEAST_OF_ALL, foreign_colours, warn_of_marks
from tests.conftest import ROOT, TINY, make_dataset

SOURCE, TARGET = Modality("µCT", 1, 0, 65535), Modality("H&E", 3, 0, 255)
PEN = (30, 140, 60)


def pair(size: int = 128, seed: int = 0) -> dict[str, np.ndarray]:
    """Noisy tissue whose colour its grey determines, a mask that leaves out a strip of it."""
    rng = np.random.default_rng(seed)
    grey = np.clip(rng.normal(0.5, 0.1, (1, size, size)), 0.2, 0.8)
    stain = np.concatenate([250 - 60 * grey, 240 - 160 * grey, 250 - 90 * grey]) + rng.normal(0, 4, (3, size, size))
    mask = np.ones((1, size, size), bool)
    mask[..., : size // 8] = False
    return {
        "source": (grey * 65535).astype(np.uint16),
        "target": np.clip(stain, 0, 255).astype(np.uint8),
        "mask": mask,
    }


def marked(rows: int = 16) -> dict[str, np.ndarray]:
    """The same with pen on the strip: it hides tissue, so the scan shows nothing of it."""
    images = pair()
    images["target"][:, :rows, :16] = np.array(PEN)[:, None, None]
    return images


def test_pen_outside_the_masks_is_counted():
    hidden, of_all = foreign_colours([marked(16)], SOURCE, TARGET)
    assert hidden == pytest.approx(16 / 128, abs=0.002)  # planted: 16 of the strip's 128 rows
    assert of_all == pytest.approx(16 * 16 / 128**2, abs=0.0005)


def test_pen_that_is_inside_the_masks_too_is_taken_for_what_is_learned():
    images = marked(16)
    images["target"][:, 40:56, 40:56] = np.array(PEN)[:, None, None]
    assert foreign_colours([images], SOURCE, TARGET)[0] < 0.002


def test_tissue_glass_and_noise_outside_the_masks_are_no_marks():
    glass = pair()
    glass["source"][..., :16], glass["target"][..., :16] = 1000, 253  # which the scan shows as air
    for images in (pair(), glass):
        hidden, of_all = foreign_colours([images], SOURCE, TARGET)
        assert hidden < LEAST_HIDDEN / 10
        assert of_all < LEAST_OF_ALL


def test_sources_of_many_channels_count_by_their_mean():
    images = marked(16)
    one = foreign_colours([images], SOURCE, TARGET)
    images["source"] = images["source"].repeat(12, 0)
    assert foreign_colours([images], Modality("slices", 12, 0, 65535), TARGET) == one


@pytest.mark.parametrize("all_of_it", [True, False])
def test_masks_that_hide_nothing_or_everything(all_of_it):
    images = marked()
    images["mask"][:] = all_of_it
    assert foreign_colours([images], SOURCE, TARGET) == (0.0, 0.0)


def test_grey_targets_and_large_slides(monkeypatch):
    images = marked(64)
    images["target"] = images["target"][:1]
    grey = Modality("stain", 1, 0, 255)
    whole = foreign_colours([images], SOURCE, grey)
    monkeypatch.setattr("bundle.training.marks.ENOUGH", 64 * 64)
    thinned = foreign_colours([images], SOURCE, grey)
    assert whole == pytest.approx(thinned, abs=0.02)
    assert whole[0] == pytest.approx(0.5, abs=0.01)


@pytest.mark.parametrize(
    ("images", "discriminator", "paired", "said"),
    [(marked(32), False, True, True), (marked(32), True, True, False), (marked(32), False, False, False)]
    + [(pair(), False, True, False)],
)
def test_it_is_said_once_with_the_id(images, discriminator, paired, said, caplog):
    data = SimpleNamespace(paired=paired, source=SOURCE, target=TARGET)
    warn_of_marks(data, SimpleNamespace(images=[images]), discriminator)
    assert [record.getMessage() for record in caplog.records] == said * [
        "25 % of what the masks hide in the training targets (3.1 % of all pixels) has colours that are not found "
        "inside them; the discriminators see it and the stain may come out with it. If these are marks, labels or pen, "
        "pass --mask_discriminator true."
    ]


@pytest.mark.parametrize("marks", [True, False])
def test_a_training_looks_before_it_begins(tmp_path, marks, caplog):
    data = make_dataset(tmp_path / "data")
    if marks:
        stain = read_slide(data / "target/00.png").pixels
        stain[:, :20, :40] = np.array(PEN)[:, None, None]
        write_slide(data / "target/00.png", stain)
    parser = ConfigParser()
    parser.read_config(str(ROOT / "configs/train.json"))
    parser.update({"dataset_dir": str(data), "output_dir": str(tmp_path / "run"), "device": "cpu", **TINY})
    steps = json.loads((ROOT / "configs/train.json").read_text())["training"]
    (place,) = [
        number for number, step in enumerate(steps) if "bundle.training.marks.warn_of_marks" in json.dumps(step)
    ]
    assert place < steps.index("$@train#trainer.run()")
    parser.get_parsed_content(f"training#{place}")
    assert ("--mask_discriminator true" in caplog.text) is marks


def test_the_rat_jaw_has_marks(shared):
    data = load_datalist(str(shared / "data/rat_jaw"))
    hidden, of_all = foreign_colours(map(load_pair, data.training), data.source, data.target)
    assert hidden > 2 * LEAST_HIDDEN
    assert of_all > 2 * LEAST_OF_ALL
