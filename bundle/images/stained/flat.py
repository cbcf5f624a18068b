"""Formats of stained volumes that are one uncompressed file: a header, then the voxels slice after slice.

The header is a function of the specification alone, so each process knows where its slices go.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bundle.images.slides import reading
from bundle.images.stained.formats import Box, Format, Stain, geometry_of
from bundle.images.stained.spec import StainSpec

Found = tuple[dict[str, Any], tuple[int, int, int], int, int]  # stamp, (Z, Y, X), channels, first byte of the voxels


def _write_at(path: Path, offset: int, content: bytes | memoryview) -> None:
    """Write bytes in place; mapped memory would end the process where a full disk should raise an error."""
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(content)


def _check_finished(path: Path) -> None:
    """Raise an error if the header was not written."""
    with path.open("rb") as file:
        if file.read(4) == bytes(4):
            raise EOFError("it has no header, so it was not finished")


def _read_box(
    path: Path, offset: int, shape: tuple[int, int, int], channels: int, box: tuple[slice, slice, slice]
) -> np.ndarray:
    """Read a box, a slice's rows at a time.

    Args:
        path: the file.
        offset: first byte of its voxels.
        shape: (Z, Y, X).
        channels: 3 or 4.
        box: z, y and x from start to stop, within the shape.

    Returns:
        (D, H, W, C), uint8.

    Raises:
        InputError: if they cannot be read.
    """
    depths, rows, columns = box
    height, row = rows.stop - rows.start, shape[2] * channels
    pixels = np.empty((depths.stop - depths.start, height, columns.stop - columns.start, channels), np.uint8)
    for number in range(depths.start, depths.stop):
        with reading(f"{path}, slice {number},"):
            first = offset + (number * shape[1] + rows.start) * row
            part = np.fromfile(path, np.uint8, height * row, offset=first)
            pixels[number - depths.start] = part.reshape(height, shape[2], channels)[:, columns]
    return pixels


@dataclass(frozen=True)
class Flat(Format):
    """A format of such files.

    Attributes:
        name: as of :class:`Format`.
        file_name: likewise.
        title: likewise.
        suffixes: of its files, in lower case.
        header: all that comes before the voxels; raises an :class:`InputError` if the format cannot say it.
        read_header: reads that of a finished file.
    """

    name: str
    file_name: str
    title: str
    suffixes: tuple[str, ...]
    header: Callable[[StainSpec], bytes]
    read_header: Callable[[Path], Found]

    def holds(self, path: Path) -> bool:
        """As of :class:`Format`."""
        return path.is_file() and path.suffix.lower() in self.suffixes

    def check(self, spec: StainSpec) -> None:
        """As of :class:`Format`."""
        self.header(spec)

    def create(self, path: Path, spec: StainSpec) -> None:
        """Make a file of the full length that is no image yet: without its header."""
        with path.open("wb") as file:
            file.truncate(len(self.header(spec)) + math.prod(spec.shape) * spec.channels)

    def write_slab(self, path: Path, spec: StainSpec, start: int, slab: np.ndarray) -> None:
        """As of :class:`Format`."""
        offset = len(self.header(spec)) + start * slab[0].size
        _write_at(path, offset, np.ascontiguousarray(slab).data)

    def finish(self, path: Path, spec: StainSpec) -> None:
        """Write the header."""
        _write_at(path, 0, self.header(spec))

    def open(self, path: Path) -> Stain:
        """As of :class:`Format`."""
        _check_finished(path)
        stamp, shape, channels, offset = self.read_header(path)
        geometry = geometry_of(path, stamp)
        missing = offset + math.prod(shape) * channels - path.stat().st_size
        if missing > 0:
            raise EOFError(f"the last {missing} bytes are not there")

        def boxes(level: int, box: Box) -> np.ndarray:
            return _read_box(path, offset, shape, channels, box)

        return Stain(path, shape, channels, geometry, stamp["about"], [shape], boxes)
