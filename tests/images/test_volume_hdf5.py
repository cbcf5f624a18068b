"""Datasets of HDF5 and NeXus files: which one is meant, its voxels and voxel size, and what is not there."""

import os

import h5py
import hdf5plugin
import numpy as np
import pytest

from bundle.common.errors import InputError
from bundle.images.volumes.readers.hdf5 import split_dataset
from bundle.images.volumes.volume import open_volume, resample
from tests.helpers.scans import SHAPE, random


def nexus(path, units="um", scale=1.0, signal="data", kind="group"):
    """A file as NeXus describes it, with axes whose names and order say which is which."""
    with h5py.File(path, "w") as file:
        file.attrs["default"] = "scan"
        entry = file.create_group("scan")
        entry.attrs.update({"NX_class": "NXentry", "default": "shown"})
        data = entry.create_group("shown")
        data.attrs["NX_class"] = "NXdata"
        data["data"] = random()
        data["raw"] = random(seed=1)
        names = ["up", "down", "across"]
        for name, size, step, first in zip(names, SHAPE, (7, 6, 5), (70, -60, 50), strict=True):
            data[name] = (np.arange(size) * step + first) * scale
            data[name].attrs["units"] = units
        if kind == "group":
            data.attrs.update({"signal": signal, "axes": names})
        else:  # before 2014
            data["data"].attrs.update({"signal": 1, "axes": ":".join(names)})
    return path


@pytest.mark.parametrize("kind", ["group", "field"])
@pytest.mark.parametrize(("units", "scale"), [("um", 1.0), ("mm", 1e-3), ("m", 1e-6), ("nm", 1e3)])
def test_nexus_says_which_and_how_large(units, scale, kind, tmp_path):
    path = nexus(tmp_path / "s.nxs", units, scale, kind=kind)
    for given in (path, f"{path}:/scan/shown/data", f"{path}:scan/shown/data"):
        volume = open_volume(type(path)(given))
        assert np.array_equal(volume.read(0, 11), random())
        assert volume.geometry.spacing_um == (7, 6, 5)
        assert volume.geometry.origin_mm == pytest.approx((0.05, -0.06, 0.07))
        assert np.array_equal(volume.geometry.direction, np.eye(3))
    other = open_volume(tmp_path / "s.nxs:/scan/shown/raw", 5)
    assert np.array_equal(other.read(3, 5), random(seed=1)[3:5])


def test_axes_that_fall_faces_and_indices(tmp_path):
    path = nexus(tmp_path / "s.nxs")
    with h5py.File(path, "a") as file:
        data = file["scan/shown"]
        del data["up"], data["across"]
        data["up"] = 70.0 - 7 * np.arange(11)
        data["across"] = 5.0 * np.arange(18)  # faces
        for name in ("up", "across"):
            data[name].attrs["units"] = "µm"
        data.attrs["axes"] = ["across", "down", "up"]
        data.attrs.update({"across_indices": 2, "down_indices": [1], "up_indices": 0})
    geometry = open_volume(path).geometry
    assert geometry.spacing_um == (7, 6, 5)
    assert geometry.origin_mm == pytest.approx((0.0025, -0.06, 0.07))
    assert np.array_equal(geometry.direction, np.diag([1, 1, -1]))


@pytest.mark.parametrize(
    "spoil",
    [
        lambda data: data["up"].attrs.pop("units"),
        lambda data: data["up"].attrs.update(units="pixel"),
        lambda data: data["up"].write_direct(np.square(np.arange(11.0))),
        lambda data: data.attrs.update(axes=[".", "down", "across"]),
    ],
)
def test_an_axis_without_a_length_is_a_missing_voxel_size(spoil, tmp_path):
    path = nexus(tmp_path / "s.nxs")
    with h5py.File(path, "a") as file:
        spoil(file["scan/shown"])
    with pytest.raises(InputError, match="no distance between slices; give the voxel size in µm with --scan_voxel_um"):
        open_volume(path)
    with pytest.raises(InputError, match="with --voxel_um .* --voxel_um 5"):
        open_volume(path, option="--voxel_um")
    assert open_volume(path, 5).geometry.spacing_um == (5, 5, 5)


def test_element_size_of_ilastik_and_fiji(tmp_path):
    with h5py.File(tmp_path / "s.h5", "w") as file:
        file["t0/channel0"] = random()
        file["t0/channel0"].attrs["element_size_um"] = [7.0, 6.0, 5.0]
    assert open_volume(tmp_path / "s.h5").geometry.spacing_um == (7, 6, 5)


