"""Which region and patches of a slide are shown, and their histograms, profile and difference."""

from __future__ import annotations

import numpy as np
import pytest

from bundle.evaluation.panels import BINS, best_region, difference, draw_corners, histograms, patches_to_keep, profile


def test_patches_are_drawn_by_a_fixed_seed():
    corners = [(top, left) for top in range(0, 90, 10) for left in range(0, 90, 10)]
    drawn = draw_corners(corners, 3)
    assert drawn == draw_corners(corners, 3)
    assert len(set(drawn)) == 3
    assert set(drawn) <= set(corners)
    assert draw_corners(corners[:2], 3) == corners[:2]
    assert draw_corners(corners, 0) == draw_corners([], 3) == []


def test_the_region_holds_most_of_the_mask():
    mask = np.zeros((40, 60), bool)
    mask[5:15, 38:48] = True
    mask[30, 3] = True
    region = best_region(mask, 10)
    assert region == (5, 38, 10, 10)
    assert region.cut(mask).all()


def test_the_region_is_the_nearest_to_the_centre_among_equals():
    assert best_region(np.ones((41, 61), bool), 11) == (15, 25, 11, 11)
    corners = np.zeros((30, 30), bool)
    corners[0, 0] = corners[29, 29] = True
    assert best_region(corners, 29) == (0, 0, 29, 29)  # both as near: the first


def test_a_small_slide_is_its_own_region():
    assert best_region(np.ones((20, 64), bool), 32) == (0, 16, 20, 32)
    assert best_region(np.eye(8, dtype=bool), 256) == (0, 0, 8, 8)


def test_histograms_profile_and_difference_by_hand():
    image = np.array([[[0, 7, 8], [255, 255, 16]]], np.uint8).repeat(3, axis=0)
    inside = np.array([[True, True, True], [False, True, False]])
    shares = histograms(image, inside)
    assert shares.shape == (3, BINS)
    assert shares[0, [0, 1, 2, BINS - 1]].tolist() == [0.5, 0.25, 0, 0.25]
    np.testing.assert_array_equal(profile(image, 1, inside), [[np.nan, 255, np.nan]] * 3)
    assert profile(image, 0, inside)[2].tolist() == [0, 7, 8]
    other = image.copy()
    other[0] = 255 - image[0]
    assert difference(image, other).tolist() == [[[85, 80, 80], [85, 85, 74]]]


@pytest.mark.parametrize(("slides", "kept"), [(0, []), (1, [3]), (2, [1, 2]), (3, [1, 1, 1]), (5, [1, 0, 1, 0, 1])])
def test_the_patches_shown_are_spread_over_the_slides(slides, kept):
    assert sorted(patches_to_keep(slides)) == sorted(kept)
    assert patches_to_keep(slides)[::2] == kept[::2] or slides == 2
