"""Truth measures find what was planted, and only that."""

from __future__ import annotations

import numpy as np
import pytest
from monai.data.utils import dense_patch_slices
from scipy.ndimage import gaussian_filter

from bundle.evaluation.truth import (
    TissueColours,
    boundary_error_um,
    correlation,
    dark_spots,
    false_cells_per_mm2,
    lacunae_found,
    precision_recall,
    seam_index,
    window_borders,
)

BONE, DARK, LAYER_GREY = (190, 156, 202), (60, 40, 100), (112, 104, 110)
CENTRES = [(row, column) for row in range(12, 60, 12) for column in range(12, 60, 12)]


def discs(centres, radius: float = 1.6, side: int = 72) -> np.ndarray:
    rows, columns = np.mgrid[:side, :side]
    return np.any([np.hypot(rows - row, columns - column) <= radius for row, column in centres], axis=0)


def painted(spots: np.ndarray, ground=BONE) -> np.ndarray:
    image = np.where(spots[..., None], DARK, ground).astype(float)
    return np.rint(gaussian_filter(image, (0.6, 0.6, 0))).astype(np.uint8).transpose(2, 0, 1)


def test_every_lacuna_shown_is_found_and_a_removed_one_is_missed():
    lacunae, bone = discs(CENTRES), np.ones((72, 72), bool)
    assert lacunae_found(painted(lacunae), lacunae, bone)[:2] == (1.0, 1.0)
    recall, precision, _ = lacunae_found(painted(discs(CENTRES[1:])), lacunae, bone)
    assert (recall, precision) == (pytest.approx(15 / 16), 1.0)


def test_an_added_spot_costs_precision_but_no_recall():
    lacunae, bone = discs(CENTRES), np.ones((72, 72), bool)
    recall, precision, _ = lacunae_found(painted(discs([*CENTRES, (18, 18)])), lacunae, bone)
    assert (recall, precision) == (1.0, pytest.approx(16 / 17))


def test_spots_two_pixels_off_count_and_four_do_not():
    lacunae, bone = discs(CENTRES, radius=1.0), np.ones((72, 72), bool)
    shifted = lambda by: painted(discs([(row, column + by) for row, column in CENTRES], radius=1.0))
    assert lacunae_found(shifted(2), lacunae, bone)[0] == 1.0
    assert lacunae_found(shifted(5), lacunae, bone)[0] == 0.0


def test_recall_by_chance_is_that_of_spots_laid_anywhere():
    rng, bone = np.random.default_rng(0), np.ones((72, 72), bool)
    lacunae = discs(CENTRES)
    found = []
    for _ in range(200):
        spots = rng.integers(3, 69, (12, 2))
        recall, _, chance = lacunae_found(painted(discs([tuple(spot) for spot in spots], radius=1.0)), lacunae, bone)
        found.append((recall, chance))
    measured, expected = np.mean(found, axis=0)
    assert measured == pytest.approx(expected, abs=0.04)


def test_nothing_to_find_is_none_and_nothing_found_is_zero():
    lacunae, bone = discs(CENTRES), np.ones((72, 72), bool)
    flat = painted(np.zeros((72, 72), bool))
    assert lacunae_found(flat, lacunae, bone) == (0.0, None, 0.0)
    assert lacunae_found(painted(lacunae), np.zeros((72, 72), bool), bone) == (None, 0.0, None)
    assert dark_spots(255 - painted(lacunae)).shape[0] < len(CENTRES)  # bright spots are no cells


def test_cells_added_to_the_layer_are_counted_per_area():
    layer = np.zeros((72, 72), bool)
    layer[8:64, 8:64] = True
    inner = 52 * 52 * (5 / 1000) ** 2  # without 2 px at its edge
    assert false_cells_per_mm2(painted(np.zeros_like(layer), LAYER_GREY), layer, 5.0) == 0.0
    two = painted(discs([(30, 30), (50, 20)]), LAYER_GREY)
    assert false_cells_per_mm2(two, layer, 5.0) == pytest.approx(2 / inner)
    assert false_cells_per_mm2(two, np.zeros_like(layer), 5.0) is None


