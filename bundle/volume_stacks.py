"""3D scans kept as slices or chunks, TIFF stacks, folders of slices and OME-Zarr, read a few slices at a time."""

from __future__ import annotations

import itertools
import re
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import tifffile

from bundle.errors import InputError
from bundle.image_io import TIFF, reading, tiff_voxel_um, um_per
from bundle.images import png
from bundle.volume_formats import Stored, raw_slices, three_axes

PNG_DEPTHS = {8: np.dtype(np.uint8), 16: np.dtype(np.uint16)}


def _kind(shape: Sequence[int], dtype: np.dtype) -> str:
    """``20×30 uint16``, for messages."""
    return f"{'×'.join(map(str, shape))} {dtype}"


def _check_page_list(file: tifffile.TiffFile) -> None:
    """Raise an error if the chain of pages ends outside the file: tifffile passes over the slices that are lost."""
    end = file.pages.next_page_offset
    file.filehandle.seek(end or 0)
    if end is None or file.filehandle.read(file.tiff.offsetsize) != bytes(file.tiff.offsetsize):
        raise EOFError(f"its list of pages breaks off after {len(file.pages)}")


def read_tiff_stack(path: Path) -> Stored:
    """A TIFF whose pages are the slices; ImageJ's stacks beyond 4 GB, of one page, too."""
    file = tifffile.TiffFile(path)  # stays open for the pages
    _check_page_list(file)
    series, voxel_um = file.series[0], tiff_voxel_um(file)
    if series.ndim not in (2, 3) or not series.axes.endswith("YX") or series.axes[0] in "SC":
        found = f"{_kind(series.shape, series.dtype)}, axes {series.axes}"
        found = f"in colour, {found}" if "S" in series.axes else found
        raise InputError(f"{path} is {found}; a scan is one grey stack of slices.")
    if len(file.series) == 1 and series.ndim == 3 and series.dataoffset is not None:
        shape = (series.shape[0], series.shape[1], series.shape[2])
        dtype = np.dtype(series.dtype).newbyteorder(file.byteorder)
        if series.dataoffset + series.size * dtype.itemsize > path.stat().st_size:
            raise EOFError("the end of its pixels is not there")
        return Stored(shape, dtype, raw_slices(path, series.dataoffset, shape, dtype), voxel_um)
    pages: list[Any] = [page for part in file.series for page in part.pages]  # a writer may give each page a series
    for number, page in enumerate(pages):
        found, first = (_kind(each.shape, each.dtype) if each else "missing" for each in (page, pages[0]))
        if found != first or len(page.shape) != 2:
            odd = f"{path}, slice {number}, is {found}, slice 0 {first}"
            raise InputError(f"{odd}; all slices must be grey, of one size and type.")

    def read(start: int, stop: int) -> np.ndarray:
        pixels = np.empty((stop - start, *pages[0].shape), pages[0].dtype)
        for number in range(start, stop):
            with reading(f"{path}, slice {number},"):
                pixels[number - start] = pages[number].asarray()
        return pixels

    return Stored((len(pages), *pages[0].shape), pages[0].dtype, read, voxel_um)


def natural(path: Path) -> list[tuple[int, str]]:
    """Sort key by which ``slice_9`` comes before ``slice_10``."""
    parts = re.split(r"(\d+)", path.name.lower())
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in parts]


def _slice_kind(path: Path) -> tuple[tuple[int, ...], Any]:
    """Shape and type of one slice's file, from its header alone."""
    if path.suffix.lower() in TIFF:
        with tifffile.TiffFile(path) as file:
            pages = len(file.pages)
            first = file.pages.first
            return ((pages,) if pages > 1 else ()) + first.shape, first.dtype
    with path.open("rb") as png:
        width, height, depth, colour = struct.unpack(">16xIIBB", png.read(26))
    return (height, width, *([3] if colour else [])), PNG_DEPTHS.get(depth, np.dtype(np.uint8))


def _read_slice(path: Path) -> np.ndarray:
    return tifffile.imread(path) if path.suffix.lower() in TIFF else imagecodecs.png_decode(path.read_bytes())


def _slice_um(path: Path) -> tuple[None, float, float] | None:
    """The pixel size that a slice's file states; it cannot know the distance to the next."""
    if path.suffix.lower() in TIFF:
        with tifffile.TiffFile(path) as file:
            voxel_um = tiff_voxel_um(file)
        return voxel_um and (None, voxel_um[1], voxel_um[2])
    pixel_um = png.header_of(path.read_bytes()).pixel_um
    return pixel_um and (None, *pixel_um)


