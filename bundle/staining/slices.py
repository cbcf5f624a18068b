"""Stained slices and their expected errors on disk, one file each, until they are joined."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np

from bundle.common.atomic import whole_file
from bundle.common.errors import InputError
from bundle.common.places import contents, is_remote, remote, write_files
from bundle.networks.cells import CELL, cells_of
from bundle.staining.source import slice_shape

KIND = np.dtype("<f4")  # of errors


@dataclass(frozen=True)
class SliceFiles:
    """A folder with a file for each slice.

    Attributes:
        folder: where they are.
        shape: (Z, Y, X) of the volume.
        suffix: of the files.
    """

    folder: Path
    shape: tuple[int, int, int]
    suffix: ClassVar[str]

    def path(self, axis: str, number: int) -> Path:
        """The file of a slice across an axis."""
        return self.folder / axis / f"{number:06d}{self.suffix}"

    def remove(self, axis: str, numbers: Sequence[int]) -> None:
        """Remove slices; some may be gone."""
        paths = [self.path(axis, number) for number in numbers]
        if is_remote(self.folder):
            remote(self.folder).remove_all([remote(each) for each in paths])
            return
        for path in paths:
            path.unlink(missing_ok=True)

    def count(self, slabs: Sequence[tuple[str, int, int]]) -> int:
        """How many slices of some (axis, start, stop) are there, in a remote folder, by one listing."""
        there = remote(self.folder).below()
        paths = (self.path(axis, number) for axis, start, stop in slabs for number in range(start, stop))
        return sum(f"{path.parent.name}/{path.name}" in there for path in paths)

    def parts(self, paths: Sequence[Path], start: int, count: int) -> Iterator[bytes]:
        """The same bytes of files that are there.

        Raises:
            InputError: if one was torn, as a power cut may do it.
        """
        try:
            yield from contents(paths, start, count)
        except EOFError as error:
            raise InputError(f"{error}; it is damaged: name another --output_dir, or remove this one.") from error

    def keep(self, path: Path, values: np.ndarray) -> None:
        """Write a file, whole or not at all."""
        if is_remote(path):
            write_files({path: values.tobytes()})
            return
        with whole_file(path) as partial:
            partial.write_bytes(values.data)  # tofile does not tell a full disk from other faults


@dataclass(frozen=True)
class SliceStore(SliceFiles):
    """Stained slices, raw RGB."""

    suffix = ".rgb"

    def has(self, axis: str, number: int) -> bool:
        """Whether a slice is there, whole."""
        height, width = slice_shape(self.shape, axis)
        path = self.path(axis, number)
        return path.exists() and path.stat().st_size == height * width * 3

    def present(self, axis: str, start: int, stop: int) -> set[int]:
        """Which slices are there, whole; of a remote folder by one listing."""
        if not is_remote(self.folder):
            return {number for number in range(start, stop) if self.has(axis, number)}
        height, width = slice_shape(self.shape, axis)
        sizes = {each.name: each.size for each in remote(self.folder / axis).files()}
        return {each for each in range(start, stop) if sizes.get(self.path(axis, each).name) == height * width * 3}

    def write(self, axis: str, number: int, pixels: np.ndarray) -> None:
        """Keep a slice, (H, W, 3) uint8, whole or not at all."""
        self.keep(self.path(axis, number), np.ascontiguousarray(pixels))

    def slab(self, axis: str, start: int, stop: int) -> np.ndarray:
        """Slices ``start`` to ``stop`` along z of the volume, from slices across any axis.

        Returns:
            (stop − start, Y, X, 3), uint8.
        """
        if axis == "z":
            return np.stack(list(self._rows(axis, range(start, stop), 0, self.shape[1])))
        place = "zyx".index(axis)
        result = np.empty((stop - start, *self.shape[1:], 3), np.uint8)
        for number, rows in enumerate(self._rows(axis, range(self.shape[place]), start, stop)):
            if axis == "y":
                result[:, number] = rows
            else:
                result[:, :, number] = rows
        return result

    def _rows(self, axis: str, numbers: Sequence[int], start: int, stop: int) -> Iterator[np.ndarray]:
        width = slice_shape(self.shape, axis)[1]
        paths = [self.path(axis, number) for number in numbers]
        for content in self.parts(paths, start * width * 3, (stop - start) * width * 3):
            yield np.frombuffer(content, np.uint8).reshape(stop - start, width, 3)


@dataclass(frozen=True)
class ErrorStore(SliceFiles):
    """Expected errors of slices, in cells of 4×4 px."""

    suffix = ".f4"

    def write(self, axis: str, number: int, cells: np.ndarray) -> None:
        """Keep the cells of a slice, (⌈H/4⌉, ⌈W/4⌉), levels, whole or not at all."""
        self.keep(self.path(axis, number), np.ascontiguousarray(cells, KIND))

    def slab(self, axis: str, start: int, stop: int) -> np.ndarray:
        """Expected error of slices ``start`` to ``stop`` along z in cubes of 4 voxels, from slices across any axis.

        Args:
            axis: across which the slices were stained.
            start: a multiple of 4.
            stop: likewise, or the end of the volume.

        Returns:
            (⌈(stop − start)/4⌉, ⌈Y/4⌉, ⌈X/4⌉), float32: the mean of the slices that are there and
            know of the cube; NaN where none does.
        """
        if axis == "z":
            rows = slice(0, cells_of(self.shape[1]))
            return _by_cells(np.stack(list(self._cells(axis, range(start, stop), rows))), 0)
        rows, place = slice(start // CELL, cells_of(stop)), "zyx".index(axis)
        return _by_cells(np.stack(list(self._cells(axis, range(self.shape[place]), rows)), place), place)

    def _cells(self, axis: str, numbers: Sequence[int], rows: slice) -> Iterator[np.ndarray]:
        count, width = rows.stop - rows.start, cells_of(slice_shape(self.shape, axis)[1])
        row = width * KIND.itemsize
        for content in self.parts([self.path(axis, number) for number in numbers], rows.start * row, count * row):
            yield np.frombuffer(content, KIND).reshape(count, width)


def _by_cells(values: np.ndarray, axis: int) -> np.ndarray:
    """Mean of what is known of every 4 along an axis, of the last of what is there; NaN where nothing is."""
    starts, known = np.arange(0, values.shape[axis], CELL), np.isfinite(values)
    totals = np.add.reduceat(np.where(known, values, 0.0), starts, axis, np.float64)
    with np.errstate(invalid="ignore"):  # 0 / 0
        return (totals / np.add.reduceat(known, starts, axis, np.int64)).astype(np.float32)
