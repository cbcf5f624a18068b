"""Cells of an image, and how like the sources of a training it is."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.spatial.distance import cdist

from bundle.common.errors import InputError
from bundle.common.verdicts import DOUBTFUL, LIKE, UNKNOWN, UNLIKE
from bundle.networks.cells import at_pixels, features_of, means_of
from bundle.networks.likeness import Likeness, learn, nearest


def texture(seed: int, amplitude: float = 0.3, size: int = 96) -> torch.Tensor:
    """Squares of 8 px in two greys, and some noise."""
    rng = np.random.default_rng(seed)
    squares = np.kron(rng.choice([-0.5, 0.5], (size // 8, size // 8)), np.ones((8, 8)))
    return torch.from_numpy(squares * amplitude / 0.3 + rng.normal(0, 0.05, (size, size))).float()[None]


@pytest.fixture(scope="module")
def known() -> Likeness:
    return learn([texture(seed) for seed in range(6)], list("aabbcc"))


def test_features_are_means_and_spreads_of_squares():
    image = torch.arange(2 * 8 * 8, dtype=torch.float32).view(2, 8, 8) / 100
    found = features_of(image, levels=2)
    assert found.shape == (8, 2, 2)
    first = image[:, 4:, :4]
    assert found[:2, 1, 0].tolist() == pytest.approx(first.mean((1, 2)).tolist())
    assert found[2:4, 1, 0].tolist() == pytest.approx(
        np.log(first.flatten(1).std(1, correction=0) + 0.02).tolist(), abs=1e-5
    )
    assert found[4:6, 0, 0].tolist() == pytest.approx(image.mean((1, 2)).tolist())  # of the one square of 8 px


def test_cells_at_the_far_edge_hold_what_is_there():
    image = torch.zeros(1, 6, 9)
    image[0, 4:, 8] = 3.0
    assert means_of(image)[0].tolist() == [[0, 0, 0], [0, 0, 3]]
    assert features_of(image).shape == (12, 2, 3)


def test_cells_are_interpolated_between_their_centres():
    cells = torch.tensor([[[0.0, 4.0]]])
    assert at_pixels(cells, 3, 7)[0, 0].tolist() == [0, 0, 0.5, 1.5, 2.5, 3.5, 4]


def test_nearest_is_that_of_all_pairs():
    rng = np.random.default_rng(0)
    rows, bank = rng.normal(size=(5000, 12)), rng.normal(size=(30, 12))  # more rows than are compared at once
    assert nearest(rows, bank) == pytest.approx(cdist(rows, bank).min(1) / np.sqrt(12))


def test_what_was_shown_is_like_it_and_other_things_are_not(known):
    assert known.judge(texture(99)).word == LIKE
    assert known.judge(texture(99)).ratio == pytest.approx(1, abs=0.3)
    assert known.judge(texture(99, amplitude=0.32)).word == DOUBTFUL
    assert known.judge(-0.2 + torch.zeros(1, 96, 96)).word == UNLIKE
    assert known.judge(torch.rand(1, 96, 96, generator=torch.Generator().manual_seed(0))).word == UNLIKE
    assert known.distance(texture(99).expand(3, -1, -1)) == known.distance(texture(99))  # a grey one, repeated


def test_how_far_is_usual_is_taken_from_other_specimens():
    twins = [texture(seed) + shift for seed in range(3) for shift in (0.0, 0.02)]
    assert learn(twins, list("aabbcc")).usual > 1.2 * learn(twins, range(6)).usual
    assert learn(twins, ["one"] * 6).usual == learn(twins, range(6)).usual  # nothing else is to be had
    few = learn(twins[:2], list("ab"))
    assert few.usual == float("inf")
    assert few.judge(texture(0)).word == UNKNOWN


def test_it_is_the_same_after_it_was_written(known, tmp_path):
    known.save(tmp_path / "likeness.npz")
    again = Likeness.load(tmp_path / "likeness.npz")
    assert again.distance(texture(7)) == known.distance(texture(7))
    assert again.usual == known.usual
    assert len(again.bank) <= 2048


@pytest.mark.parametrize(
    ("changed", "fault"),
    [
        ({"bank": np.zeros((3, 11))}, "cells of shape"),
        ({"bank": np.zeros((4000, 12))}, "cells of shape"),
        ({"bank": np.full((3, 12), np.nan)}, "values that no training has"),
        ({"scale": np.zeros(12)}, "values that no training has"),
        ({"usual": np.float64(-1)}, "values that no training has"),
        ({"centre": np.zeros(12, np.float32)}, "not of float64"),
        ({"centre": np.zeros(7)}, "centre of shape"),
        ({"bank": np.array([{}], object)}, "Object arrays cannot be loaded"),
    ],
)
def test_a_file_that_is_none_is_told(known, tmp_path, changed, fault):
    content = {"bank": known.bank, "centre": known.centre, "scale": known.scale, "usual": np.float64(known.usual)}
    np.savez(tmp_path / "likeness.npz", **{**content, **changed})
    with pytest.raises(InputError, match=f"holds no cells of a training .*{fault}.*; copy it from the run again"):
        Likeness.load(tmp_path / "likeness.npz")


def test_a_file_that_is_cut_is_told(known, tmp_path):
    known.save(tmp_path / "likeness.npz")
    whole = (tmp_path / "likeness.npz").read_bytes()
    (tmp_path / "likeness.npz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match="holds no cells of a training"):
        Likeness.load(tmp_path / "likeness.npz")


def test_sources_that_are_all_the_same_say_nothing(tmp_path):
    """How far they usually lie apart is then no measure, and a bundle of them is not to be called corrupt."""
    learn([texture(1)] * 3, list("abc")).save(tmp_path / "same.npz")
    assert Likeness.load(tmp_path / "same.npz").judge(texture(2)).word == UNKNOWN
