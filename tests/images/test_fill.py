"""What fills a scan up outside its reconstruction circle is no air, whatever its value."""

from __future__ import annotations

import numpy as np
import pytest
import tifffile

from bundle.common.errors import InputError
from bundle.images.finite import nan_faults
from bundle.images.volumes.fill import find_fill, some_slices, with_air, without_fill
from bundle.images.volumes.volume import open_volume
from bundle.preparation.pairs.intensities import intensities
from bundle.preparation.pairs.proposal import BACKGROUND, BONE, propose
from bundle.staining.hull import find_hull
from tests.helpers.registered_pairs import Truth, make_phantoms, spoilt_source, spoilt_target
from tests.helpers.volumes import write_scan

AIR, TISSUE, HARD = 16000.0, 22000.0, 49000.0


def circle(shape: tuple[int, int], centre: tuple[float, float], radius: float) -> np.ndarray:
    """What lies outside it."""
    rows, columns = np.ogrid[: shape[0], : shape[1]]
    return np.hypot(rows - centre[0], columns - centre[1]) > radius


def sample(shape: tuple[int, int, int] = (9, 160, 160), dtype: type = np.float32, noise: float = 300.0) -> np.ndarray:
    """Bone within soft tissue in air, with noise."""
    rng = np.random.default_rng(1)
    rows, columns = np.mgrid[: shape[1], : shape[2]]
    away = np.hypot(rows - shape[1] / 2, columns - shape[2] / 2)
    plane = np.where(away < 24, HARD, np.where(away < 44, TISSUE, AIR))
    return (plane + rng.normal(0, noise, shape)).astype(dtype)


CIRCLES = {
    "inscribed": ((79.5, 79.5), 80),
    "0.95 of it": ((79.5, 79.5), 76),
    "beyond the sides": ((79.5, 79.5), 95),
    "beside the middle": ((70.0, 88.0), 84),
    "one corner only": ((40.0, 40.0), 130),
}


@pytest.mark.parametrize("value", [0, -1000, 65535, -32768, np.nan, 16000])
@pytest.mark.parametrize("name", CIRCLES)
def test_a_fill_is_found_and_nothing_else_left_out(name, value):
    slices = sample()
    outside = circle((160, 160), *CIRCLES[name])
    slices[:, outside] = value
    found = find_fill(slices)
    assert found is not None
    assert np.array_equal(found.value, value, equal_nan=True)
    assert not (outside & ~found.outside).any()
    inner = circle((160, 160), CIRCLES[name][0], CIRCLES[name][1] - 4)
    assert not (found.outside & ~inner).any()


def test_what_is_no_fill_is_left_alone():
    rng = np.random.default_rng(0)
    assert find_fill(sample()) is None
    clipped = np.clip(rng.normal(0, 3, (9, 160, 160)), 0, 255).astype(np.uint8)  # half of the air is 0
    clipped[:, 40:120, 40:120] = 90
    assert find_fill(clipped) is None
    flat = np.full((9, 160, 160), 100, np.uint8)  # air without noise, about a block and about a rod
    flat[:, 40:120, 40:120] = 200
    assert find_fill(flat) is None
    flat[:, 40:120, 40:120] = 100
    flat[:, ~circle((160, 160), (80, 80), 50)] = 200
    assert find_fill(flat) is None
    turned = sample()  # a corner cut off in a straight line, as by a rotation
    rows, columns = np.mgrid[:160, :160]
    turned[:, rows + columns < 60] = 0
    assert find_fill(turned) is None
    assert find_fill(np.zeros((3, 40, 40))) is None


def test_empty_slices_at_an_end_do_not_hide_it():
    slices = sample()
    slices[:, circle((160, 160), (79.5, 79.5), 80)] = 0
    slices[0] = 0
    assert find_fill(slices) is not None


@pytest.mark.parametrize("dtype", [np.uint16, np.int32, np.float32])
@pytest.mark.parametrize("value", ["least", 0, "most"])
def test_intensities_are_those_of_the_scan_without_a_circle(dtype, value, tmp_path):
    slices = sample(dtype=dtype)
    info = np.finfo(dtype) if np.issubdtype(dtype, np.floating) else np.iinfo(dtype)
    slices[:, circle((160, 160), (79.5, 79.5), 79)] = {"least": info.min, "most": info.max}.get(value, value)
    tifffile.imwrite(tmp_path / "s.tif", slices, photometric="minisblack")
    said = intensities(str(tmp_path / "s.tif"), output=str(tmp_path / "p.png"))
    bone, background = map(float, said.splitlines()[-1].split()[1::2])
    assert bone == pytest.approx(HARD, rel=0.01)
    assert background == pytest.approx(AIR, rel=0.01)
    assert "outside the reconstruction circle (2" in said
    assert sum("Left out" in line for line in said.splitlines()) == 1


def test_nan_outside_is_left_out_and_nan_inside_refused(tmp_path):
    slices = sample()
    slices[:, circle((160, 160), (79.5, 79.5), 79)] = np.nan
    tifffile.imwrite(tmp_path / "s.tif", slices, photometric="minisblack")
    said = intensities(str(tmp_path / "s.tif"), output=str(tmp_path / "p.png"))
    assert "Left out: nan outside the reconstruction circle" in said
    assert f"take NaN there with --fill_nan {said.split()[-1]}." in said
    assert float(said.split()[-1]) == pytest.approx(AIR, rel=0.01)
    slices[4, 80, 80] = np.nan
    tifffile.imwrite(tmp_path / "s.tif", slices, photometric="minisblack")
    with pytest.raises(InputError, match=r"s.tif, in the slices read, has 1 NaN or infinite pixels; fill or crop"):
        intensities(str(tmp_path / "s.tif"), output=str(tmp_path / "p.png"))


