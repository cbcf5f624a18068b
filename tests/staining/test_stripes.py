"""The stripe index finds planted flicker, along any axis, and nothing else."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from bundle.staining.stripes import Stripes, measure_stripes

SHAPE = (96, 104, 112)


@pytest.fixture(scope="module")
def source() -> np.ndarray:
    """A scan of detail that is alike in all directions."""
    texture = gaussian_filter(np.random.default_rng(0).standard_normal(SHAPE), 2)
    return (20000 + 3000 * texture / texture.std()).astype(np.float32)


@pytest.fixture(scope="module")
def stain(source) -> np.ndarray:
    """Its stain, darker where the scan is brighter, with noise of its own; grey, so luminance is the value."""
    noise = np.random.default_rng(1).standard_normal(SHAPE)
    return (140 - 40 * np.tanh((source - 20000) / 4000) + 3 * noise).astype(np.float32)


def found(stain: np.ndarray, source: np.ndarray, mask: np.ndarray | None = None, depth: int = 32) -> Stripes:
    reader = lambda volume: lambda start, stop: volume[start:stop]
    return measure_stripes(
        reader(stain), reader(source), stain.shape[:3], None if mask is None else reader(mask), depth
    )


def flicker(levels: float, axis: int = 0, region: int | None = None) -> np.ndarray:
    """Shifts of whole slices across an axis, or of square regions of them, independent from slice to slice."""
    size = SHAPE[axis]
    others = [SHAPE[other] for other in range(3) if other != axis]
    across = [1, 1] if region is None else [-(-other // region) for other in others]
    shifts = np.random.default_rng(2).standard_normal((size, *across))
    shifts *= levels / shifts.std()
    if region is not None:
        shifts = shifts.repeat(region, 1).repeat(region, 2)[:, : others[0], : others[1]]
    return np.moveaxis(shifts, 0, axis)


def test_a_stain_without_flicker_has_index_1(stain, source):
    plain = found(stain, source)
    assert plain.index == pytest.approx([1, 1, 1], abs=0.25)
    assert max(plain.flicker_levels) < 0.5


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_flicker_is_recovered_in_grey_levels_and_raises_the_index_of_its_axis_alone(stain, source, axis):
    plain = found(stain, source)
    indices = [plain.index[axis]]
    for levels in (1.0, 2.0, 5.0):
        striped = found(stain + flicker(levels, axis), source)
        assert striped.flicker_levels[axis] == pytest.approx(levels, rel=0.2)
        others = [other for other in range(3) if other != axis]
        assert all(striped.flicker_levels[other] < 0.5 for other in others)
        assert all(striped.index[other] <= plain.index[other] for other in others)
        indices.append(striped.index[axis])
    assert indices[1] > 1.5 * indices[0]
    assert indices == sorted(indices)
    assert indices[3] > 2 * indices[2] * 0.9


def test_regions_of_64_voxels_count_and_single_boxes_do_not(stain, source):
    regions = [found(stain + flicker(levels, 0, 64), source) for levels in (1.0, 2.0, 5.0)]
    assert [one.index[0] for one in regions] == sorted(one.index[0] for one in regions)
    assert regions[1].flicker_levels[0] == pytest.approx(2 * np.sqrt(0.75), rel=0.2)  # a quarter of the pairs straddle
    assert found(stain + flicker(2.0, 0, 8), source).flicker_levels[0] < 0.7


def test_noise_and_shading_are_no_flicker(stain, source):
    rng = np.random.default_rng(3)
    z, y, _ = np.meshgrid(*(np.linspace(0, 1, size) for size in SHAPE), indexing="ij")
    for changed in (stain + rng.normal(0, 10, SHAPE), stain + 30 * np.sin(5 * z) + 20 * y * z):
        assert found(changed, source).index == pytest.approx([1, 1, 1], abs=0.25)
        assert max(found(changed, source).flicker_levels) < 0.5


def test_turning_the_volumes_turns_the_result(stain, source):
    striped = stain + flicker(2.0)
    plain = found(striped, source)
    turned = found(striped.transpose(1, 2, 0), source.transpose(1, 2, 0))
    assert turned.index == pytest.approx([plain.index[axis] for axis in (1, 2, 0)], rel=1e-3)
    assert turned.flicker_levels == pytest.approx([plain.flicker_levels[axis] for axis in (1, 2, 0)], rel=1e-3)


def test_layers_that_the_source_has_too_are_no_stripes(source):
    layered = source + 400 * flicker(1.0).astype(np.float32)
    assert found(140 - 0.01 * layered, layered).index[0] < 1.2
    assert found(140 - 0.01 * layered, source).index[0] > 3


def test_one_pass_in_order_and_any_depth_gives_the_same(stain, source):
    striped = np.repeat((stain + flicker(2.0))[:91, ..., None], 4, axis=3)  # RGBA, and a last layer that is cut
    calls: list[tuple[int, int]] = []

    def read(start: int, stop: int) -> np.ndarray:
        calls.append((start, stop))
        return striped[start:stop]

    one = measure_stripes(read, lambda start, stop: source[start:stop], striped.shape[:3], depth=20)
    assert calls == [(0, 24), (24, 48), (48, 72), (72, 91)]
    for depth in (8, 91):
        other = found(striped, source[:91], depth=depth)
        assert other.index == pytest.approx(one.index, rel=1e-6)
        assert other.flicker_levels == pytest.approx(one.flicker_levels, rel=1e-6)


def test_flicker_equals_its_formula(stain, source):
    stain = stain + flicker(1.0)
    boxes = stain.reshape(96, 13, 8, 14, 8).mean((2, 4), dtype=np.float64)
    change = (boxes[:-2] - 2 * boxes[1:-1] + boxes[2:]) / np.sqrt(6)
    products = [change[:, 2:] * change[:, :-2], change[..., 2:] * change[..., :-2]]
    expected = np.concatenate([part.ravel() for part in products]).mean()
    assert expected > 0
    assert found(stain, source).flicker_levels[0] == pytest.approx(np.sqrt(expected), rel=1e-3)


def test_only_boxes_inside_the_sample_count(stain, source):
    inside = np.zeros(SHAPE, bool)
    inside[:, 16:88, 16:88] = True
    outside_only = stain + np.where(inside, 0, flicker(5.0))
    assert found(outside_only, source).index[0] > 2
    assert found(outside_only, source, inside).index[0] == pytest.approx(1, abs=0.35)


def test_without_a_mask_a_background_of_one_colour_does_not_count(stain, source):
    striped = stain + flicker(2.0)
    wide = np.full((96, 208, 208), 235.0)
    wide[:, 24:128, 24:136] = striped
    scan = np.random.default_rng(4).normal(10000, 50, wide.shape)  # quieter than the sample
    scan[:, 24:128, 24:136] = source
    assert found(wide, scan).flicker_levels[0] == pytest.approx(found(striped, source).flicker_levels[0], rel=0.1)
    assert found(wide, scan).index[0] > 3


def test_what_is_too_small_or_does_not_change_is_not_defined():
    small = np.zeros((20, 20, 20))
    assert found(small, small).index == (None, None, None)
    level = np.full(SHAPE, 7.0)
    assert found(level, level, np.ones(SHAPE, bool)) == Stripes((0.0, 0.0, 0.0), (None, None, None))


def test_a_reader_of_another_shape_is_refused(stain, source):
    with pytest.raises(ValueError, match=r"slices 0 to 32 are \(32, 104, 100\), not \(32, 104, 112\)"):
        measure_stripes(
            lambda start, stop: stain[start:stop], lambda start, stop: source[start:stop, :, :100], stain.shape
        )
