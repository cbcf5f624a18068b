"""Edits of channels: each by hand or by another library, none in place, and what a file of them may not say."""

from __future__ import annotations

import json

import numpy as np
import pytest
from skimage.morphology import dilation, disk

from bundle.common.errors import InputError
from bundle.nuclei.insilico import channels
from bundle.nuclei.insilico.channels import OPERATIONS, Edit, edited
from bundle.nuclei.insilico.edits import file_word, generator, read_variants
from tests.conftest import ROOT

NAMES = ("DAPI", "membrane")
EXAMPLES = {
    "scale": {"channel": "DAPI", "factor": 0.5},
    "gamma": {"channel": "DAPI", "exponent": 2},
    "suppress": {"channel": "DAPI"},
    "dilate": {"channel": "DAPI", "radius_px": 2},
    "swap": {"channel": "DAPI", "other": "membrane"},
    "add_nuclear_marker": {"channel": "DAPI", "share": 0.5, "level": 0.8, "like": "membrane"},
    "noise": {"channel": "DAPI", "sd": 0.1},
}


@pytest.fixture
def image() -> np.ndarray:
    return np.random.default_rng(0).random((2, 24, 30), dtype=np.float32)


@pytest.fixture
def labels() -> np.ndarray:
    grid = np.zeros((24, 30), np.uint16)
    for number in range(6):
        row, column = divmod(number, 3)
        grid[3 + 11 * row : 10 + 11 * row, 2 + 10 * column : 8 + 10 * column] = 10 * (number + 1)
    return grid


def variants(tmp_path, content, names=NAMES):
    path = tmp_path / "edits.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return read_variants(path, names)


def faults(tmp_path, content) -> list[str]:
    with pytest.raises(InputError) as error:
        variants(tmp_path, content)
    return str(error.value).splitlines()


@pytest.mark.parametrize("name", list(OPERATIONS))
def test_none_is_in_place_and_all_stay_in_range(name, image, labels, tmp_path):
    (edit,) = variants(tmp_path, {"variants": {"one": [{"edit": name, **EXAMPLES[name]}]}})["one"]
    before = image.copy()
    after = edit(image, labels, np.random.default_rng(0))
    assert np.array_equal(image, before)
    assert not np.shares_memory(image, after)
    assert (after.dtype, after.shape) == (image.dtype, image.shape)
    assert after.min() >= 0
    assert after.max() <= 1
    assert not np.array_equal(after[0], image[0])
    assert name == "swap" or np.array_equal(after[1], image[1])


def test_values_by_hand():
    image = np.array([[[0.0, 0.2, 0.5, 1.0]], [[0.1, 0.1, 0.1, 0.9]]])
    assert channels.scale(image, 0, 1.5)[0] == pytest.approx(np.array([[0, 0.3, 0.75, 1]]))
    assert channels.gamma(image, 0, 2)[0] == pytest.approx(np.array([[0, 0.04, 0.25, 1]]))
    assert channels.suppress(image, 1, 50)[1] == pytest.approx(np.array([[0.1, 0.1, 0.1, 0.1]]))
    assert channels.suppress(image, 0, 0)[0] == pytest.approx(np.zeros((1, 4)))
    assert np.array_equal(channels.swap(image, 0, 1), image[::-1])


def test_dilation_is_that_of_scikit_image(image):
    ours = channels.dilate(image, 1, 3)[1, 3:-3, 3:-3]
    assert np.array_equal(ours, dilation(image[1], disk(3))[3:-3, 3:-3])


def test_noise_has_its_standard_deviation():
    grey = np.full((1, 200, 200), 0.5)
    added = channels.noise(grey, 0, np.random.default_rng(1), 0.05)[0] - 0.5
    assert added.std() == pytest.approx(0.05, rel=0.02)
    assert added.mean() == pytest.approx(0, abs=0.001)


def test_a_share_of_the_nuclei_gets_the_marker(labels):
    dark = np.zeros((2, *labels.shape))
    marked = channels.add_nuclear_marker(dark, 1, labels, np.random.default_rng(0), 0.5, 0.8, 0)
    levels = {int(number): np.unique(marked[1][labels == number]).tolist() for number in np.unique(labels)}
    assert levels.pop(0) == [0]
    assert sorted(map(tuple, levels.values())) == [(0,)] * 3 + [(0.8,)] * 3
    smooth = channels.add_nuclear_marker(dark, 1, labels, np.random.default_rng(0), 0.5, 0.8, 1.0)[1]
    assert smooth.sum() == pytest.approx(marked[1].sum(), rel=1e-6)
    assert len(np.unique(smooth.round(3))) > 10
    one = channels.add_nuclear_marker(dark, 1, labels, np.random.default_rng(0), 0.01, 0.8, 0)[1]
    assert len(np.unique(labels[one > 0])) == 1
    bright = np.ones_like(dark)
    assert np.array_equal(channels.add_nuclear_marker(bright, 1, labels, np.random.default_rng(0), 1, 0.8, 1), bright)
    empty = channels.add_nuclear_marker(dark, 1, np.zeros_like(labels), np.random.default_rng(0), 1, 0.8, 1)
    assert np.array_equal(empty, dark)


