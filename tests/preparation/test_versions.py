"""Versions of a dataset: misaligned by a known amount, with fewer pairs, with the material."""

from __future__ import annotations

import json

import numpy as np
import pytest
from skimage.registration import phase_cross_correlation

from bundle.common.errors import InputError
from bundle.data.folds import FOLDS
from bundle.data.load import load_datalist
from bundle.images.slides import read_slide
from bundle.preparation.dataset_variants import displacement, write_versions
from tests.conftest import make_dataset


def test_the_displacement_has_the_length_asked_for_half_of_it_a_shift():
    field = displacement((300, 200), 10.0, np.random.default_rng(0))
    assert np.sqrt((field**2).sum(0).mean()) == pytest.approx(10)
    assert np.hypot(*field.mean((1, 2))) == pytest.approx(10 / np.sqrt(2))


def test_training_targets_move_and_test_targets_do_not(tmp_path):
    source = make_dataset(tmp_path / "data", size=(128, 136))
    folder = write_versions(str(source), str(tmp_path / "versions"), misalign_px=[0, 4])
    still, moved = (load_datalist(str(folder), f"datalist_{px}px.json") for px in (0, 4))
    for before, same, after in zip(load_datalist(str(source)).training, still.training, moved.training, strict=True):
        pixels = [read_slide(pair.target).pixels for pair in (before, same, after)]
        np.testing.assert_array_equal(pixels[0], pixels[1])
        inner = [one[1, 20:-20, 20:-20] - one.mean() for one in (pixels[0], pixels[2])]
        shift = phase_cross_correlation(*inner, upsample_factor=10, normalization=None)[0]
        assert 1 < np.hypot(*shift) < 7
        np.testing.assert_array_equal(read_slide(before.source).pixels, read_slide(after.source).pixels)
    assert len(moved.training) == 2
    assert moved.checksums["target/02.png"] == load_datalist(str(source)).checksums["target/02.png"]
    assert "displaced by 4 px root mean square (seed 0)" in moved.description


def test_files_outside_the_dataset_are_not_copied_anywhere(tmp_path):
    source = make_dataset(tmp_path / "data")
    listed = json.loads((source / "datalist.json").read_text())
    listed["training"][0]["source"] = "../data/" + listed["training"][0]["source"]
    (source / "datalist.json").write_text(json.dumps(listed))
    with pytest.raises(InputError, match=r"\.\./data/source/\d+.png lies outside .*; copy it in"):
        write_versions(str(source), str(tmp_path / "versions"), misalign_px=[4])
    assert not (tmp_path / "versions").exists()


@pytest.mark.parametrize("numbered", [True, False])
def test_fewer_pairs_leave_as_many_in_every_fold(tmp_path, numbered):
    source = make_dataset(tmp_path / "data", pairs=12)
    if not numbered:
        listed = json.loads((source / "datalist.json").read_text())
        for entry in listed["training"]:
            del entry["fold"]
        (source / "datalist.json").write_text(json.dumps(listed))
    folds = 2 if numbered else FOLDS
    folder = write_versions(str(source), str(tmp_path / "versions"), pairs_per_fold=[1, 2])
    every = {pair.specimen for pair in load_datalist(str(source)).training}
    for count in (1, 2):
        data = load_datalist(str(folder), f"datalist_{count}pairs.json", fold=1)
        assert (len(data.training), len(data.validation)) == (count * (folds - 1), count)
        assert {pair.specimen for pair in data.training + data.validation} <= every
        assert len(data.testing) == 1


def test_the_material_is_the_third_channel(tmp_path):
    source = make_dataset(tmp_path / "data")
    listed = json.loads((source / "datalist.json").read_text())
    listed["training"][1]["group"] = "PEEK"
    (source / "datalist.json").write_text(json.dumps(listed))
    folder = write_versions(str(source), str(tmp_path / "versions"), material=True)
    data = load_datalist(str(folder), "datalist_material.json")
    assert (data.source.channels, data.source.name) == (3, "µCT and material")
    levels = {"Mg": 21845, "PEEK": 43690}  # thirds of 65535
    for pair in data.training + data.testing:
        pixels = read_slide(pair.source).pixels
        grey = read_slide(source / "source" / f"{pair.source.stem}.png").pixels[0]
        np.testing.assert_array_equal(pixels[:2], [grey, grey])
        assert (pixels[2] == levels[pair.group]).all()
    assert len(data.training) + len(data.testing) == 3


def test_bad_input_is_refused_before_anything_is_written(tmp_path):
    source = make_dataset(tmp_path / "data", target={"name": "stain", "channels": 3, "range": [0, 255]})
    output = tmp_path / "versions"
    for options, message in (
        ({"misalign_px": [-1]}, "misalign_px has -1"),
        ({"pairs_per_fold": [0]}, "pairs_per_fold has 0"),
        ({"pairs_per_fold": [3]}, "fold 0 has 1; keep fewer"),
    ):
        with pytest.raises(InputError, match=message):
            write_versions(str(source), str(output), **options)
        assert not output.exists()
    write_versions(str(source), str(output))
    with pytest.raises(InputError, match="is not empty"):
        write_versions(str(source), str(output))
