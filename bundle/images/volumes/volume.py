"""3D scans opened lazily, and averaged to coarser voxels slab by slab."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from bundle.common.discovery import import_modules
from bundle.common.errors import InputError
from bundle.common.places import is_remote, place
from bundle.common.values import is_size_um, shown
from bundle.images.averaging import add_block, axis_weights, blocks, box_count, pieces
from bundle.images.slides import reading
from bundle.images.volumes.geometry import SAME, Geometry
from bundle.images.volumes.reader import FILES, FOLDERS, Reader, Slices, Stored
from bundle.images.volumes.readers.dicom import holds_dicom, read_series
from bundle.images.volumes.readers.hdf5 import split_dataset
from bundle.images.volumes.readers.stacks import read_folder

import_modules("bundle.images.volumes.readers")  # each registers what it reads
LARGEST_SLICE, LARGEST = 2**35, 2**50  # bytes: 32 GB and 1 PB are beyond any scan of today


@dataclass(frozen=True)
class Volume:
    """A grey 3D scan of which slices are read when asked for.

    Attributes:
        path: its file or folder; for a dataset in a file as it was given, ``FILE:/path/in/file``.
        shape: (Z, Y, X).
        dtype: type of what :meth:`read` gives: the file's own, in the machine's byte order.
        geometry: where its voxels lie.
        depth: slices that the file keeps together, so best read together.
    """

    path: Path
    shape: tuple[int, int, int]
    dtype: np.dtype
    geometry: Geometry
    depth: int
    slices: Slices

    def read(self, start: int, stop: int) -> np.ndarray:
        """Read slices ``start`` to ``stop`` along z.

        Forwards is quick in every format; a compressed NIfTI, NRRD or MetaImage begins anew to go back.

        Returns:
            (stop − start, Y, X), of type ``dtype``.

        Raises:
            IndexError: if they are not within the volume.
            InputError: if the file is truncated or corrupt there; it names the first slice that cannot be read.
        """
        if not 0 <= start < stop <= self.shape[0]:
            raise IndexError(f"slices {start} to {stop} of {self.shape[0]}")
        try:
            return np.ascontiguousarray(self.slices(start, stop), self.dtype)
        except (InputError, ModuleNotFoundError):
            raise  # it names the slice, or what is not installed
        except MemoryError as error:
            size = math.prod(self.shape[1:]) * self.dtype.itemsize / 1e9
            raise InputError(f"{self.path} needs {size:.3g} GB a slice, more memory than there is.") from error
        except Exception:  # readers raise a dozen kinds for a broken file
            return self._one_by_one(start, stop)

    def _one_by_one(self, start: int, stop: int) -> np.ndarray:
        """Read slices singly after they could not be read together, to find out which it is."""
        pixels = np.empty((stop - start, *self.shape[1:]), self.dtype)
        for number in range(start, stop):
            with reading(f"{self.path}, slice {number},"):
                pixels[number - start] = self.slices(number, number + 1)[0]
        return pixels


def open_volume(
    path: Path | str,
    voxel_um: float | tuple[float, float, float] | None = None,
    option: str = "--scan_voxel_um",
    least_slices: int = 2,
) -> Volume:
    """Open a scan without reading it.

    NIfTI, NRRD (raw or gzip), MetaImage, a TIFF stack, a folder of TIFF or PNG slices in natural order, or of one
    DICOM series, a dataset of an HDF5 or NeXus file, or an OME-Zarr of which the finest level is taken. Only its
    headers are read, and a slice of a NIfTI.

    Args:
        path: the file or folder, or ``FILE:/path/in/file`` for HDF5; or a URL (:func:`bundle.common.places.place`).
        voxel_um: voxel size in µm, (z, y, x) or one for all, in place of what the file states. The origin stays
            where a file states its unit; else it is as many voxels from the world's as the header says.
        option: how the caller's user gives ``voxel_um``, for messages.
        least_slices: how many it must have.

    Raises:
        InputError: if there is none, it cannot be read, is not one grey volume of so many slices of at least 2×2
            px, or neither it nor ``voxel_um`` gives a voxel size.
    """
    channels = open_all(path, voxel_um, option, least_slices)
    if len(channels) > 1:
        raise InputError(f"{path} has {len(channels)} channels; a scan is grey, so give the µCT itself.")
    return channels[0]


def open_all(
    path: Path | str,
    voxel_um: float | tuple[float, float, float] | None = None,
    option: str = "--scan_voxel_um",
    least_slices: int = 2,
) -> list[Volume]:
    """Open every channel of a scan, as :func:`open_volume` does that of a grey one; only an OME-Zarr has several."""
    path = place(path)
    with reading(str(path)):
        stored = _reader_of(path)(path)
    if stored.shape[0] < least_slices or min(stored.shape[1:]) < 2:
        found = "×".join(map(str, stored.shape))
        least = f"{least_slices} slice{'s' * (least_slices > 1)} of 2×2 px"
        raise InputError(f"{path} is {found} voxels; a scan is one volume of at least {least}.")
    if stored.dtype.kind not in "buif":
        raise InputError(f"{path} holds {stored.dtype}; a scan is grey, of whole or real numbers, so convert it.")
    spacing_um = _spacing(path, stored, voxel_um, option)
    _check_size(path, stored)
    geometry = Geometry(spacing_um, _origin(stored, spacing_um), stored.direction)
    if not np.isfinite(geometry.origin_mm).all():
        raise InputError(f"{path} has the origin {list(stored.origin_mm)}, which is no place; write numbers, or 0.")
    dtype = stored.dtype.newbyteorder("=")
    reads = (stored.read, *stored.others)
    return [Volume(path, stored.shape, dtype, geometry, stored.depth, read) for read in reads]


def open_unsized(path: Path | str) -> Volume:
    """Open a scan of which the voxel size does not matter; it is NaN where the scan states none.

    Raises:
        InputError: as :func:`open_volume`.
    """
    try:
        return open_volume(path)
    except InputError:
        volume = open_volume(path, 1.0)
    return replace(volume, geometry=replace(volume.geometry, spacing_um=(math.nan,) * 3))


def _reader_of(path: Path) -> Reader:
    file, _ = split_dataset(path)
    if is_remote(path):
        return _remote_reader_of(path, file)
    if not file.exists():
        raise InputError(f"{file} does not exist.")
    if path.is_dir():
        marked = next((reader for holds, reader in FOLDERS if holds(path)), None)
        return marked or (read_series if holds_dicom(path) else read_folder)
    suffix = _suffix_of(file)
    if not suffix:
        raise InputError(f"{path} is not a scan this program reads ({', '.join(FILES)}, or a folder of slices).")
    return FILES[suffix]


def _suffix_of(file: Path) -> str:
    name = file.name.lower()
    return max((suffix for suffix in FILES if name.endswith(suffix)), key=len, default="")


def _remote_reader_of(path: Path, file: Path) -> Reader:
    """By the name first: a web server does not say what is a folder, and each question takes its time."""
    suffix = _suffix_of(file)
    if suffix and file.is_file():
        return FILES[suffix]
    marked = None if suffix else next((reader for holds, reader in FOLDERS if holds(path)), None)
    if marked is None and not file.exists():
        raise InputError(f"{file} does not exist.")
    if marked is None and not path.is_dir():
        kinds = f"{', '.join(FILES)}, OME-Zarr, or in an object store a folder of TIFF or PNG slices"
        raise InputError(f"{path} is not a scan that this program reads from there ({kinds}).")
    return marked or read_folder


def _spacing(
    path: Path, stored: Stored, voxel_um: float | tuple[float, float, float] | None, option: str
) -> tuple[float, float, float]:
    """The voxel size given, else the one stated."""
    if voxel_um is not None:
        sizes = voxel_um if isinstance(voxel_um, (tuple, list)) else (voxel_um,) * 3
        if len(sizes) != 3 or not all(map(is_size_um, sizes)):
            raise InputError(f"{option} is {shown(voxel_um)}; give one size in µm, or three: z,y,x.")
        z, y, x = sizes
    elif stored.spacing_um is None:
        numbers = stored.if_mm_um if stored.if_mm_um != (1000.0,) * 3 else None
        known = numbers and ",".join(f"{size:.6g}" for size in numbers)
        hint = f" (its header has numbers without a unit; if they are mm: {option} '[{known}]')" if known else ""
        raise InputError(f"{path} states no voxel size; give it in µm with {option}{hint}")
    elif stored.spacing_um[0] is None:
        pixel = f"{stored.spacing_um[2]:.6g}"
        raise InputError(
            f"{path} states pixels of {pixel} µm but no distance between slices;"
            f" give the voxel size in µm with {option} (if it is the same: {option} {pixel})"
        )
    else:
        z, y, x = stored.spacing_um[0], stored.spacing_um[1], stored.spacing_um[2]
    if not all(map(is_size_um, (z, y, x))):
        raise InputError(f"{path} has voxels of {z}×{y}×{x} µm; give their size in µm with {option}")
    return float(f"{z:.6g}"), float(f"{y:.6g}"), float(f"{x:.6g}")  # headers of 32 bits say 4.9999998


def _check_size(path: Path, stored: Stored) -> None:
    """Raise an error if a header claims more than can be: a scan is read a slice at a time."""
    slice_bytes = stored.shape[1] * stored.shape[2] * stored.dtype.itemsize
    if slice_bytes > LARGEST_SLICE or slice_bytes * stored.shape[0] > LARGEST:
        claimed = "×".join(map(str, stored.shape))
        raise InputError(
            f"{path} claims {claimed} voxels, {slice_bytes / 1e9:.3g} GB in a slice and "
            f"{slice_bytes * stored.shape[0] / 1e12:.3g} TB in all; its header is broken, or it must be cut up."
        )


def _origin(stored: Stored, spacing_um: tuple[float, float, float]) -> tuple[float, float, float]:
    """Origin (x, y, z) in mm, in the unit of the voxel size that was given where the file states none."""
    origin = np.asarray(stored.origin_mm, float)
    if stored.spacing_um is None and stored.if_mm_um is not None:
        ratio = np.asarray(spacing_um[::-1]) / np.asarray(stored.if_mm_um[::-1])
        origin = stored.direction @ (ratio * (stored.direction.T @ origin))
    x, y, z = origin.tolist()
    return x, y, z


def described(volume: Volume, least: float, greatest: float, slices: int) -> str:
    """What was understood of a scan, in one line.

    Args:
        volume: the scan.
        least: the lowest value that was seen.
        greatest: the highest.
        slices: how many were looked at for that.
    """
    place = ", ".join(f"{each:.6g}" for each in volume.geometry.origin_mm)
    size = _times(volume.geometry.spacing_um)
    size = "of a size that is not stated" if "nan" in size else f"of {size} µm"
    seen = "" if slices == volume.shape[0] else f" in {slices} slices"
    return (
        f"{volume.path}: {_times(volume.shape)} voxels (z×y×x) {size}, "
        f"{volume.dtype}, values {least:.6g} to {greatest:.6g}{seen}, origin (x, y, z) {place} mm"
    )


def _same(spacing_um: tuple[float, float, float], voxel_um: float) -> bool:
    return all(abs(size / voxel_um - 1) <= SAME for size in spacing_um)


def resample(volume: Volume, voxel_um: float, report: Callable[[int, int], None] | None = None) -> np.ndarray:
    """Average a scan to isotropic voxels, each the mean over the box that it covers, a slab at a time.

    The first box begins at the outer face of voxel (0, 0, 0), so the grid's origin is half a box from there;
    :func:`load` gives it. A box at the end of an axis that is less than half covered is dropped.

    Args:
        volume: the scan.
        voxel_um: size of the new voxels in µm; within 1 % of the scan's own in every axis, nothing is averaged.
        report: called with the slices done and the slices in all, after each slab.

    Returns:
        (Z, Y, X), float32, in the scan's units.

    Raises:
        InputError: if ``voxel_um`` is finer than the scan by more than 1 %, or larger than all of it.
    """
    spacing_um = volume.geometry.spacing_um
    if not voxel_um >= max(spacing_um) * (1 - SAME):
        stated = _times(spacing_um)
        raise InputError(
            f"{volume.path} has voxels of {stated} µm, coarser than the {voxel_um:g} µm asked for; --voxel_um"
            f" {max(spacing_um):.6g} or more keeps to what it shows."
        )
    extents = [size * step for size, step in zip(volume.shape, spacing_um, strict=True)]
    unchanged = _same(spacing_um, voxel_um)
    shape = volume.shape if unchanged else tuple(box_count(extent, voxel_um) for extent in extents)
    if 0 in shape:
        raise InputError(f"{volume.path} is {_times(extents)} µm in all, less than one voxel of {voxel_um:g} µm.")
    steps = list(zip(volume.shape, spacing_um, extents, strict=True))
    weights = () if unchanged else tuple(axis_weights(size, step, voxel_um, extent) for size, step, extent in steps)
    total = np.zeros(shape, np.float32)
    for start, stop in blocks(volume.shape[0], volume.shape[1] * volume.shape[2], volume.depth):
        slab = volume.read(start, stop)
        if unchanged:
            total[start:stop] = slab
        else:
            for first, piece in pieces(start, slab):
                add_block(total, piece, first, weights)
        if report:
            report(stop, volume.shape[0])
    return total


def _times(sizes: Sequence[float]) -> str:
    """``5×5×5`` for messages."""
    return "×".join(f"{size:.6g}" for size in sizes)


def load(
    volume: Volume, voxel_um: float | None = None, report: Callable[[int, int], None] | None = None
) -> tuple[np.ndarray, Geometry]:
    """Read a whole scan of isotropic voxels.

    Args:
        volume: the scan.
        voxel_um: voxel size in µm to average it to; None for its own.
        report: as of :func:`resample`, when it averages.

    Returns:
        (Z, Y, X), of the scan's own type for None, else float32, and where its voxels lie.

    Raises:
        InputError: as :func:`resample`, or without ``voxel_um`` if the sizes along the axes differ by more than 1 %.
    """
    geometry = volume.geometry
    spacing_um = geometry.spacing_um
    if voxel_um is None:
        if max(spacing_um) > min(spacing_um) * (1 + SAME):
            raise InputError(
                f"{volume.path} has voxels of {_times(spacing_um)} µm (z×y×x), not cubes;"
                f" --voxel_um {max(spacing_um):.6g} resamples it to cubes."
            )
        return volume.read(0, volume.shape[0]), geometry
    pixels = resample(volume, voxel_um, report)
    return pixels, geometry if _same(spacing_um, voxel_um) else coarser(geometry, voxel_um)


def coarser(geometry: Geometry, voxel_um: float) -> Geometry:
    """The geometry of the boxes of ``voxel_um`` (µm) that begin at the outer faces of voxel (0, 0, 0)."""
    shift_mm = (voxel_um - np.asarray(geometry.spacing_um[::-1])) / 2000.0
    x, y, z = (np.asarray(geometry.origin_mm) + geometry.direction @ shift_mm).tolist()
    return replace(geometry, spacing_um=(voxel_um,) * 3, origin_mm=(x, y, z))