def _check_sequence(files: Sequence[Path]) -> None:
    """Raise an error if the names count, by one number in an even step, and leave some out."""
    parts = [re.split(r"(\d+)", each.name) for each in files]
    varying = [place for place, texts in enumerate(zip(*parts, strict=False)) if len(set(texts)) > 1]
    if len({len(each) for each in parts}) > 1 or len(varying) != 1 or varying[0] % 2 == 0:
        return  # no one pattern of a name with one number that varies
    numbers = [int(each[varying[0]]) for each in parts]
    steps = [second - first for first, second in itertools.pairwise(numbers)]
    step = min(steps)
    if step == 0 or max(steps) == step:
        return
    gap = next(at for at, each in enumerate(steps) if each != step)
    missing = sum(each // step - 1 for each in steps)
    between = f"between {files[gap].name} and {files[gap + 1].name}"
    raise InputError(
        f"{files[0].parent} lacks slice {numbers[gap] + step}, {between} ({missing} missing in all); put it there, or"
        " number the files without gaps if the scan is whole."
    )


def read_folder(path: Path) -> Stored:
    """A folder of single-slice TIFFs, or PNGs if it has none, in the natural order of their names."""
    files = sorted((each for each in path.iterdir() if not each.name.startswith(".")), key=natural)
    tiffs = [each for each in files if each.suffix.lower() in TIFF]
    files = tiffs or [each for each in files if each.suffix.lower() == ".png"]
    if not files:
        raise InputError(f"{path} holds no slices; a scan's folder has .tif, .png or DICOM files, or is an OME-Zarr.")
    _check_sequence(files)
    kinds = []
    for each in files:
        with reading(str(each)):
            kinds.append(_slice_kind(each))
        if kinds[-1] != kinds[0] or len(kinds[-1][0]) != 2:
            found, first = _kind(*kinds[-1]), _kind(*kinds[0])
            raise InputError(f"{each} is {found}, {files[0].name} {first}; all must be grey, of one size and type.")
    (height, width), dtype = kinds[0]

    def read(start: int, stop: int) -> np.ndarray:
        pixels = np.empty((stop - start, height, width), dtype)
        for number in range(start, stop):
            with reading(str(files[number])):
                pixels[number - start] = _read_slice(files[number])
        return pixels

    return Stored((len(files), height, width), dtype, read, _slice_um(files[0]))


def is_zarr(path: Path) -> bool:
    """Whether a folder is a Zarr group, of version 2 or 3."""
    return any((path / name).is_file() for name in (".zattrs", ".zgroup", "zarr.json"))


def _factors(transformations: Sequence[dict[str, Any]], kind: str, axes: int) -> np.ndarray:
    """The numbers of the ``scale`` or ``translation`` of a list of them; ones or zeros without."""
    neutral = float(kind == "scale")
    found = next((each[kind] for each in transformations if each["type"] == kind), [neutral] * axes)
    return np.asarray(found, float)


def read_zarr(path: Path) -> Stored:
    """The finest level of an OME-Zarr, NGFF 0.4 or 0.5; chunks that it leaves out are 0 by its fill value."""
    import zarr  # a second to import, and only this format needs it

    attributes: dict[str, Any] = dict(zarr.open_group(path, mode="r").attrs)
    multiscales = attributes.get("ome", attributes).get("multiscales", [])
    if not multiscales or not all(isinstance(axis, dict) for axis in multiscales[0].get("axes", [None])):
        raise InputError(f"{path} states no multiscales with named axes; an OME-Zarr of NGFF 0.4 or 0.5 does.")
    axes, level = multiscales[0]["axes"], multiscales[0]["datasets"][0]
    array: Any = zarr.open_array(path / level["path"], mode="r")
    names = [axis["name"].lower() for axis in axes]
    kept = [axis for axis, name in enumerate(names) if name in ("z", "y", "x")]
    if [names[axis] for axis in kept] != ["z", "y", "x"]:
        raise InputError(f"{path} has axes {', '.join(names)}; a scan has z, y, x in this order.")
    colours = array.shape[names.index("c")] if "c" in names else 1
    if colours in (3, 4):
        raise InputError(f"{path} is in colour, of {colours} channels; a scan is grey, so give the µCT itself.")
    shape = three_axes(path, array.shape, kept)
    of_level, of_all = level.get("coordinateTransformations", []), multiscales[0].get("coordinateTransformations", [])
    scale = _factors(of_all, "scale", len(axes))
    units = [um_per(axes[axis].get("unit")) for axis in kept]
    place = (scale * _factors(of_level, "translation", len(axes)) + _factors(of_all, "translation", len(axes)))[kept]
    scale = (scale * _factors(of_level, "scale", len(axes)))[kept]
    origin_mm = [float(at) * (unit or 1000.0) / 1000.0 for at, unit in zip(place, units, strict=True)][::-1]
    z, y, x = (float(step) * (unit or 1000.0) for step, unit in zip(scale, units, strict=True))

    def read(start: int, stop: int) -> np.ndarray:
        index: list[Any] = [slice(None) if axis in kept else 0 for axis in range(len(axes))]
        index[kept[0]] = slice(start, stop)
        return np.asarray(array[tuple(index)])

    spacing_um = (z, y, x) if all(units) and of_level + of_all else None
    return Stored(shape, np.dtype(array.dtype), read, spacing_um, origin_mm, depth=array.chunks[kept[0]])
