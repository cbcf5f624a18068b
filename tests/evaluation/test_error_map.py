"""A map of expected error is judged as by hand: windows, pairs counted one by one, shares kept, pixels within."""

import numpy as np
import pytest

from bundle.evaluation.error_map import (
    TRIVIAL,
    abstention,
    auroc,
    auroc_of_worst,
    coverage,
    trivial_scores,
    true_error,
    windows_of,
)


def test_the_error_of_a_stain_is_the_mean_over_its_channels():
    stain = np.array([[[0, 255]], [[3, 0]], [[9, 7]]], np.uint8)
    reference = np.array([[[255, 0]], [[0, 0]], [[9, 1]]], np.uint8)
    assert true_error(stain, reference) == pytest.approx(np.array([[86.0, 87.0]]))


def test_windows_hold_the_mean_of_what_counts_where_half_of_them_does():
    image = np.arange(30.0).reshape(5, 6)
    mask = np.ones((5, 6), bool)
    mask[0, :2] = mask[2:4, 2:4] = False
    mask[3, 3] = True
    # of 2×2: rows 0–1 and 2–3; the last row is left out, as is the window with one pixel
    assert windows_of(image, mask, 2).tolist() == [6.5, 5.5, 7.5, 15.5, 19.5]


@pytest.mark.parametrize("seed", range(3))
def test_auroc_is_the_share_of_pairs_in_order(seed):
    rng = np.random.default_rng(seed)
    score, positive = rng.integers(0, 6, 40).astype(float), rng.random(40) < 0.3
    pairs = [(one > other) + 0.5 * (one == other) for one in score[positive] for other in score[~positive]]
    assert auroc(score, positive) == pytest.approx(np.mean(pairs))
    assert np.isnan(auroc(score, np.ones(40, bool)))
    assert np.isnan(auroc(score, np.zeros(40, bool)))


def test_a_map_that_is_the_error_finds_the_worst_tenth_and_a_constant_finds_it_by_chance():
    error = np.random.default_rng(0).random(200)
    assert auroc_of_worst(error, error) == 1
    assert auroc_of_worst(-error, error) == 0
    assert auroc_of_worst(np.ones(200), error) == 0.5
    assert np.isnan(auroc_of_worst(np.ones(0), np.ones(0)))


def test_what_has_the_highest_scores_is_left_out_first():
    score, error = np.array([4.0, 1.0, 3.0, 2.0]), np.array([8.0, 2.0, 0.0, 4.0])
    assert abstention(score, error, (1.0, 0.75, 0.5, 0.25)) == [3.5, 2.0, 3.0, 2.0]
    assert np.isnan(abstention(score, error, (0.0,))[0])


def test_coverage_is_the_share_of_pixels_within_a_bound():
    error, bound = np.array([[1.0, 2.0], [3.0, 9.0]]), np.array([[1.0, 1.0], [4.0, 9.5]])
    assert coverage(error, bound, np.ones((2, 2), bool)) == 0.75
    assert coverage(error, bound, np.array([[True, True], [False, False]])) == 0.5
    assert coverage(error, bound, np.zeros((2, 2), bool)) is None


def test_trivial_scores_are_the_grey_its_negative_and_its_spread():
    grey = np.zeros((32, 32))
    grey[:, 16:] = 10
    scores = trivial_scores(grey)
    assert tuple(scores) == TRIVIAL
    assert np.array_equal(scores["grey"], -scores["inverted_grey"])
    assert scores["spread_4"][16, 16] == pytest.approx(grey[14:18, 14:18].std()) == 5
    assert scores["spread_16"][16, 20] == pytest.approx(grey[8:24, 12:28].std())
    assert scores["spread_4"][16, 4] == 0
