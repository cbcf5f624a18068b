"""Normalisation (§2.5): hand-computed examples, constants recovered, each refusal."""

from __future__ import annotations

import numpy as np
import pytest

from bundle.common.errors import InputError
from bundle.preparation.pairs.normalisation import (
    SourceScale,
    StainScale,
    balanced,
    colour_ratios,
    normalise_source,
    normalise_stain,
    source_clipped,
    source_scale,
    stain_clipped,
    stain_scale,
    white_balance,
)
from bundle.preparation.pairs.outliers import outliers, robust_z


def rgb(*colours: tuple[float, float, float]) -> np.ndarray:
    return np.array(colours, float).T


def test_source_by_hand():
    scale = source_scale(np.array([290.0, 310.0]), np.array([90.0, 110.0]))
    assert (scale.bone, scale.background, scale.gain) == (300, 100, 100)
    assert normalise_source(np.array([100, 300, 200, 0, 655.35, 700]), scale).tolist() == [
        *(10000, 30000, 20000, 0, 65535, 65535)
    ]
    assert normalise_source(np.zeros(3), scale).dtype == np.uint16


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_source_recovers_gain_and_offset(dtype):
    rng = np.random.default_rng(0)
    truth = rng.integers(5000, 60000, (40, 50)).astype(float)
    bone, background = truth > 40000, truth < 12000
    truth[bone] += 30000 - truth[bone].mean()
    truth[background] += 10000 - truth[background].mean()
    spoilt = truth / 300 + 7 if dtype == np.uint8 else truth * 0.6 + 300
    spoilt = spoilt.astype(np.float32) - 9000 if dtype == np.float32 else np.rint(spoilt).astype(dtype)
    scale = source_scale(spoilt[bone], spoilt[background])
    step = {np.uint8: 300, np.uint16: 1.7, np.float32: 0.1}[dtype]  # what half a grey level, or a float, cannot tell
    assert np.abs(normalise_source(spoilt, scale) - truth).max() <= 0.6 * step + 1


def test_source_clipped_share():
    scale = SourceScale(bone=30000, background=10000)
    assert source_clipped(np.array([-1.0, 0.0, 65535.0, 65536.0]), scale) == 0.5


def test_white_balance_by_hand():
    assert np.allclose(white_balance(rgb((200, 240, 160), (200, 240, 160))), (1.0, 200 / 240, 1.25))


def test_stain_by_hand():
    bone, background = np.tile(rgb((120, 90, 150)), 9), np.tile(rgb((200, 200, 200)), 9)
    scale = stain_scale(bone, background, c=10, c_prime=5)
    assert scale == StainScale((1, 1, 1), low=80, high=205)
    assert normalise_stain(np.full((3, 1, 1), 200, np.uint8), scale)[:, 0, 0].tolist() == [245] * 3
    assert normalise_stain(bone[:, :1, None], scale)[:, 0, 0].tolist() == [82, 20, 143]


def test_stain_bounds_are_clamped():
    scale = stain_scale(np.full((3, 5), 12.0), np.full((3, 5), 253.0), c=10, c_prime=5)
    assert (scale.low, scale.high) == (10, 255)


def test_stain_undoes_a_colour_cast():
    """Background becomes grey whatever its cast, and nothing is clipped between balance and stretch."""
    rng = np.random.default_rng(1)
    grey = rng.uniform(60, 230, (1, 2000))
    cast = np.array([[1.0], [0.8], [0.6]])
    bone, background = cast * grey[:, grey[0] < 100], cast * grey[:, grey[0] > 210]
    scale = stain_scale(bone, background)
    made = normalise_stain(cast[..., None] * grey[None].repeat(1, 0), scale)
    assert np.ptp(made.astype(int), axis=0).max() <= 1


def test_ratios_of_channel_differences_stay_and_ratios_shift():
    rng = np.random.default_rng(2)
    target = rng.uniform(110, 190, (3, 30, 30))
    scale = stain_scale(np.full((3, 4), 100.0), np.full((3, 4), 210.0))
    made = normalise_stain(target, scale).astype(float)
    assert stain_clipped(target, scale) == 0
    before, after = (image[0] - image[1] for image in (target, made)), (image[2] - image[1] for image in (target, made))
    (rg, rg_made), (bg, bg_made) = before, after
    clear = np.abs(bg) > 20
    assert np.allclose(rg_made[clear] / bg_made[clear], rg[clear] / bg[clear], atol=0.12)  # rounding to whole levels
    bone = np.tile(rgb((150, 120, 180)), 4)
    assert colour_ratios(balanced(bone, scale)) == pytest.approx((1.25, 1.5))
    assert colour_ratios(normalise_stain(bone, scale)) == pytest.approx((1.25 + 0.25 * 3, 1.5 + 0.5 * 3), abs=0.1)


FEW = np.arange(3.0)
REFUSED = {
    "source region empty": (lambda: source_scale(np.array([]), FEW), "the region of bone is empty"),
    "both empty": (lambda: source_scale(np.array([]), np.array([])), "the region of bone and of background is empty"),
    "means equal": (lambda: source_scale(np.full(3, 7.0), np.full(3, 7.0)), "bone and background both have mean 7"),
    "swapped": (lambda: source_scale(np.full(3, 1.0), np.full(3, 7.0)), "bone must be the brighter"),
    "noise": (lambda: source_scale(FEW + 1, FEW), "cannot be told from background"),
    "stain empty": (lambda: stain_scale(rgb((1, 2, 3)), np.zeros((3, 0))), "the region of background is empty"),
    "stain swapped": (lambda: stain_scale(rgb((240, 240, 240)), rgb((90, 80, 99))), "background must be the brighter"),
    "black channel": (lambda: stain_scale(rgb((9, 9, 9)), rgb((90, 80, 0))), "a black channel cannot be balanced"),
    "no stretch": (lambda: stain_scale(rgb((2, 2, 2)), rgb((3, 3, 3)), c=0, c_prime=0), "lower c (0) or raise c_prime"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refusals(case):
    run, message = REFUSED[case]
    with pytest.raises(InputError) as error:
        run()
    assert message in str(error.value)


def test_robust_z_by_hand():
    assert np.allclose(robust_z(np.array([1.0, 2, 3, 4, 10]), 0.1), 0.6745 * np.array([-2, -1, 0, 1, 7]))
    assert robust_z(np.array([5.0] * 6), 0.1).tolist() == [0] * 6


def test_outliers_in_words():
    shears = {"a": 0.002, "b": 0.004, "c": 0.008, "d": 0.005, "e": 0.031}
    pairs = {name: {"shear": value, "mutual_information": 0.6} for name, value in shears.items()}
    found = outliers(pairs)
    assert "e: residual shear 0.0310, others 0.0020 to 0.0080." in found
    assert not [line for line in found if line[:3] in ("a: ", "b: ", "c: ", "d: ")]
    assert "cannot be told among 4 pairs" in outliers(dict(list(pairs.items())[:4]))[0]
    alike = {name: {"shear": 0.004 + 0.0001 * number} for number, name in enumerate("abcdef")}
    assert not [line for line in outliers(alike) if ", others " in line]
