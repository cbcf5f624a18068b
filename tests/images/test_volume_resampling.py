"""Scans resampled to cubes of another size: the mean of what lies in each, in the right place, and not held whole."""

import gzip
import tracemalloc

import nibabel
import numpy as np
import pytest
import tifffile
import zarr
from skimage.measure import block_reduce

from bundle.common.errors import InputError
from bundle.images.volumes.volume import load, open_volume, resample
from tests.helpers.scans import SPACING, STACKS, itk_write, random, rotation


@pytest.mark.parametrize("name", STACKS)
def test_integer_ratio_is_block_reduce(name, tmp_path):
    pixels = random(shape=(12, 16, 20))
    STACKS[name](tmp_path / name, pixels)
    done = []
    averaged = resample(open_volume(tmp_path / name, 5), 20, lambda *progress: done.append(progress))
    assert averaged.dtype == np.float32
    assert averaged == pytest.approx(block_reduce(pixels, (4, 4, 4), np.mean), rel=1e-5)
    assert done[-1] == (12, 12)


def test_anisotropic_voxels_become_cubes(tmp_path):
    pixels = random(shape=(12, 18, 24))
    tifffile.imwrite(tmp_path / "s.tif", pixels, photometric="minisblack")
    averaged = resample(open_volume(tmp_path / "s.tif", (6, 4, 3)), 12)
    assert averaged == pytest.approx(block_reduce(pixels, (2, 3, 4), np.mean), rel=1e-5)


def world_of(shape, spacing_mm, origin_mm, direction):
    """World x, y, z of each voxel of a grid, (Z, Y, X, 3)."""
    index = np.stack(np.meshgrid(*(np.arange(size) for size in shape), indexing="ij")[::-1], -1)
    return np.array(origin_mm) + index * np.array(spacing_mm[::-1]) @ np.array(direction).T


@pytest.mark.parametrize(
    ("spacing", "voxel_um", "exact"),
    [((0.004, 0.006, 0.003), 12.0, True), ((0.005,) * 3, 15.0, True)]
    + [(SPACING, voxel_um, False) for voxel_um in (7.07, 8.0, 11.3, 21.0)],
)
def test_a_ramp_in_the_world_stays_one(spacing, voxel_um, exact, tmp_path):
    slope = np.array([3.0, -5.0, 7.0])
    ramp = world_of((40, 42, 44), spacing, (1.0, -2.0, 3.5), rotation()) @ slope
    itk_write(tmp_path / "s.mha", ramp, spacing=spacing)
    pixels, geometry = load(open_volume(tmp_path / "s.mha"), voxel_um)
    assert geometry.spacing_um == (voxel_um,) * 3
    spacing_mm = [size / 1000 for size in geometry.spacing_um]
    expected = world_of(pixels.shape, spacing_mm, geometry.origin_mm, geometry.direction) @ slope
    inner = tuple(slice(None, size - 1) for size in pixels.shape)  # a last box may be half outside
    # a box that cuts a voxel takes its part as of the voxel's value: at most 1/8 of a step and voxel at each end
    steps = np.abs(slope @ rotation()) * spacing[::-1] * spacing[::-1] / (voxel_um / 1000)
    error = pixels[inner] - expected[inner]
    assert np.abs(error).max() < (0 if exact else steps.sum() / 8) + 1e-5
    assert abs(error.mean()) < (0 if exact else steps.sum() / 24) + 1e-5


def test_load_at_its_own_size_is_the_file(tmp_path):
    itk_write(tmp_path / "s.nrrd", random(), spacing=(0.005, 0.005, 0.00503))
    volume = open_volume(tmp_path / "s.nrrd")
    pixels, geometry = load(volume)
    assert pixels.dtype == np.uint16
    assert np.array_equal(pixels, random())
    assert geometry is volume.geometry
    same, geometry = load(volume, 5.0)
    assert same.dtype == np.float32
    assert np.array_equal(same, random().astype(np.float32))
    assert geometry is volume.geometry


def test_voxels_that_are_no_cubes_need_a_size(tmp_path):
    itk_write(tmp_path / "s.nrrd", random())
    with pytest.raises(InputError, match=r"s.nrrd has voxels of 7×6×5 µm .*--voxel_um 7 resamples"):
        load(open_volume(tmp_path / "s.nrrd"))


def test_sizes_that_make_no_sense_are_refused(tmp_path):
    itk_write(tmp_path / "s.nrrd", random())
    volume = open_volume(tmp_path / "s.nrrd")
    for voxel_um in (5.0, 6.9, float("nan")):
        with pytest.raises(InputError, match=rf"voxels of 7×6×5 µm, coarser than the {voxel_um:g} µm asked for"):
            resample(volume, voxel_um)
    with pytest.raises(InputError, match="77×84×85 µm in all, less than one voxel of 500 µm"):
        resample(volume, 500)
    for voxel_um in (0, -5, float("nan"), (5, 5, 0)):
        with pytest.raises(InputError, match=r"--scan_voxel_um .*give one size in µm, or three"):
            open_volume(tmp_path / "s.nrrd", voxel_um)


@pytest.mark.parametrize("name", ["raw.tif", "zlib.tif", "s.nii.gz", "s.mha", "s.zarr"])
def test_resampling_holds_a_few_slices_only(name, tmp_path):
    pixels = np.broadcast_to(np.arange(400, dtype=np.uint16)[:, None, None], (400, 512, 512))  # 210 MB
    pixels = np.ascontiguousarray(pixels)
    path = tmp_path / name
    if name == "s.nii.gz":
        image = nibabel.Nifti1Image(pixels.T, np.eye(4))
        image.header.set_xyzt_units("mm")
        path.write_bytes(gzip.compress(image.to_bytes(), 1))
    elif name == "s.mha":
        itk_write(path, pixels, True)
    elif name == "s.zarr":
        group = zarr.open_group(path, mode="w")
        group.create_array("0", shape=pixels.shape, chunks=(16, 256, 256), dtype="u2")[:] = pixels
        axes = [{"name": each, "type": "space", "unit": "micrometer"} for each in "zyx"]
        group.attrs["ome"] = {"multiscales": [{"axes": axes, "datasets": [{"path": "0"}]}]}
    else:
        STACKS[name](path, pixels)
    size = pixels.nbytes
    del pixels
    volume = open_volume(path, 5)
    tracemalloc.start()
    averaged = resample(volume, 20)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert averaged[:, 5, 7] == pytest.approx(4 * np.arange(100) + 1.5)
    assert peak < size / 2
