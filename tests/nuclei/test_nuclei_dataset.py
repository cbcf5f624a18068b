"""Datasets of labelled nuclei: every fault listed, patches that depend on their index alone."""

import json

import numpy as np
import pytest
import torch

from bundle.common.errors import InputError
from bundle.images.slides import read_slide, write_slide
from bundle.nuclei.dataset import load_nuclei, read_nuclei
from bundle.nuclei.patches import NucleiPatches, RandNucleusPatchd, StarTargetsd
from bundle.nuclei.stars import star_targets
from tests.helpers.nuclei import make_nuclei, make_nuclei_trainer, relist


@pytest.fixture
def folder(tmp_path):
    return make_nuclei(tmp_path / "data", training=5)


def lines(folder, **arguments):
    with pytest.raises(InputError) as caught:
        load_nuclei(str(folder), **arguments)
    return str(caught.value).splitlines()


def test_a_sound_dataset_is_read(folder):
    data = load_nuclei(str(folder), patch_size=32)
    assert [len(data.training), len(data.validation), len(data.testing)] == [5, 0, 2]
    assert (data.image.name, data.image.channels, data.image.low, data.image.high) == ("DAPI", 1, 0, 255)
    assert data.pixel_um is None
    assert set(data.nuclei.values()) == {5}
    assert len(data.checksums) == 15
    assert data.caveat == ""
    assert data.counted("training") == "5 images with 25 nuclei"


def test_every_fault_of_every_file_is_listed_at_once(folder):
    (folder / "images/0.png").unlink()
    write_slide(folder / "labels/1.png", np.ones((1, 64, 64), np.uint16))
    write_slide(folder / "images/2.png", np.zeros((3, 64, 72), np.uint8))
    write_slide(folder / "labels/3.png", np.zeros((3, 64, 72), np.uint8))
    (folder / "labels/4.png").write_bytes((folder / "labels/4.png").read_bytes()[:60])
    write_slide(folder / "images/5.png", np.full((1, 64, 72), 300, np.uint16))
    relist(folder, extra=1)
    found = lines(folder)
    wanted = (
        "unknown key 'extra'",
        "training[0]: image",
        "training[1]: image 1.png is 64×72 px but labels 1.png are 64×64 px",
        "training[2]: image",
        "training[3]: labels",
        "training[4]: labels",
        "testing[0]: image",
    )
    assert len(found) == len(wanted)
    for line, start in zip(found, wanted, strict=True):
        assert start in line
    for line, reason in zip(found[1:], ("not exist", "", "3 channels", "in colour", "corrupt", "300"), strict=True):
        assert reason in line


def test_faults_of_the_list_are_named(folder):
    listed = json.loads((folder / "datalist.json").read_text())
    training = [*listed["training"], {"image": "images/0.png"}, "images/1.png"]
    training[1] |= {"colour": "red", "specimen": "slide 6"}
    relist(folder, training=training, pixel_um=0)
    found = "\n".join(lines(folder, patch_size=96))
    for text in (
        "pixel_um is 0",
        "training[5]: has no labels",
        "training[6]: is 'images/1.png'",
        "training[1]: unknown key 'colour'",
        "specimen 'slide 6' is in training and in testing",
        "0.png is 64×72 px, smaller than a patch of 96 px",
    ):
        assert text in found
    assert "declare its name, channels and range" in lines(make_nuclei(folder / "other", image=None))[0]
    assert "dataset_dir is not set" in str(pytest.raises(InputError, load_nuclei, None).value)


def test_images_without_nuclei_are_counted_and_a_training_without_any_is_refused(folder):
    for number in range(4):
        write_slide(folder / f"labels/{number}.png", np.zeros((1, 64, 72), np.uint16))
    assert load_nuclei(str(folder)).caveat == "4 of 5 training images show no nucleus"
    write_slide(folder / "labels/4.png", np.zeros((1, 64, 72), np.uint16))
    assert "no training image has a labelled nucleus" in lines(folder)[0]


def test_masks_instead_of_labels_are_refused(folder):
    for number in range(5):
        labels = read_slide(folder / f"labels/{number}.png").pixels
        write_slide(folder / f"labels/{number}.png", (labels > 0).astype(np.uint8) * 255)
    assert "give each nucleus its own number" in lines(folder)[0]


