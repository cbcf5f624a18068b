"""The labelling index on slides of known index, and its intervals against other implementations."""

from __future__ import annotations

from statistics import NormalDist

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter
from scipy.spatial import KDTree

from bundle.common.errors import InputError
from bundle.common.palette import POSITIVE
from bundle.evaluation.unpaired.labelling_index import (
    DAB_THRESHOLD,
    difference_interval,
    find_nuclei,
    index,
    outlined,
    resolution_note,
    wilson,
)
from bundle.images.slides import read_slide
from bundle.images.stain_vectors import mixed

PIXEL_UM = 0.5
ACROSS = 14  # px; 7 µm
SIDE = 280


def slide(share: float, apart: float, noise: float = 0.0, side: int = SIDE, seed: int = 0, across: int = ACROSS):
    """An IHC slide of nuclei at random places, some of them brown.

    Args:
        share: of positive nuclei.
        apart: least distance of centres, in diameters; below 1 they overlap.
        noise: standard deviation, grey levels.

    Returns:
        (3, H, W) uint8, centres (N, 2), which are positive (N,).
    """
    rng = np.random.default_rng(seed)
    drawn = rng.uniform(across, side - across, (8 * side**2 // across**2, 2))
    clashes = KDTree(drawn).query_ball_point(drawn, apart * across)
    kept: set[int] = set()
    for number, near in enumerate(clashes):
        kept |= {number} if kept.isdisjoint(near) else set()
    centres = drawn[sorted(kept)]
    positive = rng.permutation(np.arange(len(centres)) < round(share * len(centres)))
    stains = np.zeros((3, side, side))
    stains[0] = 0.08  # cytoplasm
    distance, nearest = KDTree(centres).query(np.moveaxis(np.indices((side, side)), 0, -1))
    for which, densities in ((positive, [0.2, 0, 0.55]), (~positive, [0.5, 0, 0.02])):
        stains[:, (distance <= across / 2) & which[nearest]] = np.array(densities)[:, None]
    stains = gaussian_filter(stains, (0, 0.8, 0.8))
    rgb = mixed(stains).astype(float) + rng.normal(0, noise, (3, side, side))
    return np.clip(np.rint(rgb), 0, 255).astype(np.uint8), centres, positive


@pytest.mark.parametrize("share", [0.0, 0.1, 0.35, 0.8])
@pytest.mark.parametrize(("apart", "noise"), [(1.3, 0), (1.3, 8), (0.95, 4)])
def test_a_known_index_is_recovered(share, apart, noise):
    rgb, centres, positive = slide(share, apart, noise)
    found = find_nuclei(rgb, PIXEL_UM)
    # in a crowd where all nuclei touch or overlap, some are taken for one; the index does not suffer
    assert len(found.rows) == pytest.approx(len(centres), rel=0.02 if apart > 1 else 0.06)
    assert index(*found.counts(DAB_THRESHOLD)) == pytest.approx(positive.mean(), abs=0.025)


def test_nuclei_are_where_they_were_put_and_hold_what_they_were_given():
    rgb, centres, positive = slide(0.3, 1.3, 3)
    found = find_nuclei(rgb, PIXEL_UM)
    distances = np.hypot(*(centres[:, None] - np.stack([found.rows, found.columns], 1)[None]).transpose(2, 0, 1))
    nearest = distances.argmin(1)
    assert (distances.min(1) < 2).all()
    np.testing.assert_array_equal(found.dab[nearest] > DAB_THRESHOLD, positive)
    assert np.median(found.dab[nearest[positive]]) == pytest.approx(0.55, abs=0.06)
    assert np.median(found.hematoxylin[nearest[~positive]]) == pytest.approx(0.5, abs=0.06)


@pytest.mark.parametrize("factor", [2, 4])
def test_at_a_lower_magnification_the_index_is_nearly_the_same(factor):
    rgb, centres, positive = slide(0.3, 1.4)
    coarse = rgb.reshape(3, SIDE // factor, factor, SIDE // factor, factor).mean((2, 4))
    found = find_nuclei(np.rint(coarse).astype(np.uint8), PIXEL_UM * factor)
    assert found.labels.shape == (found.scale * SIDE // factor,) * 2
    assert len(found.rows) == pytest.approx(len(centres), rel=0.05)
    assert index(*found.counts(DAB_THRESHOLD)) == pytest.approx(positive.mean(), abs=0.03)


def test_counts_are_of_the_nuclei_whose_centre_is_inside():
    rgb, centres, positive = slide(0.5, 1.3)
    found = find_nuclei(rgb, PIXEL_UM)
    left = np.zeros((SIDE, SIDE), bool)
    left[:, : SIDE // 2] = True
    parts = [found.counts(DAB_THRESHOLD, found.inside(half)) for half in (left, ~left)]
    assert tuple(map(sum, zip(*parts, strict=True))) == found.counts(DAB_THRESHOLD)
    assert parts[0][1] == pytest.approx((centres[:, 1] < SIDE // 2).sum(), abs=3)


def test_an_empty_slide_has_no_nuclei_and_no_index():
    found = find_nuclei(np.full((3, 64, 64), 250, np.uint8), PIXEL_UM)
    assert found.counts(DAB_THRESHOLD) == (0, 0)
    assert index(0, 0) is None
    assert wilson(0, 0) is None


def test_magnifications_too_low_are_refused_or_told():
    with pytest.raises(InputError, match=r"a nucleus of 7 µm \(nucleus_um\) is 1.4 px across at 5 µm a pixel"):
        find_nuclei(np.zeros((3, 32, 32), np.uint8), 5.0)
    with pytest.raises(InputError, match="nucleus_um is 0; give the diameter"):
        find_nuclei(np.zeros((3, 32, 32), np.uint8), 1.0, 0)
    assert "only 2.0 px across" in resolution_note(3.48, 7)
    assert resolution_note(0.5, 7) == ""


def test_wilson_is_the_closed_form():
    z = NormalDist().inv_cdf(0.975)
    centre, half = (30 + z**2 / 2) / (200 + z**2), z / (200 + z**2) * np.sqrt(30 * 170 / 200 + z**2 / 4)
    assert wilson(30, 200) == pytest.approx((centre - half, centre + half))
    assert wilson(0, 50)[0] == 0


def test_the_interval_of_a_difference_covers_what_was_planted():
    rng = np.random.default_rng(1)
    covered = 0
    for trial in range(60):
        sizes = rng.integers(40, 80, 12)
        level = rng.uniform(0.1, 0.4, 12)  # the same regions in both stains
        real = [(int(rng.binomial(n, p)), int(n)) for n, p in zip(sizes, level, strict=True)]
        virtual = [(int(rng.binomial(n, p + 0.1)), int(n)) for n, p in zip(sizes, level, strict=True)]
        low, high = difference_interval(virtual, real, seed=trial)
        covered += low <= 0.1 <= high
    assert 50 <= covered <= 60  # 95 %, less what a bootstrap of 12 regions lacks
    assert difference_interval(virtual, real, seed=3) == difference_interval(virtual, real, seed=3)
    assert difference_interval(real, real) == (0, 0)
    assert difference_interval([(1, 2)], [(1, 2)]) is None
    assert difference_interval([(0, 0)] * 3, real[:3]) is None
    with pytest.raises(ValueError, match="2 virtual units, 3 real ones"):
        difference_interval(virtual[:2], real[:3])


def test_outlines_are_red_where_nuclei_are_brown():
    rgb, centres, positive = slide(0.5, 1.4, side=150)
    picture = outlined(rgb, find_nuclei(rgb, PIXEL_UM), DAB_THRESHOLD)
    red = np.all(picture == np.array(POSITIVE).reshape(3, 1, 1), axis=0)
    rows, columns = np.mgrid[:150, :150]
    brown = np.zeros((150, 150), bool)
    for row, column in centres[positive]:
        brown |= np.hypot(rows - row, columns - column) < ACROSS
    assert red.sum() > 20 * positive.sum()
    assert not (red & ~brown).any()


def test_real_nuclei_that_are_called_positive_are_brown(shared):
    rgb = read_slide(shared / "data/lung_he_ki67/ki67_affine.png").pixels[:3, 200:400, 380:580]
    found = find_nuclei(np.ascontiguousarray(rgb), 3.48)
    places = rgb[:, found.rows, found.columns].astype(int)
    positive = found.dab > DAB_THRESHOLD
    assert 0.01 < positive.mean() < 0.2
    # a blue nucleus has more blue than red; a brown one has not
    assert (places[2] - places[0])[positive].mean() < 5 < 20 < (places[2] - places[0])[~positive].mean()