def test_a_background_of_one_value_is_doubted(tmp_path):
    """As in a scan with its fill along another axis, which ends at no circle in a slice."""
    slices = sample()
    slices[:, :, :20] = slices[:, :, 140:] = 0
    tifffile.imwrite(tmp_path / "s.tif", slices, photometric="minisblack")
    said = intensities(str(tmp_path / "s.tif"), output=str(tmp_path / "p.png"))
    assert "Nearly all of background is one exact value" in said
    tifffile.imwrite(tmp_path / "s.tif", sample(), photometric="minisblack")
    assert "one exact value" not in intensities(str(tmp_path / "s.tif"), output=str(tmp_path / "p.png"))


@pytest.mark.parametrize("value", [0, 30000, 65535])
def test_the_hull_is_that_of_the_sample(value, tmp_path):
    voxels = sample((40, 160, 160), np.uint16)
    hull = find_hull(open_volume(write_scan(tmp_path / "full.nii", voxels)), HARD, AIR)
    voxels[:, circle((160, 160), (79.5, 79.5), 79)] = value
    volume = open_volume(write_scan(tmp_path / "s.nii", voxels))
    expected, found = (each.slab("z", 0, 40, volume.shape) for each in (hull, find_hull(volume, HARD, AIR)))
    assert (expected & found).sum() / (expected | found).sum() > 0.98


def test_nan_outside_becomes_air_where_asked_for(tmp_path):
    voxels = sample((20, 64, 64))
    outside = circle((64, 64), (31.5, 31.5), 31)
    voxels[:, outside] = np.nan
    volume = open_volume(write_scan(tmp_path / "s.nii", voxels))
    assert with_air(volume, None) is volume
    pixels = with_air(volume, AIR).read(3, 20)
    assert np.array_equal(pixels, np.where(outside, np.float32(AIR), voxels[3:]))
    assert nan_faults("s", pixels) == []
    voxels[7, 30, 30] = np.nan
    holes = with_air(open_volume(write_scan(tmp_path / "t.nii", voxels)), AIR).read(0, 20)
    assert nan_faults("t", holes) == ["t has 1 NaN or infinite pixels; fill or crop them."]
    for value in (True, "air", np.inf):
        with pytest.raises(InputError, match="fill_nan is .*; it must be a number"):
            with_air(volume, value)
    full = open_volume(write_scan(tmp_path / "full.nii", sample((20, 64, 64))))
    with pytest.raises(InputError, match=r"full.nii has no NaN outside a reconstruction circle; leave it out"):
        with_air(full, AIR)


def test_a_fill_is_replaced_in_the_scans_own_type(tmp_path):
    voxels = sample((12, 64, 64), np.uint16)
    voxels[:, circle((64, 64), (31.5, 31.5), 31)] = 0
    volume = open_volume(write_scan(tmp_path / "s.nii", voxels))
    slices, places = some_slices(volume)
    assert places == [1, 2, 3, 4, 6, 7, 8, 9, 10]
    fill = find_fill(slices)
    for value, stored in ((AIR + 0.4, int(AIR)), (-5, 0)):
        pixels = without_fill(volume, fill, value).read(0, 12)
        assert pixels.dtype == np.uint16
        assert (pixels[:, fill.outside] == stored).all()
        assert np.array_equal(pixels[:, ~fill.outside], voxels[:, ~fill.outside])


@pytest.fixture(scope="module")
def phantom(tmp_path_factory: pytest.TempPathFactory) -> Truth:
    return make_phantoms(tmp_path_factory.mktemp("phantoms"))["Mg"]


@pytest.mark.parametrize("value", [-9000, 0, 65535])
def test_a_proposal_from_a_pair_leaves_the_fill_out(phantom, value):
    source, target = spoilt_source(phantom.source), spoilt_target(phantom.target)
    air = np.random.default_rng(0).choice(source[:20, :12].ravel(), (260, 260))
    air[50:210, 50:210] = source
    glass = np.random.default_rng(0).choice(target[:, :20, :12].reshape(3, -1), 260 * 260, axis=1)
    glass = glass.reshape(3, 260, 260)
    glass[:, 50:210, 50:210] = target
    field = np.ones(air.shape, bool)
    whole, _ = propose(air, glass, field)
    rows, columns = np.mgrid[:260, :260]
    outside = np.hypot((rows - 129.5) / 0.9, columns - 129.5) > 130  # an ellipse: the plane lies oblique
    regions, _ = propose(np.where(outside, np.float32(value), air), glass, field)
    for region in (BONE, BACKGROUND):
        assert air[regions == region].mean() == pytest.approx(air[whole == region].mean(), rel=0.03)
    assert not ((regions == BACKGROUND) & outside).any()


def test_the_cases(shared, tmp_path):
    found = {}
    for name in ("full_u16", "zero_u16"):
        said = intensities(str(shared / "cases" / "volumes" / f"{name}.nii.gz"), output=str(tmp_path / "p.png"))
        found[name] = [float(word) for word in said.splitlines()[-1].split()[1::2]]
    assert found["zero_u16"] == pytest.approx([49158, 16381], rel=1e-3)
    assert found["full_u16"] == pytest.approx([49158, 16381], rel=1e-3)
