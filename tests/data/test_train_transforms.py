"""Each transform that train.json lists has its effect on a patch, and nothing else has it."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser
from monai.data import MetaTensor

from tests.conftest import ROOT, make_dataset

SIZE = 32
KEYS = ("source", "target", "mask")
LIST = json.loads((ROOT / "configs/train.json").read_text())["train"]["preprocessing"]["transforms"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return make_dataset(tmp_path_factory.mktemp("transforms"))


def place(name, key=None):
    """Where a transform stands in the list of train.json: by its name, its (first) key, and the n-th of those."""
    name, _, number = name.partition("#")
    found = [
        index
        for index, entry in enumerate(LIST)
        if entry["_target_"].endswith(name) and (key is None or np.ravel(entry.get("keys", ""))[0] == key)
    ]
    return found[int(number or 0)]


STILL = {"patch_size": SIZE, "zoom": [1.0, 1.0], "jitter": 0.0}
FLIPS = (place("RandFlipd#0"), place("RandFlipd#1"))


def configured(folder, without=(), flips=(0, 0), **ids):
    """The transform list of train.json; by default without any random effect but the patch's place."""
    parser = ConfigParser()
    parser.read_config(ROOT / "configs/train.json")
    for name, value in {"dataset_dir": str(folder), **STILL, **ids}.items():
        parser[name] = value
    entries = parser["train#preprocessing#transforms"]
    for index, prob in zip(FLIPS, flips, strict=True):
        entries[index]["prob"] = prob
    parser["train#preprocessing#transforms"] = [entry for index, entry in enumerate(entries) if index not in without]
    return parser.get_parsed_content("train#preprocessing")


@pytest.fixture
def images():
    """One pair of the declared ranges; values in the inner part of the range, so that no jitter clips."""
    rng = np.random.default_rng(0)
    source = rng.integers(10_000, 55_000, (1, 64, 64)).astype(np.uint16)
    target = rng.integers(40, 210, (3, 64, 64)).astype(np.uint8)
    mask = np.zeros((1, 64, 64), bool)
    mask[:, 30:34, 30:40] = True
    return {"source": source, "target": target, "mask": mask, "inside": np.flatnonzero(mask)}


@pytest.fixture
def whole(images):
    """Images no larger than the patch, so that nothing is random in its place."""
    whole = {key: images[key][:, :SIZE, :SIZE] for key in KEYS}
    return {**whole, "inside": np.array([0])}


def normalised(images):
    return SimpleNamespace(
        source=np.repeat(images["source"] / 65535.0 * 2 - 1, 3, axis=0),
        target=images["target"] / 255.0 * 2 - 1,
        mask=images["mask"].astype(float),
    )


def test_every_listed_transform_is_named():
    assert all(entry["_target_"] for entry in LIST)
    assert len(LIST) == 13


def test_without_random_effects_a_patch_is_the_normalised_image(folder, whole):
    patch, expected = configured(folder)(whole), normalised(whole)
    for key in KEYS:
        assert type(patch[key]) is torch.Tensor
        assert patch[key].dtype == torch.float32
        assert np.allclose(patch[key], getattr(expected, key), atol=1e-6)


def same(found, expected):
    return found.shape == expected.shape and np.allclose(found, expected, atol=1e-5)


def ratios(image):
    rgb = (np.asarray(image) + 1) / 2
    return rgb / rgb.sum(0)


# What each listed transform does to a patch that nothing else changes: the settings that bring it out, and
# what then holds with it and without it (p: the patch, n: the normalised image, r: the raw one).
JITTERS = (place("RandContrastBrightnessd"), place("RandLuminanceJitterd"))  # they clip what is not normalised
EFFECTS = {
    "normalised source": (
        (place("ScaleIntensityRanged", "source"), *JITTERS),
        {},
        lambda p, n, r: same(p["source"], n.source),
        lambda p, n, r: same(p["source"], r["source"].repeat(3, 0)),
    ),
    "normalised target": (
        (place("ScaleIntensityRanged", "target"), *JITTERS),
        {},
        lambda p, n, r: same(p["target"], n.target),
        lambda p, n, r: same(p["target"], r["target"]),
    ),
    "inverted source": (
        (place("ScaleIntensityRanged#1", "source"),),
        {"invert_source": True},
        lambda p, n, r: same(p["source"], -n.source) and same(p["target"], n.target),
        lambda p, n, r: same(p["source"], n.source),
    ),
    "three channels": (
        (place("RepeatChanneld"),),
        {},
        lambda p, n, r: same(p["source"], n.source),
        lambda p, n, r: same(p["source"], n.source[:1]),
    ),
    "upside down": (
        FLIPS[:1],
        {"flips": (1, 0)},
        lambda p, n, r: all(same(p[key], getattr(n, key)[:, ::-1]) for key in KEYS),
        lambda p, n, r: all(same(p[key], getattr(n, key)) for key in KEYS),
    ),
    "left to right": (
        FLIPS[1:],
        {"flips": (0, 1)},
        lambda p, n, r: all(same(p[key], getattr(n, key)[:, :, ::-1]) for key in KEYS),
        lambda p, n, r: all(same(p[key], getattr(n, key)) for key in KEYS),
    ),
    "source jitter": (
        JITTERS[:1],
        {"jitter": 0.1},
        lambda p, n, r: (
            not same(p["source"], n.source) and np.corrcoef(p["source"].ravel(), n.source.ravel())[0, 1] > 0.99999
        ),
        lambda p, n, r: same(p["source"], n.source),
    ),
    "target jitter": (
        JITTERS[1:],
        {"jitter": 0.1},
        lambda p, n, r: not same(p["target"], n.target) and same(ratios(p["target"]), ratios(n.target)),
        lambda p, n, r: same(p["target"], n.target),
    ),
    "plain tensors": (
        (place("EnsureTyped"),),
        {},
        lambda p, n, r: all(type(p[key]) is torch.Tensor for key in KEYS),
        lambda p, n, r: all(type(p[key]) is MetaTensor for key in KEYS),
    ),
}