def test_the_only_volume_is_taken_and_several_are_listed(tmp_path):
    path = tmp_path / "s.h5"
    with h5py.File(path, "w") as file:
        file["a/angles"] = np.arange(10.0)
        file["a/flat"] = np.zeros((1, 9, 9), np.uint16)
        file["a/scan"] = random()[None, :, :, :, None]
    assert np.array_equal(open_volume(path, 5).read(2, 4), random()[2:4])
    with h5py.File(path, "a") as file:
        file["a/more: of it"] = random(np.float32)
    with pytest.raises(InputError, match="holds 2 datasets of 3 axes") as error:
        open_volume(path, 5)
    assert f"{path}:/a/more: of it (11×14×17 float32)" in str(error.value)
    assert f"{path}:/a/scan (1×11×14×17×1 uint16)" in str(error.value)
    assert "\n" not in str(error.value)
    volume = open_volume(tmp_path / "s.h5:/a/more: of it", 5)
    assert np.array_equal(volume.read(0, 11), random(np.float32))


def test_two_entries_are_not_guessed_between(tmp_path):
    path = nexus(tmp_path / "s.nxs")
    with h5py.File(path, "a") as file:
        del file.attrs["default"]
        assert open_volume(path).shape == SHAPE  # the only entry's
        file.copy("scan", "again")
    with pytest.raises(InputError, match=r"holds 4 datasets .*s.nxs:/again/shown/data"):
        open_volume(path)


