"""3D scans in TIFF: stacks, ImageJ's and OME's, also over several files; which of them are plain grey slices."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tifffile

from bundle.common.errors import InputError
from bundle.common.places import is_remote, opened
from bundle.images.pixel_size import tiff_voxel_um
from bundle.images.slides import TIFF, reading
from bundle.images.tiff import COLOURS, line_of, ome_files
from bundle.images.volumes.reader import Stored, reads
from bundle.images.volumes.readers.headers import raw_slices

BLOCK = 1 << 16  # bytes that are fetched together of a remote file: tags lie far apart; larger pixels are one request
SLICES = "ZIQ"  # axes, as tifffile calls them, that can be z: Z itself, and those that a file leaves open


def open_tiff(path: Path) -> tifffile.TiffFile:
    """A TIFF, wherever it lies."""
    return tifffile.TiffFile(opened(path, BLOCK), name=path.name) if is_remote(path) else tifffile.TiffFile(path)


def kind_of(shape: Sequence[int], dtype: Any) -> str:
    """``20×30 uint16``, for messages."""
    return f"{'×'.join(map(str, shape))} {dtype}"


def grey_fault(page: tifffile.TiffPage) -> str | None:
    """What of a TIFF page makes it other than plain grey, the first row at the top; None if it is that.

    Such pages are refused: their values are not what the voxels say.
    """
    photometric, orientation = page.photometric, page.tags.get("Orientation")
    if photometric != tifffile.PHOTOMETRIC.MINISBLACK:
        said = f"PhotometricInterpretation {getattr(photometric, 'name', photometric)}"
        if photometric in COLOURS:
            return f"is in colour ({said}); a scan is grey, so give the µCT itself"
        return f"has {said}; save it as plain grey (MINISBLACK)"
    if page.samplesperpixel != 1:
        return f"has {page.samplesperpixel} samples a pixel; save it as plain grey, of one"
    if orientation is not None and orientation.value != 1:
        return f"has Orientation {int(orientation.value)}; save it turned, with Orientation 1 (first row at the top)"
    return None


def _check_page_list(file: tifffile.TiffFile) -> None:
    """Raise an error if the chain of pages ends outside the file: tifffile passes over the slices that are lost."""
    end = file.pages.next_page_offset
    file.filehandle.seek(end or 0)
    if end is None or file.filehandle.read(file.tiff.offsetsize) != bytes(file.tiff.offsetsize):
        raise EOFError(f"its list of pages breaks off after {len(file.pages)}")


def _check_pages(path: Path) -> None:
    """Raise an error if the list of pages breaks off, or one of them is not plain grey."""
    with open_tiff(path) as file:  # before it is asked for series, each page has tags of its own
        _check_page_list(file)
        for number, page in enumerate(file.pages):
            fault = grey_fault(page.aspage())
            if fault:
                raise InputError(f"{path}, slice {number}, {fault}.")


def _read_page(page: Any) -> np.ndarray:
    """The pixels of a page; its file is opened for that if it is another one of an OME-TIFF."""
    handle = page.parent.filehandle
    if not handle.closed:
        return page.asarray()
    handle.open()
    try:
        return page.asarray()
    finally:
        handle.close()


def _check_series(path: Path, file: tifffile.TiffFile) -> None:
    """Raise an error unless a file holds one grey stack of slices, and nothing that says they are something else."""
    series = file.series[0]
    found = f"{kind_of(series.shape, series.dtype)}, axes {series.axes}"
    if series.ndim not in (2, 3) or not series.axes.endswith("YX") or series.axes[0] in "SC":
        found = f"in colour, {found}" if "S" in series.axes else found
        raise InputError(f"{path} is {found}; a scan is one grey stack of slices.")
    if len(file.series) > 1 and (file.is_ome or any(each.ndim > 2 for each in file.series)):
        named = ", ".join(f"{each.name or number} ({kind_of(each.shape, each.dtype)})"
                          for number, each in enumerate(file.series[:5]))  # fmt: skip
        raise InputError(f"{path} holds {len(file.series)} images: {named}; a scan is one, so save it alone.")
    if series.ndim == 3 and series.axes[0] not in SLICES:
        raise InputError(
            f"{path} is {found}: its images are not slices along z (T: frames in time); if they are, say so in the "
            "file (ImageJ: Image › Properties, swap frames and slices)."
        )


@reads(*TIFF)
def read_tiff_stack(path: Path) -> Stored:
    """A TIFF whose pages are the slices; ImageJ's stacks beyond 4 GB, of one page, too; OME's over several files.

    ImageJ's calibration is applied where it is a line.

    Raises:
        InputError: if it holds anything but one stack of plain grey slices, or a part of it is missing.
    """
    file = open_tiff(path)  # stays open for the pages
    several = ome_files(path, file)
    if several and is_remote(path):
        raise InputError(f"{path} is an OME-TIFF over several files, which is read from a disk only; copy it there.")
    for each in several or [path]:
        _check_pages(each)
    _check_series(path, file)
    series, voxel_um, line = file.series[0], tiff_voxel_um(file), line_of(path, file)
    if not several and len(file.series) == 1 and series.ndim == 3 and series.dataoffset is not None:
        shape = (series.shape[0], series.shape[1], series.shape[2])
        dtype = np.dtype(series.dtype).newbyteorder(file.byteorder)
        if series.dataoffset + series.size * dtype.itemsize > path.stat().st_size:
            raise EOFError("the end of its pixels is not there")
        return Stored(shape, dtype, raw_slices(path, series.dataoffset, shape, dtype), voxel_um).calibrated(line)
    pages: list[Any] = [page for part in file.series for page in part.pages]  # a writer may give each page a series
    for number, page in enumerate(pages):
        found, first = (kind_of(each.shape, each.dtype) if each else "missing" for each in (page, pages[0]))
        if found != first or len(page.shape) != 2:
            odd = f"{path}, slice {number}, is {found}, slice 0 {first}"
            raise InputError(f"{odd}; all slices must be grey, of one size and type.")

    def read(start: int, stop: int) -> np.ndarray:
        pixels = np.empty((stop - start, *pages[0].shape), pages[0].dtype)
        for number in range(start, stop):
            with reading(f"{path}, slice {number},"):
                pixels[number - start] = _read_page(pages[number])
        return pixels

    return Stored((len(pages), *pages[0].shape), pages[0].dtype, read, voxel_um).calibrated(line)
