"""Scans as arrays of chunks: HDF5, NeXus, Zarr."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import tensorstore
import zarr

from tests.helpers.scan_cases.case import SHAPE, VOXELS, Case, case


def hdf5(*changes: Callable[[h5py.File], None], voxels: np.ndarray = VOXELS) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        with h5py.File(folder / "s.h5", "w") as file:
            file.create_dataset("entry/data", data=voxels)
            for change in changes:
                change(file)
        return folder / "s.h5"

    return write


def by_h5py(path: Path) -> np.ndarray:
    with h5py.File(path) as file:
        return file["entry/data"][()]


def attributes(**given: Any) -> Callable[[h5py.File], None]:
    return lambda file: file["entry/data"].attrs.update(given)


def nexus(*names: str) -> Callable[[h5py.File], None]:
    """Axes by the NeXus standard, of 7, 6 and 5 µm by the last letter of their names."""

    def change(file: h5py.File) -> None:
        file["entry"].attrs.update({"NX_class": "NXdata", "signal": "data", "axes": list(names)})
        for name, size in zip(names, file["entry/data"].shape, strict=True):
            step = {"z": 7.0, "y": 6.0, "x": 5.0}.get(name[-1], 1.0)
            place = file["entry"].create_dataset(name, data=np.arange(size) * step + 100)
            place.attrs["units"] = "micron" if name[-1] in "zyx" else "deg"

    return change


def scales(file: h5py.File) -> None:
    for axis, (name, size) in enumerate(zip("xyz", file["entry/data"].shape, strict=True)):
        place = file.create_dataset(f"entry/{name}", data=np.arange(size))
        place.make_scale(name)
        file["entry/data"].dims[axis].attach_scale(place)


def labels(file: h5py.File) -> None:
    for axis, name in enumerate("xyz"):
        file["entry/data"].dims[axis].label = name


def tags(file: h5py.File) -> None:
    listed = [{"key": name, "typeFlags": 2, "resolution": 0, "description": ""} for name in "xyz"]
    file["entry/data"].attrs["axistags"] = json.dumps({"axes": listed})


def filled(path: Path) -> np.ndarray:
    voxels = by_h5py(path).astype(np.float32)
    return np.where(voxels == VOXELS[0, 0, 0], np.nan, voxels)


case("HDF5", "one 3D dataset", Case(hdf5(), by_h5py))
case("HDF5", "several 3D datasets", Case(hdf5(lambda file: file.create_dataset("other", data=VOXELS))))
case("HDF5", "`element_size_um`", Case(hdf5(attributes(element_size_um=[7.0, 6.0, 5.0])), by_h5py, (7, 6, 5)))
case(
    "HDF5",
    "axes named by dimension scales, labels or `axistags`",
    *(Case(hdf5(change, voxels=VOXELS.T), lambda path: by_h5py(path).T) for change in (scales, labels, tags)),
)
case(
    "HDF5",
    "`scale_factor` and `add_offset`",
    Case(hdf5(attributes(scale_factor=0.5, add_offset=-1000.0)), lambda path: by_h5py(path) * 0.5 - 1000),
    Case(hdf5(attributes(add_offset=-32768)), lambda path: by_h5py(path).astype(int) - 32768),
)
case("HDF5", "`_FillValue`", Case(hdf5(attributes(_FillValue=VOXELS[0, 0, 0])), filled))
PLACE = (0.1, 0.1, 0.1)
case("NeXus", "axes z, y, x with units", Case(hdf5(nexus("z", "y", "x")), by_h5py, (7, 6, 5), PLACE))
case(
    "NeXus",
    "axes named x, y, z",
    Case(hdf5(nexus("voxel_x", "voxel_y", "voxel_z"), voxels=VOXELS.T), lambda p: by_h5py(p).T, (7, 6, 5), PLACE),
    Case(
        hdf5(nexus("y", "z", "x"), voxels=VOXELS.transpose(1, 0, 2)),
        lambda path: by_h5py(path).transpose(1, 0, 2),
        (7, 6, 5),
        PLACE,
    ),
)
case("NeXus", "some axes named, in another order", Case(hdf5(nexus("x", "first", "second"))))
case("NeXus", "an axis of angles", Case(hdf5(nexus("rotation_angle", "y", "x"))))
case("NeXus", "`scaling_factor`", Case(hdf5(lambda file: file.create_dataset("entry/scaling_factor", data=2.0))))


def ngff(
    version: int = 2, axes: str = "zyx", shape: tuple[int, ...] = SHAPE, at: str = "", **layout: Any
) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        group = zarr.open_group(folder / "s.zarr" / at, mode="w", zarr_format=version)
        group.create_array("0", shape=shape, dtype="u2", **layout)[:] = np.resize(VOXELS, shape)
        step = {"z": 7.0, "y": 6.0, "x": 5.0}
        listed = [{"name": name, **({"type": "space", "unit": "micrometer"} if name in step else {})} for name in axes]
        moved = [
            {"type": "scale", "scale": [step.get(name, 1.0) for name in axes]},
            {"type": "translation", "translation": [100.0 if name in step else 0.0 for name in axes]},
        ]
        about = [{"axes": listed, "datasets": [{"path": "0", "coordinateTransformations": moved}]}]
        group.attrs.update({"multiscales": about} if version == 2 else {"ome": {"multiscales": about}})
        return folder / "s.zarr"

    return write


def bioformats(folder: Path) -> Path:
    zarr.open_group(folder / "s.zarr", mode="w", zarr_format=2).attrs["bioformats2raw.layout"] = 3
    return ngff(at="0")(folder)


def two_images(folder: Path) -> Path:
    group = zarr.open_group(ngff()(folder))
    group.attrs["multiscales"] = 2 * group.attrs["multiscales"]
    return folder / "s.zarr"


def coarse_first(folder: Path) -> Path:
    group = zarr.open_group(ngff()(folder))
    group.create_array("half", data=group["0"][::2, ::2, ::2])
    (image,) = group.attrs["multiscales"]
    group.attrs["multiscales"] = [{**image, "datasets": [{"path": "half"}, *image["datasets"]]}]
    return folder / "s.zarr"


def bare(version: int, **about: Any) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        array = zarr.create_array(folder / "s", shape=SHAPE, chunks=(2, 20, 24), dtype="u2", zarr_format=version)
        array[:] = VOXELS
        array.attrs.update(about)
        return folder / "s"

    return write


def by_zarr(path: Path) -> np.ndarray:
    found: Any = zarr.open(path, mode="r")
    return np.asarray((found if isinstance(found, zarr.Array) else found["0"])[:])


def by_tensorstore(path: Path) -> np.ndarray:
    kvstore = {"driver": "file", "path": f"{path / '0'}/"}
    return np.asarray(tensorstore.open({"driver": "zarr3", "kvstore": kvstore}).result().read().result())


case(
    "OME-Zarr",
    "scale, translation and unit, 0.4 and 0.5",
    *(Case(ngff(version), by_zarr, (7, 6, 5), PLACE) for version in (2, 3)),
)
case(
    "OME-Zarr", "0.5 with shards", Case(ngff(3, chunks=(2, 5, 6), shards=(4, 10, 12)), by_tensorstore, (7, 6, 5), PLACE)
)
case("OME-Zarr", "axes in another order", Case(ngff(axes="xyz", shape=SHAPE[::-1])))
case("OME-Zarr", "several channels, or colour", Case(ngff(axes="czyx", shape=(3, *SHAPE))))
case("OME-Zarr", "several times", Case(ngff(axes="tzyx", shape=(2, *SHAPE))))
case("OME-Zarr", "several images in one group", Case(two_images))
case("OME-Zarr", "a coarser level listed first", Case(coarse_first))
case("Zarr", "bioformats2raw's layout", Case(bioformats))
case("Zarr", "a bare array, Zarr 2 or 3", Case(bare(2), by_zarr), Case(bare(3), by_zarr))
case(
    "Zarr",
    "`scale_factor` and `add_offset`",
    *(
        Case(bare(version, scale_factor=0.5, add_offset=3.0), lambda path: by_zarr(path) * 0.5 + 3)
        for version in (2, 3)
    ),
)
