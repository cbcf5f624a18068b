"""Numbers over a stained volume, as other libraries read them."""

from __future__ import annotations

import json

import numpy as np
import pytest
import zarr

from bundle.common.errors import InputError
from bundle.images.stained import number_map
from bundle.images.stained.number_map import MapSpec, halve, open_map
from bundle.images.stained.spec import StainSpec
from bundle.images.volumes.geometry import Geometry

SHAPE = (70, 1100, 37)
DIRECTION = np.array([[0.0, 1.0, 0.0], [-1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])


@pytest.fixture
def spec() -> MapSpec:
    stain = StainSpec(SHAPE, 3, Geometry((5.0, 4.0, 4.0), (1.0, 2.0, 3.0), DIRECTION), {"who": "test"})
    return MapSpec(stain, 4, "expected_error", "expected colour error (levels of 255)", (0.0, 60.0))


@pytest.fixture
def values(spec) -> np.ndarray:
    found = np.random.default_rng(0).random(spec.shape, np.float32) * 50
    found[3, 5:9] = np.nan
    return found


def write(path, spec, values, order=None):
    number_map.create(path, spec)
    starts = list(range(0, spec.shape[0], spec.depth))
    for start in order or starts:
        number_map.write_slab(path, spec, start, values[start : start + spec.depth])
    number_map.finish(path, spec)
    return path


def test_it_is_in_cubes_of_the_stain(spec):
    assert spec.shape == (18, 275, 10)
    assert spec.depth == 8
    assert spec.geometry.spacing_um == (20.0, 16.0, 16.0)
    # the centre of the first cube: 1.5 voxels from that of the first voxel, along x, y and z of the stain
    assert spec.geometry.origin_mm == pytest.approx((1.0 + 0.006, 2.0 - 0.006, 3.0 + 0.0075))


def test_zarr_reads_it(tmp_path, spec, values):
    group = zarr.open_group(write(tmp_path / "map.ome.zarr", spec, values), mode="r")
    found = group["0"][:]
    assert found.dtype == np.float32
    assert np.array_equal(found[0], values, equal_nan=True)
    assert np.array_equal(group["1"][0], halve(values), equal_nan=True)
    told = group.attrs["multiscales"][0]
    assert [axis["name"] for axis in told["axes"]] == ["c", "z", "y", "x"]
    assert told["datasets"][0]["coordinateTransformations"][0]["scale"] == [1.0, 20.0, 16.0, 16.0]
    assert group.attrs["omero"]["channels"][0]["label"] == "expected colour error (levels of 255)"
    assert group.attrs["omero"]["channels"][0]["window"]["end"] == 60.0


def test_coarser_levels_average_what_is_known():
    cube = np.full((3, 2, 2), np.nan, np.float32)
    cube[0, 0, 0], cube[1, 1, 1] = 2.0, 6.0
    assert np.array_equal(halve(cube), np.array([[[4.0]], [[np.nan]]], np.float32), equal_nan=True)


def test_slabs_in_any_order_give_the_same_bytes_and_it_opens_when_finished(tmp_path, spec, values):
    one = write(tmp_path / "one", spec, values)
    other = write(tmp_path / "other", spec, values, [16, 0, 8, 0])
    files = lambda folder: {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    assert files(one) == files(other)
    opened = open_map(one)
    assert np.array_equal(opened.read((slice(2, 12), slice(250, 275), slice(None)))[..., 0], values[2:12, 250:], True)
    assert opened.about == {"who": "test"}
    assert opened.geometry.spacing_um == (20.0, 16.0, 16.0)
    (other / ".zattrs").unlink()
    with pytest.raises(InputError, match="not finished"):
        open_map(other)
    with pytest.raises(InputError, match="does not exist"):
        open_map(tmp_path / "none")


def test_a_slab_that_is_none_is_refused(tmp_path, spec, values):
    number_map.create(tmp_path / "map", spec)
    for start, slab in ((0, values[:7]), (4, values[4:12]), (0, values[:8].astype(float))):
        with pytest.raises(ValueError, match="slab"):
            number_map.write_slab(tmp_path / "map", spec, start, slab)


def test_the_arrays_say_what_they_hold(tmp_path, spec):
    number_map.create(tmp_path / "map", spec)
    header = json.loads((tmp_path / "map" / "0" / ".zarray").read_text())
    assert (header["dtype"], header["fill_value"], header["chunks"]) == ("<f4", "NaN", [1, 8, 128, 10])
