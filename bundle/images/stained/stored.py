"""Stained volumes written slab by slab by any number of processes, and read box by box.

Three formats, none of which is ever whole in memory:

- ``ome-zarr``: NGFF 0.4 on Zarr 2, with coarser levels for viewers. It states scale and translation along its axes;
  the direction matrix, which NGFF 0.4 cannot express, is in an attribute of our own.
- ``tif``: one uncompressed OME-BigTIFF. It states the voxel size; OME has no field for an origin or a direction, so
  these are in an annotation that only this program reads.
- ``nii``: one uncompressed NIfTI-1, RGB24 or RGBA32, with all of the geometry, up to 32767 voxels along an axis.

A volume is no OME-Zarr, TIFF or NIfTI before :func:`finish`: no viewer opens what was left unfinished.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bundle.common.errors import InputError
from bundle.images.slides import reading
from bundle.images.stained import ome_zarr, tiff_nifti
from bundle.images.stained.ome_zarr import DEPTH, level_shapes
from bundle.images.stained.spec import StainSpec
from bundle.images.volumes.geometry import Geometry

FORMATS = ("ome-zarr", "tif", "nii")
NAMES = dict(zip(FORMATS, ("stained.ome.zarr", "stained.ome.tif", "stained.nii"), strict=True))
Box = tuple[slice, slice, slice]


@dataclass(frozen=True)
class Stain:
    """A finished stained volume of which boxes are read when asked for.

    Attributes:
        path: its file or folder.
        shape: (Z, Y, X).
        channels: 3 for RGB, 4 for RGBA.
        geometry: where the voxels of the finest level lie.
        about: what was told of their origin.
        levels: shapes (Z, Y, X), finest first; only OME-Zarr has more than one.
    """

    path: Path
    shape: tuple[int, int, int]
    channels: int
    geometry: Geometry
    about: dict[str, Any]
    levels: list[tuple[int, int, int]]
    boxes: Callable[[int, Box], np.ndarray]

    def read(self, box: Box, level: int = 0) -> np.ndarray:
        """Read a box of one level.

        Args:
            box: slices along z, y and x, of step 1; as for an array, they may be open or count from the end.
            level: 0 for the finest.

        Returns:
            (D, H, W, C), uint8.

        Raises:
            IndexError: if there is no such level.
            ValueError: if a slice has another step.
            InputError: if a part cannot be read.
        """
        if not 0 <= level < len(self.levels):
            raise IndexError(f"{self.path} has levels 0 to {len(self.levels) - 1}, no level {level}")
        places = [part.indices(size) for part, size in zip(box, self.levels[level], strict=True)]
        if any(step != 1 for _, _, step in places):
            raise ValueError(f"{box} has steps; a box is read whole")
        z, y, x = (slice(start, max(start, stop)) for start, stop, _ in places)
        return self.boxes(level, (z, y, x))


def file_name(file_format: str) -> str:
    """The name of a result in a format."""
    return NAMES[file_format]


def create(path: Path, file_format: str, spec: StainSpec) -> None:
    """Make room for a volume, in place of what is there; one process does it before any writes a slab.

    Raises:
        InputError: if the format cannot hold it.
    """
    if spec.channels not in (3, 4):
        raise ValueError(f"{spec.channels} channels; a stain has 3 (RGB) or 4 (RGBA)")
    header = b"" if file_format == "ome-zarr" else tiff_nifti.HEADERS[file_format](spec)
    if path.is_dir():
        shutil.rmtree(path)
    path.unlink(missing_ok=True)
    if file_format == "ome-zarr":
        ome_zarr.create(path, spec)
    else:
        tiff_nifti.create(path, header, spec)


def write_slab(path: Path, file_format: str, spec: StainSpec, start: int, slab: np.ndarray) -> None:
    """Write slices from ``start`` on, in any order and from any process; writing anew repairs what was cut short.

    Args:
        path: as given to :func:`create`.
        file_format: one of ``FORMATS``.
        spec: as given to :func:`create`.
        start: the first slice, a multiple of ``DEPTH``.
        slab: (D, Y, X, C), uint8, of ``DEPTH`` slices or those up to the last.

    Raises:
        OSError: if the disk is full or fails; the slab is to be written again then.
    """
    expected = (min(DEPTH, spec.shape[0] - start), *spec.shape[1:], spec.channels)
    if start % DEPTH or slab.shape != expected or slab.dtype != np.uint8:
        raise ValueError(f"slab {slab.shape} of {slab.dtype} at slice {start}; it is {expected} of uint8")
    if file_format == "ome-zarr":
        ome_zarr.write_slab(path, spec, start, slab)
        return
    offset = len(tiff_nifti.HEADERS[file_format](spec)) + start * slab[0].size
    tiff_nifti.write_at(path, offset, np.ascontiguousarray(slab).data)


def finish(path: Path, file_format: str, spec: StainSpec) -> None:
    """Make a volume readable when all its slabs are written; once is enough, again does no harm."""
    if file_format == "ome-zarr":
        ome_zarr.finish(path, spec)
    else:
        tiff_nifti.write_at(path, 0, tiff_nifti.HEADERS[file_format](spec))


def open_stain(path: Path) -> Stain:
    """Open a finished volume that this program has written.

    Args:
        path: its file or folder.

    Raises:
        InputError: if it is missing, truncated, corrupt, not finished, or not one that this program has written.
    """
    if not path.exists():
        raise InputError(f"{path} does not exist.")
    within = [path / name for name in NAMES.values() if (path / name).exists()]
    if within:
        raise InputError(f"{path} is a folder with a stained volume; name the volume itself, {within[0]}.")
    if not path.is_dir() and path.suffix.lower() not in tiff_nifti.HEADER_READERS:
        raise InputError(f"{path} is no stained volume; this program writes {', '.join(NAMES.values())}.")
    with reading(str(path)):
        return _open_zarr(path) if path.is_dir() else _open_flat(path)


def _geometry(path: Path, stamp: dict[str, Any]) -> Geometry:
    if "direction_lps" not in stamp:
        raise InputError(f"{path} is no stained volume that this program has written.")
    spacing_um, origin_mm = stamp["spacing_um_zyx"], stamp["origin_mm_xyz_lps"]
    return Geometry(tuple(spacing_um), tuple(origin_mm), np.asarray(stamp["direction_lps"], float))


def _open_zarr(path: Path) -> Stain:
    stamp, shape, channels = ome_zarr.read_header(path)
    levels = level_shapes(shape)

    def boxes(level: int, box: Box) -> np.ndarray:
        return ome_zarr.read_box(path, levels[level], channels, level, box)

    return Stain(path, shape, channels, _geometry(path, stamp), stamp["about"], levels, boxes)


def _open_flat(path: Path) -> Stain:
    tiff_nifti.check_finished(path)
    stamp, shape, channels, offset = tiff_nifti.HEADER_READERS[path.suffix.lower()](path)
    geometry = _geometry(path, stamp)
    missing = offset + int(np.prod(shape, dtype=np.int64)) * channels - path.stat().st_size
    if missing > 0:
        raise EOFError(f"the last {missing} bytes are not there")

    def boxes(level: int, box: Box) -> np.ndarray:
        return tiff_nifti.read_box(path, offset, shape, channels, box)

    return Stain(path, shape, channels, geometry, stamp["about"], [shape], boxes)