def test_a_marker_follows_the_texture_of_a_channel(labels):
    image = np.zeros((2, *labels.shape))
    image[0] = np.where(labels > 0, 0.5, 0)
    image[0][labels == 10] = 0.25
    marked = channels.add_nuclear_marker(image, 1, labels, np.random.default_rng(0), 1, 0.8, 0, like=0)[1]
    assert marked[labels == 20] == pytest.approx(0.8)
    assert marked[labels == 10] == pytest.approx(0.4)


def test_edits_follow_one_another(image, labels):
    twice = [Edit(OPERATIONS["scale"], {"channel": 0, "factor": factor}) for factor in (2.0, 0.5)]
    after = edited(image, twice, labels, np.random.default_rng(0))
    assert after[0] == pytest.approx(np.minimum(2 * image[0], 1) / 2)
    assert np.array_equal(edited(image, [], labels, np.random.default_rng(0)), image)


def test_random_numbers_are_of_seed_tile_and_variant():
    draw = lambda *which: generator(*which).random(4).tolist()
    assert draw(0, "a", "b") == draw(0, "a", "b")
    others = [draw(0, "a", "b"), draw(1, "a", "b"), draw(0, "b", "a"), draw(0, "a", "c"), draw(0, "ab", "")]
    assert len(set(map(tuple, others))) == len(others)


@pytest.mark.parametrize("path", sorted((ROOT / "configs" / "edits").glob("*.json")), ids=lambda path: path.name)
def test_the_examples_are_read(path):
    found = read_variants(path, NAMES)
    assert len(found) == 6
    assert [name for name, edits in found.items() if not edits] == ["unchanged"]


def test_every_fault_of_a_file_is_one_line_with_what_is_known(tmp_path):
    edits = [
        {"edit": "scale", "factor": 0.5},
        {"edit": "scale", "channel": "CD8", "factor": 0.5},
        {"edit": "blur", "channel": "DAPI"},
        {"edit": "scale", "channel": "DAPI", "factor": -1},
        {"edit": "scale", "channel": "DAPI", "factor": "half"},
        {"edit": "dilate", "channel": "DAPI", "radius_px": 1.5},
        {"edit": "gamma", "channel": "DAPI", "exponent": 2, "gain": 1},
        {"edit": "swap", "channel": "DAPI", "other": "DAPI"},
        {"edit": "add_nuclear_marker", "channel": ["DAPI"], "share": 0, "level": True},
        "suppress",
        {"channel": "DAPI"},
        {"edit": "suppress", "channel": None},
    ]
    said = faults(tmp_path, {"variants": {"wrong": edits, "none": {}}, "seeds": 1})
    expected = [
        "unknown key 'seeds'; known are variants, description.",
        "edit 1: scale names no channel; it must be a channel of this model: DAPI, membrane.",
        "edit 2: channel of scale is 'CD8'; it must be a channel of this model: DAPI, membrane.",
        "edit 3: 'blur' is no edit; known are scale, gamma, suppress, dilate, swap, add_nuclear_marker, noise.",
        "edit 4: factor of scale is -1; it must be a number from 0 to 100.",
        "edit 5: factor of scale is 'half'",
        "edit 6: radius_px of dilate is 1.5; it must be a whole number from 1 to 100.",
        "edit 7: gamma has no argument 'gain'; known are channel, exponent.",
        "edit 8: swap names 'DAPI' twice",
        "edit 9: channel of add_nuclear_marker is ['DAPI']",
        "edit 9: share of add_nuclear_marker is 0; it must be a number above 0, to 1.",
        "edit 9: level of add_nuclear_marker is True",
        "edit 10: 'suppress' is no edit",
        "edit 11: {'channel': 'DAPI'} is no edit",
        "edit 12: channel of suppress is None",
        "variant 'none' is {}; it must be a list of edits",
    ]
    assert len(said) == len(expected)
    for line, part in zip(said, expected, strict=True):
        assert line.startswith("edits ")
        assert part in line


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "is not valid JSON"),
        ("{", "is not valid JSON"),
        ("[]", "has no variants"),
        ("{}", "has no variants"),
        ('{"variants": {}}', "has no variants"),
        ('{"variants": {"a": [], "a": []}}', "'a' stands twice in one object"),
        ('{"variants": {"a b": [], "A_b": []}}', "would have the same file names"),
        ('{"variants": {"a/b": []}}', "'a/b' becomes part of file names"),
        ('{"variants": {"(input)": []}}', "'(input)' becomes part of file names"),
    ],
)
def test_files_that_hold_no_variants(tmp_path, content, said):
    assert said in faults(tmp_path, content)[0]


def test_names_become_words_of_file_names():
    assert file_word("no membrane") == "no_membrane"
    assert file_word("no__membrane _x") == "no_membrane_x"