@pytest.mark.parametrize("name", EFFECTS)
def test_removing_a_transform_removes_its_effect(name, folder, whole):
    removed, settings, present, absent = EFFECTS[name]
    for seed in range(3):
        given, bare = (
            configured(folder, without, **settings).set_random_state(seed)(dict(whole)) for without in ((), removed)
        )
        assert present(given, normalised(whole), whole)
        assert not present(bare, normalised(whole), whole)
        assert absent(bare, normalised(whole), whole)


def is_crop(patch, image):
    windows = np.lib.stride_tricks.sliding_window_view(image, patch.shape)
    return np.isclose(windows, patch, atol=1e-5).all(axis=(-3, -2, -1)).any()


def test_removing_the_zoom_leaves_an_exact_crop(folder, images):
    expected = normalised(images)
    for seed in range(3):
        zoomed, plain = (
            configured(folder, without, zoom=[1.2, 1.3]).set_random_state(seed)(dict(images))
            for without in ((), (place("RandPatchZoom"),))
        )
        assert is_crop(plain["source"].numpy(), expected.source)
        assert is_crop(plain["target"].numpy(), expected.target)
        assert not is_crop(zoomed["source"].numpy(), expected.source)
        assert plain["source"].shape == zoomed["source"].shape == (3, SIZE, SIZE)


def test_removing_the_patch_leaves_the_whole_image(folder, images):
    assert configured(folder)(dict(images))["source"].shape[-2:] == (SIZE, SIZE)
    images = {key: value.astype(np.float32) for key, value in images.items()}
    assert configured(folder, (place("RandMaskedPatchd"),))(images)["source"].shape[-2:] == (64, 64)


def test_masked_sampling_is_an_id(folder, images):
    images["mask"] = np.arange(64 * 64).reshape(1, 64, 64) == 32 * 64 + 40
    images["inside"] = np.flatnonzero(images["mask"])
    masked, anywhere = (configured(folder, masked_sampling=choice) for choice in (True, False))
    assert all(masked.set_random_state(seed)(dict(images))["mask"][0, 16, 16] == 1 for seed in range(20))
    assert not all(anywhere.set_random_state(seed)(dict(images))["mask"][0, 16, 16] == 1 for seed in range(20))


def test_flips_come_half_of_the_time_each_and_keep_pairs(folder):
    ramp = np.arange(SIZE * SIZE, dtype=np.uint16).reshape(1, SIZE, SIZE) * 60
    data = {
        "source": ramp,
        "target": (ramp / 257).repeat(3, 0),
        "mask": ramp >= ramp.max() / 2,
        "inside": np.array([0]),
    }
    preprocess = configured(folder, flips=[LIST[index]["prob"] for index in FLIPS])
    found = {}
    for seed in range(200):
        patch = preprocess.set_random_state(seed)(dict(data))
        source = patch["source"][0]
        turned = (bool(source[0, 0] > source[-1, 0]), bool(source[0, 0] > source[0, -1]))
        found[turned] = found.get(turned, 0) + 1
        assert np.allclose(source, patch["target"][0], atol=1e-5)
        assert torch.equal(patch["mask"][0] > 0, source >= (source.max() + source.min()) / 2)
    assert len(found) == 4
    assert all(30 <= count <= 70 for count in found.values())


def test_noise_is_off_until_its_deviation_is_set(folder, whole):
    still = normalised(whole).source
    plain, noisy = configured(folder), configured(folder, noise_std=0.2)
    assert all(same(plain.set_random_state(seed)(dict(whole))["source"], still) for seed in range(10))
    patches = [noisy.set_random_state(seed)(dict(whole)) for seed in range(40)]
    deviations = np.array([(patch["source"].numpy() - still).std() for patch in patches])
    assert 8 <= (deviations > 1e-3).sum() <= 32  # half of the time
    assert 0.1 < deviations.max() < 0.22
    assert all(same(patch["target"], normalised(whole).target) for patch in patches)


def test_smoothing_is_off_until_its_sigma_is_set(folder, whole):
    still = normalised(whole).source
    smooth = configured(folder, smoothing_sigma=2.0)
    patches = [smooth.set_random_state(seed)(dict(whole)) for seed in range(40)]
    deviations = np.array([patch["source"].numpy().std() for patch in patches]) / still.std()
    assert 8 <= (deviations < 1 - 1e-4).sum() <= 32  # half of the time
    assert deviations.min() < 0.4
    assert all(same(patch["target"], normalised(whole).target) for patch in patches)


def test_noisy_source_stays_grey(folder, whole):
    noisy = configured(folder, noise_std=0.2)
    for seed in range(10):
        source = noisy.set_random_state(seed)(dict(whole))["source"]
        assert torch.equal(source[0], source[1])


def test_the_same_seed_gives_the_same_patch_and_another_seed_another(folder, images):
    ids = {"zoom": [0.9, 1.1], "jitter": 0.1, "flips": (0.5, 0.5), "noise_std": 0.1, "smoothing_sigma": 1.0}
    one, other = configured(folder, **ids), configured(folder, **ids)
    first = one.set_random_state(7)(dict(images))
    one(dict(images))  # whatever was drawn in between
    for again in (one.set_random_state(7)(dict(images)), other.set_random_state(7)(dict(images))):
        assert all(torch.equal(first[key], again[key]) for key in KEYS)
    different = one.set_random_state(8)(dict(images))
    assert not torch.equal(first["source"], different["source"])
    assert not torch.equal(first["target"], different["target"])