def test_labels_that_stardist_cannot_take_are_refused(tmp_path):
    import tifffile

    for name, labels in {
        "float.tif": np.zeros((8, 8), np.float32),
        "large.tif": np.full((8, 8), 70000, np.uint32),
        "negative.tif": np.full((8, 8), -1, np.int32),
    }.items():
        tifffile.imwrite(tmp_path / name, labels)
        with pytest.raises(InputError, match="whole numbers" if "float" in name else "labels from"):
            read_nuclei(tmp_path / name)


def test_specimens_are_held_out_whole_and_always_the_same(folder):
    listed = json.loads((folder / "datalist.json").read_text())
    for number, entry in enumerate(listed["training"]):
        entry["specimen"] = f"slide {number // 2}"
    relist(folder, training=listed["training"])
    drawn = [load_nuclei(str(folder), held_out=0.3, seed=1) for _ in range(2)]
    assert drawn[0].held_out
    assert drawn[0].validation == drawn[1].validation
    assert len({each.specimen for each in drawn[0].validation}) == 1
    assert not {each.specimen for each in drawn[0].validation} & {each.specimen for each in drawn[0].training}
    assert len(drawn[0].training) + len(drawn[0].validation) == 5
    relist(folder, validation=listed["training"][:2], training=listed["training"][2:])
    listed_ones = load_nuclei(str(folder), held_out=0.3)
    assert not listed_ones.held_out
    assert len(listed_ones.validation) == 2


def test_a_patch_depends_on_its_index_alone_and_its_targets_are_those_of_its_labels(folder, tmp_path):
    loaders = [make_nuclei_trainer(folder, tmp_path / str(at)).data_loader for at in range(2)]
    first, second = (loader.dataset for loader in loaders)
    second[3]
    one, other = first[7], second[7]
    assert set(one) == {"image", "probability", "distances", "patch"}
    assert [tuple(one[key].shape) for key in ("image", "probability", "distances")] == [
        (1, 32, 32),
        (1, 16, 16),
        (8, 16, 16),
    ]
    assert all(torch.equal(one[key], other[key]) for key in ("image", "probability", "distances"))
    assert one["image"].min() >= -1
    assert one["image"].max() <= 1
    bright = one["image"][0, ::2, ::2] > -0.2  # noise apart, what is bright is a nucleus
    assert ((one["probability"][0] > 0) == bright).float().mean() > 0.97


def test_images_take_turns_and_crops_hold_nuclei(folder):
    data = load_nuclei(str(folder)).training
    patches = NucleiPatches(data, RandNucleusPatchd(["image", "labels"], 16, prob=1.0), patches=7, seed=0)
    assert len(patches) == 7
    assert [patches.place(index) for index in range(12)] == [0, 1, 2, 3, 4, 0, 1, 2, 3, 4, 0, 1]
    assert patches.files(6)[1].endswith("labels/1.png")
    assert all(patches[index]["labels"].any() for index in range(40))
    anywhere = NucleiPatches(data, RandNucleusPatchd(["image", "labels"], 16, prob=0.0), patches=7, seed=0)
    assert not all(anywhere[index]["labels"].any() for index in range(40))


def test_patches_are_the_same_from_memory_and_from_files(folder):
    data = load_nuclei(str(folder)).training
    cut = RandNucleusPatchd(["image", "labels"], 16)
    held, some, read = (NucleiPatches(data, cut, 7, seed=0, memory_gib=gib) for gib in (4.0, 1e-9, 0.0))
    assert [len(each.held) for each in (held, some, read)] == [5, 1, 0]
    for index in range(6):
        patches = [each[index] for each in (held, some, read)]
        assert all(torch.equal(patches[0][key], each[key]) for each in patches for key in ("image", "labels"))


def test_targets_of_a_patch(folder):
    labels = read_nuclei(folder / "labels/0.png")
    made = StarTargetsd("labels", 8, 2)({"labels": torch.from_numpy(labels[None].astype(np.float32)), "image": 1})
    probability, distances = star_targets(labels, 8, 2)
    assert made["image"] == 1
    assert np.array_equal(made["probability"][0], probability)
    assert np.array_equal(made["distances"], distances)
