"""A series of one slice per file as a scan: ordered, checked, and read a few slices at a time."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pydicom import Dataset

from bundle.common.errors import InputError
from bundle.images.dicom.folder import left_out, series_in, slices_of
from bundle.images.dicom.grid import grid
from bundle.images.dicom.headers import Header, name_of, read_header
from bundle.images.dicom.slices import decoded, read_whole
from bundle.images.dicom.tags import quietly, value_of
from bundle.images.dicom.words import plain, printable

WHOLE = (np.uint8, np.int8, np.uint16, np.int16, np.int32, np.int64)
MEND = "choose one with --series UID"


@dataclass(frozen=True, eq=False)
class Source:
    """A scan that is a DICOM series.

    Attributes:
        instances: headers of the slices, along the normal (the cross product of a row's and a column's direction).
        headers: what was read in them.
        shape: (Z, Y, X).
        spacing_mm: (z, y, x).
        origin_mm: (x, y, z) of the centre of the first voxel, LPS.
        direction: (3, 3); columns are the directions of the x, y and z axes, LPS.
        dtype: of what :meth:`read` gives: whole numbers where nothing rescales to fractions, else float32.
        paths: the files, if these are files; their pixels are read when asked for.
    """

    instances: tuple[Dataset, ...]
    headers: tuple[Header, ...]
    shape: tuple[int, int, int]
    spacing_mm: tuple[float, float, float]
    origin_mm: tuple[float, float, float]
    direction: np.ndarray
    dtype: np.dtype
    paths: tuple[Path, ...] = ()

    @property
    def series_uid(self) -> str:
        """SeriesInstanceUID of all slices."""
        return self.headers[0].one["SeriesInstanceUID"]

    @property
    def instance_uids(self) -> list[str]:
        """SOPInstanceUIDs of the slices."""
        return [header.uid for header in self.headers]

    def read(self, start: int, stop: int) -> np.ndarray:
        """The scan's values in slices ``start`` to ``stop``: stored · slope + intercept.

        Returns:
            (stop − start, Y, X), of ``dtype``.

        Raises:
            IndexError: if they are not within the scan.
            InputError: if the pixels of one cannot be read; it names it.
        """
        if not 0 <= start < stop <= self.shape[0]:
            raise IndexError(f"slices {start} to {stop} of {self.shape[0]}")
        pixels = np.empty((stop - start, *self.shape[1:]), self.dtype)
        for number in range(start, stop):
            pixels[number - start] = self._slice(number)
        return pixels

    def _slice(self, number: int) -> np.ndarray:
        header = self.headers[number]
        dataset = self._with_pixels(number)
        stored = decoded(dataset, header.name, header.shape, header.bits)
        if (header.slope, header.intercept) == (1.0, 0.0):
            return stored
        if self.dtype.kind == "f":
            return stored * header.slope + header.intercept  # in float64
        return stored.astype(np.int64) * int(header.slope) + int(header.intercept)

    def _with_pixels(self, number: int) -> Dataset:
        header = self.headers[number]
        if not self.paths:
            return self.instances[number]
        path = self.paths[number]
        try:
            dataset = read_whole(path)
        except Exception as error:  # pydicom raises a dozen kinds for a broken file
            raise InputError(f"{printable(path)} cannot be read any more: {plain(error)}") from error
        if value_of(dataset, "SOPInstanceUID") != header.uid:
            raise InputError(f"{printable(path)} is another slice than when it was opened; start again.")
        return dataset


@quietly()
def ordered(instances: Sequence[Dataset], stored_values: bool = False) -> Source:
    """Put the slices of a series in order along their normal, and see that they make one scan.

    Where files are their own (``filename`` of pydicom's) pixels are read from there, else they must be in the
    datasets by the time they are read. InstanceNumber is not looked at: the order is of the positions.

    Args:
        instances: one slice each, in any order; their pixels may be missing.
        stored_values: the user's word that stored values are meant where nothing rescales them.

    Raises:
        InputError: what is wrong, a line per fault.
    """
    if not instances:
        raise InputError("there are no images, so there is no scan.")
    headers, faults = _headers(instances, stored_values)
    if faults:
        raise InputError("\n".join(faults))
    order, spacing_z, direction = grid(headers)
    headers = [headers[place] for place in order]
    chosen = tuple(instances[place] for place in order)
    origin = headers[0].position_mm
    return Source(
        instances=chosen,
        headers=tuple(headers),
        shape=(len(chosen), *headers[0].shape),
        spacing_mm=(spacing_z, *headers[0].pixel_mm),
        origin_mm=(float(origin[0]), float(origin[1]), float(origin[2])),
        direction=direction,
        dtype=_dtype(headers),
        paths=_paths(chosen),
    )


def _headers(instances: Sequence[Dataset], stored_values: bool) -> tuple[list[Header], list[str]]:
    """The slices' headers, and their faults; the same fault of many slices is one line."""
    headers, faults = [], dict[str, list[str]]()
    for dataset in instances:
        try:
            headers.append(read_header(dataset, stored_values))
        except InputError as fault:
            faults.setdefault(str(fault), []).append(name_of(dataset))
    total = len(instances)
    return headers, [
        f"{names[0]}{f' and {len(names) - 1} more of {total} slices' if len(names) > 1 else ''}: {fault}."
        for fault, names in faults.items()
    ]


def _paths(instances: Sequence[Dataset]) -> tuple[Path, ...]:
    """The slices' files, unless any has its pixels with it or is no file."""
    if any("PixelData" in each or not getattr(each, "filename", None) for each in instances):
        return ()
    return tuple(Path(str(each.filename)) for each in instances)


def _dtype(headers: Sequence[Header]) -> np.dtype:
    """The smallest type that holds every value; float32 where a slope or an intercept is a fraction."""
    least, most = 0, 0
    for header in headers:
        if header.slope % 1 or header.intercept % 1:
            return np.dtype(np.float32)
        bits = header.bits[1] - header.signed
        ends = (-(2**bits) if header.signed else 0), 2**bits - 1
        values = [end * int(header.slope) + int(header.intercept) for end in ends]
        least, most = min(least, *values), max(most, *values)
    return next(np.dtype(each) for each in WHOLE if np.iinfo(each).min <= least and most <= np.iinfo(each).max)


@quietly()
def open_folder(folder: Path, series_uid: str | None = None, stored_values: bool = False, mend: str = MEND) -> Source:
    """Open the series in a folder and the folders in it; headers alone are read.

    Files that are not DICOM, a DICOMDIR, and objects of other series that are no images are passed over; an object of
    the series that is plainly no slice of it is, too, and that is said.

    Args:
        folder: where its files are.
        series_uid: its SeriesInstanceUID; None for the only one.
        stored_values: as of :func:`ordered`.
        mend: what a user can do about several series, for the message.

    Raises:
        InputError: if there is no such series, more than one, a file is truncated, or as :func:`ordered`.
    """
    if not folder.is_dir():
        raise InputError(f"{printable(folder)} is no folder; give the folder that holds a DICOM series.")
    found = series_in(folder)
    if series_uid is not None:
        if series_uid not in found:
            raise InputError(f"{printable(folder)} holds no series {plain(series_uid)}; it holds {_listed(found)}.")
        return ordered(_slices(found[series_uid]), stored_values)
    images = {uid: each for uid, each in found.items() if any("Rows" in dataset for dataset in each)}
    if not images:
        raise InputError(f"{printable(folder)} holds no DICOM images; give the folder that holds a series.")
    if len(images) > 1:
        raise InputError(f"{printable(folder)} holds {len(images)} series; {mend}: {_listed(images)}.")
    return ordered(_slices(next(iter(images.values()))), stored_values)


def _slices(instances: list[Dataset]) -> list[Dataset]:
    """The slices among the objects of a series; what is left out is said."""
    slices, others = slices_of(instances)
    if others:
        print(left_out(others, slices), file=sys.stderr)
    return slices


def _listed(found: dict[str, list[Dataset]]) -> str:
    return ", ".join(
        f"{plain(uid)} ({len(each)} × {plain(value_of(each[0], 'Modality') or 'no modality')})"
        for uid, each in sorted(found.items())
    )