WRONG = {
    ":/b": "has no dataset /b",
    ":/a": "s.h5:/a is a group",
    ":/a/colour": "has 4 axes, 9×8×7×3",
    ":/a/one": "has 1 axes",
    ":/a/flat": "is 1×9×9 voxels",
    ":/a/complex": "holds complex64; a scan is grey",
    ":/a/never": "nothing was written to it",
    ":/a/lost": "cannot be read",
    "": "holds no dataset of 3 axes",
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_no_scan_is_refused_in_a_line(name, tmp_path):
    with h5py.File(tmp_path / "s.h5", "w") as file:
        file["a/one"] = np.arange(10.0)
        file["a/flat"] = np.zeros((1, 9, 9), np.uint16)
        file["a/colour"] = np.zeros((9, 8, 7, 3), np.uint8)
        file["a/complex"] = np.zeros((9, 8, 7), np.complex64)
        file["a/lost"] = h5py.ExternalLink("other.h5", "/data")
        if name == ":/a/never":
            file.create_dataset("a/never", (9, 8, 7), np.uint16, chunks=(3, 8, 7))
    with pytest.raises(InputError, match=WRONG[name]) as error:
        open_volume(tmp_path / f"s.h5{name}", 5)
    assert "s.h5" in str(error.value)
    assert "\n" not in str(error.value)


def test_colons_elsewhere(tmp_path, monkeypatch):
    folder = tmp_path / "12:30 scan.h5:x"
    folder.mkdir()
    with h5py.File(folder / "a:b.h5", "w") as file:
        file["c:d"] = random()
    assert open_volume(folder / "a:b.h5", 5).shape == SHAPE
    assert open_volume(folder / "a:b.h5:c:d", 5).shape == SHAPE
    monkeypatch.chdir(folder)
    os.rename("a:b.h5", "C:s.h5")
    path = tmp_path / "x"
    assert split_dataset(path / "C:" / "scan.tif") == (path / "C:" / "scan.tif", "")
    assert open_volume(type(path)("C:s.h5:/c:d"), 5).shape == SHAPE
    with pytest.raises(InputError, match=r"gone.h5 does not exist"):
        open_volume(folder / "gone.h5:/data", 5)


PACKED = {
    "gzip": {"compression": "gzip", "shuffle": True},
    "lzf": {"compression": "lzf"},
    "blosc": hdf5plugin.Blosc(cname="zstd"),
    "lz4": hdf5plugin.LZ4(),
    "bitshuffle": hdf5plugin.Bitshuffle(),
}


@pytest.mark.parametrize("packing", PACKED)
def test_packed_slices(packing, tmp_path):
    with h5py.File(tmp_path / "s.h5", "w") as file:
        file.create_dataset("data", data=random().astype(">u2"), chunks=(4, 7, 17), **PACKED[packing])
    volume = open_volume(tmp_path / "s.h5", 5)
    assert volume.depth == 4
    assert volume.dtype == np.dtype(np.uint16)
    for start, stop in ((0, 11), (9, 11), (1, 4)):
        assert np.array_equal(volume.read(start, stop), random()[start:stop])
    assert resample(volume, 10).shape == (6, 7, 9)


def test_handles_outlive_a_fork(tmp_path):
    with h5py.File(tmp_path / "s.h5", "w") as file:
        file.create_dataset("data", data=random(), chunks=(1, 14, 17), compression="gzip")
    volume = open_volume(tmp_path / "s.h5", 5)
    volume.read(0, 1)
    children = []
    for _ in range(2):
        child = os.fork()
        if child == 0:
            same = all(np.array_equal(volume.read(n, n + 1)[0], random()[n]) for n in [*range(11)] * 5)
            os._exit(0 if same else 1)
        children.append(child)
    assert np.array_equal(volume.read(0, 11), random())
    assert [os.waitpid(child, 0)[1] for child in children] == [0, 0]


def test_the_damaged_slice_is_named(tmp_path):
    path = tmp_path / "s.h5"
    with h5py.File(path, "w") as file:
        dataset = file.create_dataset("data", data=random(), chunks=(1, 14, 17), compression="gzip")
        at = dataset.id.get_chunk_info(7).byte_offset
    content = bytearray(path.read_bytes())
    content[at : at + 20] = bytes(20)
    path.write_bytes(content)
    volume = open_volume(path, 5)
    assert np.array_equal(volume.read(0, 7), random()[:7])
    with pytest.raises(InputError, match="s.h5, slice 7, cannot be read"):
        volume.read(3, 11)


@pytest.mark.parametrize("kept", [0.0, 0.1, 0.5, 0.95])
def test_a_truncated_file_is_refused(kept, tmp_path):
    path = nexus(tmp_path / "s.nxs")
    path.write_bytes(path.read_bytes()[: int(kept * path.stat().st_size)])
    with pytest.raises(InputError, match="s.nxs cannot be read, it may be truncated") as error:
        open_volume(path, 5)
    assert "\n" not in str(error.value)


def virtual(folder, shape=SHAPE, halves=((0, 6), (6, 11))):
    """A volume of which two files hold the slices."""
    layout = h5py.VirtualLayout(shape, np.uint16)
    for number, (start, stop) in enumerate(halves):
        with h5py.File(folder / f"part_{number}.h5", "w") as file:
            file["data"] = random()[start:stop]
        layout[start:stop] = h5py.VirtualSource(f"part_{number}.h5", "data", (stop - start, *shape[1:]))
    with h5py.File(folder / "s.h5", "w") as file:
        file.create_virtual_dataset("all", layout, fillvalue=9)
    return folder / "s.h5"


def test_a_virtual_dataset_is_whole_or_refused(tmp_path, monkeypatch):
    path = virtual(tmp_path)
    assert np.array_equal(open_volume(path, 5).read(0, 11), random())
    part = tmp_path / "part_1.h5"
    with h5py.File(part, "w") as file:
        file["data"] = random()[:3]
    with pytest.raises(InputError, match="s.h5:/all takes voxels from .*part_1.h5, which cannot be read"):
        open_volume(path, 5)
    part.unlink()
    with h5py.File(path) as file:
        assert (file["all"][6:] == 9).all()  # what HDF5 gives for it
    with pytest.raises(InputError, match="s.h5:/all takes voxels from part_1.h5, which does not exist; put it there"):
        open_volume(path, 5)
    with pytest.raises(InputError, match="takes 1190 of its 2618 voxels from no file"):
        open_volume(virtual(tmp_path, halves=((0, 6),)), 5)


def test_a_virtual_dataset_of_its_own_file_and_of_another(tmp_path):
    path = virtual(tmp_path)
    with h5py.File(tmp_path / "outer.h5", "w") as file:
        layout = h5py.VirtualLayout(SHAPE, np.uint16)
        layout[:] = h5py.VirtualSource("s.h5", "all", SHAPE)
        file.create_virtual_dataset("all", layout)
        file["own/data"] = random()
        inner = h5py.VirtualLayout(SHAPE, np.uint16)
        inner[:] = h5py.VirtualSource(".", "own/data", SHAPE)
        file.create_virtual_dataset("own/view", inner)
    for name in ("all", "own/view"):
        assert np.array_equal(open_volume(tmp_path / f"outer.h5:{name}", 5).read(0, 11), random())
    (tmp_path / "part_0.h5").unlink()
    with pytest.raises(InputError, match=f"{path.name}:/all takes voxels from part_0.h5, which does not exist"):
        open_volume(tmp_path / "outer.h5:all", 5)


def test_voxels_in_a_raw_file_beside(tmp_path):
    raw = tmp_path / "s.raw"
    raw.write_bytes(random().tobytes())
    with h5py.File(tmp_path / "s.h5", "w") as file:
        file.create_dataset("data", SHAPE, np.uint16, external=[(str(raw), 0, h5py.h5f.UNLIMITED)])
    assert np.array_equal(open_volume(tmp_path / "s.h5", 5).read(0, 11), random())
    raw.write_bytes(raw.read_bytes()[:-1])
    with pytest.raises(InputError, match="keeps its voxels in .*s.raw, which is missing or too short"):
        open_volume(tmp_path / "s.h5", 5)
