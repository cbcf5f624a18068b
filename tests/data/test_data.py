"""The data contract: what is wrong with a dataset is said, all of it, before anything runs."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch

from bundle.common.checks import checksum
from bundle.common.errors import InputError
from bundle.data.datalist import Image, Pair
from bundle.data.folds import assign_folds
from bundle.data.load import load_datalist
from bundle.data.patches import PatchDataset
from bundle.images.slides import read_slide, write_slide
from bundle.training.data_checks import scaled_background
from tests.conftest import make_dataset


def edited(folder: Path, change) -> Path:
    """Change the datalist of a dataset in place."""
    path = folder / "datalist.json"
    listed = json.loads(path.read_text())
    change(listed)
    path.write_text(json.dumps(listed))
    return folder


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def float_source(folder: Path, value: float) -> Path:
    pixels = np.full((64, 72), 100.0, np.float32)
    pixels[3, 4] = value
    tifffile.imwrite(folder / "source" / "00.tif", pixels)
    return edited(folder, lambda listed: listed["training"][0].update(source="source/00.tif"))


def as_tiff(folder: Path) -> Path:
    pixels = read_slide(folder / "source" / "00.png").pixels
    write_slide(folder / "source" / "00.tif", pixels)
    truncate(folder / "source" / "00.tif")
    return edited(folder, lambda listed: listed["training"][0].update(source="source/00.tif"))


def labelled(folder: Path, labels: np.ndarray, tissues: dict[str, list[int]]) -> None:
    write_slide(folder / "labels.png", labels)
    edited(folder, lambda listed: listed["training"][0].update(labels="labels.png"))
    edited(folder, lambda listed: listed.update(tissues=tissues))


FAULTS = {
    "missing file": (lambda f: (f / "source/00.png").unlink(), "source/00.png does not exist"),
    "truncated png": (lambda f: truncate(f / "target/00.png"), "target/00.png cannot be read"),
    "truncated tiff": (as_tiff, "source/00.tif cannot be read"),
    "not an image": (lambda f: (f / "target/00.png").write_text("hello"), "target/00.png cannot be read"),
    "sizes differ": (
        lambda f: write_slide(f / "target/00.png", np.arange(3 * 60 * 72, dtype=np.uint8).reshape(3, 60, 72)),
        "source 00.png is 64×72 px but target 00.png is 60×72 px",
    ),
    "mask size": (lambda f: write_slide(f / "mask/00.png", np.ones((1, 9, 9), np.uint8)), "mask 00.png is 9×9 px"),
    "four channels": (
        lambda f: (
            tifffile.imwrite(f / "target/00.tif", np.zeros((64, 72, 4), np.uint8), photometric="rgb")
            or edited(f, lambda listed: listed["training"][0].update(target="target/00.tif"))
        ),
        "has 4 channels but toluidine blue declares 3",
    ),
    "NaN": (lambda f: float_source(f, np.nan), "1 NaN or infinite pixels"),
    "out of range": (lambda f: float_source(f, 70000.0), "values from 100.0 to 70000.0, outside the declared range"),
    "empty mask": (lambda f: write_slide(f / "mask/00.png", np.zeros((1, 64, 72), np.uint8)), "00.png is empty"),
    "empty datalist": (lambda f: edited(f, lambda listed: listed.update(training=[])), "training is empty"),
    "no datalist": (lambda f: (f / "datalist.json").unlink(), "datalist.json does not exist"),
    "no json": (lambda f: (f / "datalist.json").write_text("{"), "not valid JSON"),
    "no pixel size": (lambda f: edited(f, lambda listed: listed.pop("pixel_um")), "pixel_um is None"),
    "no range": (lambda f: edited(f, lambda listed: listed["source"].pop("range")), "source.range is None"),
    "no target": (
        lambda f: edited(f, lambda listed: listed["training"][1].pop("target")),
        "training[1] has no target; this method needs pairs",
    ),
    "typo": (lambda f: edited(f, lambda listed: listed["training"][0].update(specimn="a")), "unknown key 'specimn'"),
    "one level": (
        lambda f: edited(f, lambda listed: listed["source"].update(bone_intensity=3)),
        "bone_intensity and background_intensity are [3, None]",
    ),
    "labels of no tissue": (
        lambda f: labelled(f, np.uint8([[[3]]]).repeat(64, 1).repeat(72, 2), {"bone": [1, 2]}),
        "has [3], which no entry of tissues names",
    ),
    "labels of another size": (lambda f: labelled(f, np.ones((1, 8, 8), np.uint8), {"bone": [1]}), "8×8 px"),
    "labels with colour": (
        lambda f: labelled(f, np.ones((3, 64, 72), np.uint8), {"bone": [1]}),
        "in colour or has transparency; labels are one",
    ),
    "one label, two tissues": (
        lambda f: edited(f, lambda listed: listed.update(tissues={"bone": [1], "screw": [1, 2]})),
        "tissues gives label [1] to more than one tissue",
    ),
    "tissues without values": (
        lambda f: edited(f, lambda listed: listed.update(tissues={"bone": 6})),
        "name tissues with their label values",
    ),
    "same specimen": (
        lambda f: edited(f, lambda listed: listed["testing"][0].update(specimen="rat 0")),
        "specimen 'rat 0' is in training and in testing",
    ),
}


@pytest.mark.parametrize("name", FAULTS)
def test_each_fault_is_one_clear_line(dataset, name):
    spoil, message = FAULTS[name]
    spoil(dataset)
    with pytest.raises(InputError) as caught:
        load_datalist(str(dataset))
    assert message in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def test_all_faults_are_listed_at_once(dataset):
    for name in ("missing file", "empty mask", "same specimen", "no pixel size"):
        FAULTS[name][0](dataset)
    with pytest.raises(InputError) as caught:
        load_datalist(str(dataset), patch_size=65)
    lines = str(caught.value).splitlines()
    wanted = ["does not exist", "is empty", "rat 0", "pixel_um", "training[1]: 00"]
    assert len(lines) == 5
    for message in wanted[:4]:
        assert any(message in line for line in lines)
    assert "smaller than a patch of 65 px" in lines[-1]


def test_dataset_dir_must_be_given():
    with pytest.raises(InputError, match="dataset_dir is not set"):
        load_datalist(None)


def test_fold_names_the_validation_pairs(dataset):
    data = load_datalist(str(dataset), fold=1)
    assert [pair.specimen for pair in data.training] == ["rat 0"]
    assert [pair.specimen for pair in data.validation] == ["rat 1"]
    assert [pair.specimen for pair in data.testing] == ["rat 2"]
    assert len(load_datalist(str(dataset)).training) == 2
    with pytest.raises(InputError, match=r"fold 7 has no training pair; the folds are \[0, 1\]"):
        load_datalist(str(dataset), fold=7)


def test_a_specimen_in_training_and_validation_is_refused_unless_allowed(dataset):
    same = lambda listed: [entry.update(specimen="rat") for entry in listed["training"]]
    with pytest.raises(InputError, match="'rat' is in training and in validation"):
        load_datalist(str(edited(dataset, same)), fold=0)
    allowed = load_datalist(str(edited(dataset, lambda listed: listed.update(allow_same_specimen=True))), fold=0)
    assert "One specimen" in allowed.caveat


def test_background_is_the_mean_outside_the_training_masks(dataset):
    data = load_datalist(str(dataset))
    targets, masks = (
        np.stack([read_slide(dataset / key / f"{n:02d}.png").pixels for n in (0, 1)]) for key in ("target", "mask")
    )
    expected = [targets[:, channel][masks[:, 0] == 0].mean() for channel in range(3)]
    assert data.background_rgb == pytest.approx(expected)
    assert scaled_background(data, "target") == pytest.approx([value / 127.5 - 1 for value in expected])
    source = scaled_background(data, "source")
    assert scaled_background(data, "source", inverted=True) == pytest.approx([-source[0]])


def test_without_masks_there_is_no_background_and_all_is_compared(dataset):
    shutil.rmtree(dataset / "mask")
    bare = edited(dataset, lambda listed: [entry.pop("mask") for entry in listed["training"] + listed["testing"]])
    data = load_datalist(str(bare))
    assert data.background_rgb is None
    assert PatchDataset(data.training, dict, 1, 0).images[0]["mask"].all()


def test_rat_jaw_passes(shared):
    data = load_datalist(str(shared / "data" / "rat_jaw"), patch_size=256)
    assert (len(data.training), len(data.testing), data.pixel_um) == (1, 1, 10.228)
    assert torch.tensor(data.background_rgb).shape == (3,)


def test_make_dataset_is_valid(tmp_path):
    assert len(load_datalist(str(make_dataset(tmp_path, pairs=3))).training) == 3


def pairs_of(*groups: tuple[str, int], pairs_each: int = 1) -> list[Pair]:
    specimens = [(group, f"{group} {number}") for group, count in groups for number in range(count)]
    path = Path("x.png")
    return [Pair("", path, path, None, name, group, None) for group, name in specimens for _ in range(pairs_each)]


@pytest.mark.parametrize("groups", [(("Mg", 36), ("Ti", 5), ("PEEK", 9)), (("Mg", 3), ("Ti", 1), ("PEEK", 2))])
def test_folds_keep_specimens_whole_and_groups_within_one_of_proportion(groups):
    pairs = pairs_of(*groups, pairs_each=2)
    folds = assign_folds(pairs)
    assert set(folds) == set(range(5))
    assert all(folds[place] == folds[place + 1] for place in range(0, len(pairs), 2))
    for group, count in groups:
        for fold in range(5):
            held = {p.specimen for p, f in zip(pairs, folds, strict=True) if f == fold and p.group == group}
            assert abs(len(held) - count / 5) < 1


def test_files_outside_the_folder_may_be_listed_by_their_whole_path(tmp_path):
    folder = make_dataset(tmp_path / "data")
    (folder / "source").rename(tmp_path / "source")
    edited(folder, lambda listed: [e.update(source=str(tmp_path / e["source"])) for e in listed["training"]])
    edited(folder, lambda listed: [e.update(source=str(tmp_path / e["source"])) for e in listed["testing"]])
    data = load_datalist(str(folder))
    assert data.checksums[str(data.training[0].source)] == checksum(data.training[0].source)


def unpaired(side: str, specimen: str) -> Image:
    return Image("", side, Path("x.png"), None, specimen, None, None)


def test_folds_of_unpaired_images_have_both_sides():
    images = [unpaired("source", name) for name in "abc"] + [unpaired("target", name) for name in "ded"]
    images += [unpaired("source", "e"), unpaired("target", "f")]  # e is a specimen with both
    folds = assign_folds(images, 3)
    for side in ("source", "target"):
        assert {fold for image, fold in zip(images, folds, strict=True) if image.side == side} == {0, 1, 2}
    assert folds[3] == folds[5]
    with pytest.raises(InputError, match="2 training specimens with a target cannot be divided into 3 folds"):
        assign_folds(images[:6], 3)


def test_a_fold_without_one_of_the_sides_is_refused(tmp_path):
    folder = make_dataset(tmp_path / "data", pairs=4)

    def alone(listed):
        for number, entry in enumerate(listed["training"]):
            entry["fold"] = number % 2
            del entry["source" if number % 2 else "target"], entry["mask"]

    edited(folder, alone)
    with pytest.raises(InputError, match=r"fold 0 has no target; every fold needs images of both sides"):
        load_datalist(str(folder), fold=0, paired=False)


def test_a_dataset_without_folds_is_given_five_and_test_pairs_are_in_none(tmp_path):
    folder = make_dataset(tmp_path, pairs=6)
    edited(folder, lambda listed: [entry.pop("fold") for entry in listed["training"]])
    seen = []
    for fold in range(5):
        data = load_datalist(str(folder), fold=fold)
        assert not {pair.specimen for pair in data.validation} & {pair.specimen for pair in data.training}
        assert all(pair.fold is None for pair in data.testing)
        seen += [pair.specimen for pair in data.validation]
    assert sorted(seen) == sorted(pair.specimen for pair in load_datalist(str(folder)).training)


def test_fewer_specimens_than_folds_are_refused(dataset):
    edited(dataset, lambda listed: [entry.pop("fold") for entry in listed["training"]])
    with pytest.raises(InputError, match=r"datalist.json: 2 training specimens cannot be divided into 5 folds; add"):
        load_datalist(str(dataset), fold=0)