@pytest.mark.parametrize("shift", [1, 2, 4])
def test_a_shifted_boundary_is_measured_in_um(shift):
    true, found = np.zeros((80, 80), bool), np.zeros((80, 80), bool)
    true[:, 20:40] = True
    found[:, 20 + shift : 40 + shift] = True
    assert boundary_error_um(found, true, 5.0) == pytest.approx(5.0 * shift)
    assert boundary_error_um(true, true, 5.0) == 0


def test_a_boundary_leaves_out_what_is_far_and_says_when_nothing_is_there():
    true = np.zeros((80, 80), bool)
    true[30:40, 20:30] = True
    far = true.copy()
    far[70:, 70:] = True
    assert boundary_error_um(far, true, 5.0) == 0
    assert boundary_error_um(np.zeros_like(true), true, 5.0) == float("inf")
    assert boundary_error_um(true, np.zeros_like(true), 5.0) is None


def test_precision_and_recall_by_hand():
    found, true = np.zeros((4, 4), bool), np.zeros((4, 4), bool)
    found[0, :], true[0, 1:], true[1, :2] = True, True, True
    assert precision_recall(found, true) == (3 / 4, 3 / 5)
    assert precision_recall(np.zeros_like(true), true) == (None, 0.0)


def test_an_inverted_image_has_the_opposite_sign():
    image = np.random.default_rng(0).integers(0, 256, (3, 32, 32), dtype=np.uint8)
    mask = np.ones((32, 32), bool)
    assert correlation(image, image, mask) == pytest.approx(1)
    assert correlation(255 - image, image, mask) == pytest.approx(-1)
    assert correlation(np.full_like(image, 9), image, mask) == 0
    half = image.copy()
    half[:, :, 16:] = 255 - half[:, :, 16:]
    mask[:, 16:] = False
    assert correlation(half, image, mask) == pytest.approx(1)


def test_tissues_are_told_apart_by_the_colours_of_labelled_stains():
    rng = np.random.default_rng(0)
    labels = np.repeat(np.array([1, 2, 3], np.uint8), 24)[:, None] * np.ones((1, 72), np.uint8)
    colours = np.array([(0, 0, 0), BONE, (84, 132, 220), LAYER_GREY], float)
    stain = lambda: np.clip(colours[labels] + rng.normal(0, 6, (72, 72, 3)), 0, 255).astype(np.uint8).transpose(2, 0, 1)
    tissues = {"bone": [1], "new bone": [2], "degradation layer": [3], "screw": [9]}
    known = TissueColours([(stain(), labels, np.ones((72, 72), bool))], tissues)
    assert known.names == ["bone", "new bone", "degradation layer"]  # no pixel shows a screw
    found = known.region(stain(), "new bone")
    precision, recall = precision_recall(found, labels == 2)
    assert min(precision, recall) > 0.95
    assert not known.region(stain(), "screw").any()


@pytest.mark.parametrize(("size", "window", "step"), [(300, 256, 64), (1000, 256, 64), (256, 256, 64), (100, 64, 48)])
def test_window_borders_are_where_monai_puts_them(size, window, step):
    slices = dense_patch_slices((size, size), (min(window, size),) * 2, (step, step))
    edges = {edge for place in slices for edge in (place[0].start, place[0].stop)} - {0, size}
    assert set(window_borders(size, window, step)) == edges


def test_a_planted_seam_is_seen_and_a_smooth_image_has_none():
    rng = np.random.default_rng(0)
    smooth = np.stack([gaussian_filter(rng.normal(128, 1, (512, 512)), 3) for _ in range(3)])
    smooth = np.clip(128 + (smooth - 128) * 150, 0, 255)
    assert seam_index(smooth.astype(np.uint8), 256, 64) == pytest.approx(1, abs=0.1)
    seamed = smooth.copy()
    for border in window_borders(512, 256, 64):
        seamed[:, border:] += 6 * (-1) ** (border // 64)
    assert seam_index(np.clip(seamed, 0, 255).astype(np.uint8), 256, 64) > 1.3
    assert seam_index(smooth[:, :256, :256].astype(np.uint8), 256, 64) is None
