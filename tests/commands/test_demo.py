"""The demonstration: what it makes, in what order, and that nobody takes it for more."""

from __future__ import annotations

import inspect
import re

import numpy as np
import pytest
from PIL import Image

from bundle.commands import demo as module
from bundle.commands.demo import BAND, GAP, MARK, PANELS, ZOOM, demo, side_by_side, write_pictures
from bundle.commands.monai_run import Run
from bundle.common.errors import InputError
from bundle.common.home import PRETRAINED
from bundle.images.slides import write_slide
from bundle.preparation.phantom import dataset as phantom

COLOURS = {"ct": (90, 90, 90), "stained": (200, 0, 0), "stain": (0, 200, 0), "perfect": (0, 0, 200)}


def plain(colour, shape=(6, 8)):
    return np.broadcast_to(np.array(colour, np.uint8)[:, None, None], (3, *shape)).copy()


def test_it_does_not_show_what_the_model_has_learnt_from():
    made_with = re.search(r"seed (\d+)", (PRETRAINED / "docs/README.md").read_text())[1]
    assert inspect.signature(demo).parameters["seed"].default != int(made_with)


def test_panels_stand_in_order_under_their_names():
    images = {name: plain(COLOURS[name]) for name in PANELS} | {"ct": plain(COLOURS["ct"])[:1]}
    sheet = np.asarray(side_by_side(images, MARK))
    width = 8 * ZOOM
    assert sheet.shape == (6 * ZOOM + 2 * BAND, 4 * (width + GAP) - GAP, 3)
    for place, name in enumerate(PANELS):
        left = place * (width + GAP)
        assert (sheet[BAND : BAND + 6 * ZOOM, left : left + width] == COLOURS[name]).all()
    assert (sheet[:BAND] < 128).any()  # the names
    assert (sheet[-BAND:] < 128).any()  # the mark


def test_the_page_says_what_it_is_not_for(tmp_path):
    files = {}
    for name in PANELS:
        pixels = np.arange(48, dtype=np.uint16).reshape(1, 6, 8) * 1000 if name == "ct" else plain(COLOURS[name])
        files[name] = tmp_path / f"{name}.png"
        write_slide(files[name], pixels)
    picture, page = write_pictures(tmp_path, files, MARK)
    text = page.read_text(encoding="utf-8")
    assert MARK in text
    assert "virtual-staining train" in text
    assert text.count("<img") == len(PANELS)
    assert "has seen phantoms and nothing else" in text
    write_pictures(tmp_path, files, "Stained by a bundle of your own")  # of whose training nothing is known here
    assert "nothing else" not in page.read_text(encoding="utf-8")
    assert Image.open(picture).size[0] > 4 * 8


def test_it_makes_stains_and_shows_one_pair(tmp_path, monkeypatch):
    made = []

    def make(output, pairs, seed, volumes):
        made.append((output, pairs, seed, volumes))
        for name in ("ct", "stain", "perfect"):
            write_slide(tmp_path / "out/phantom" / name / "01.png", plain(COLOURS[name]))

    def start(self, show):
        made.append((self.task, dict(self.ids)))
        write_slide(tmp_path / "out/stained/01_stained.png", plain(COLOURS["stained"]))

    monkeypatch.setattr(phantom, "make_dataset", make)
    monkeypatch.setattr(Run, "start", start)
    root = tmp_path / "bundle"
    (root / "configs").mkdir(parents=True)
    (root / "configs/inference.json").write_text("{}")
    monkeypatch.setattr(module, "PRETRAINED", root)
    said = demo(str(tmp_path / "out"), seed=5)
    assert made[0] == (str(tmp_path / "out/phantom"), 1, 5, False)
    assert made[1][1]["input"].endswith("out/phantom/ct/01.png")
    assert MARK in said
    assert str(tmp_path / "out/demo.html") in said
    assert sum(line.startswith("  virtual-staining ") for line in said.splitlines()) == 2


def test_it_leaves_alone_what_is_there(tmp_path):
    (tmp_path / "file").touch()
    root = tmp_path / "bundle" / "configs"
    root.mkdir(parents=True)
    with pytest.raises(InputError, match="is there and not empty"):
        demo(str(tmp_path), bundle=str(root.parent))
    with pytest.raises(InputError, match=r"has no configs/inference\.json"):
        demo(str(tmp_path / "new"), bundle=str(root.parent))
    assert not (tmp_path / "new").exists()
