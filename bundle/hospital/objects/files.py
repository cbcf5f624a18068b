"""DICOM files written a few slices at a time, in explicit little endian, by pydicom 2 and 3 alike."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from pydicom import Dataset
from pydicom.uid import ExplicitVRLittleEndian

from bundle.common.errors import InputError
from bundle.images.dicom.written import begin_file

Slab = Callable[[int, int], np.ndarray]  # (start, stop) → slices, (stop − start, Y, X, …)
AT_ONCE = 8 << 20  # bytes of slices that are asked for together
PIXELS = struct.pack("<HH", 0x7FE0, 0x0010)
FLOATS = struct.pack("<HH", 0x7FE0, 0x0008)


def write_file(path: Path, dataset: Dataset, element: bytes, vr: bytes, length: int, blocks: Iterator[bytes]) -> None:
    """Write a dataset, and after it its pixels as they come.

    Args:
        path: where; it is written as it goes, so give a partial one.
        dataset: all before the pixels; nothing may come after them.
        element: their tag, ``PIXELS`` or ``FLOATS``.
        vr: their representation.
        length: bytes of all of them.
        blocks: the pixels, little endian.

    Raises:
        ValueError: if the blocks are not of this length.
    """
    with path.open("wb") as file:
        begin_file(file, dataset, ExplicitVRLittleEndian)
        file.write(element + vr + b"\0\0" + struct.pack("<I", length + length % 2))
        written = sum(file.write(block) for block in blocks)
        file.write(bytes(length % 2))
    if written != length:
        raise ValueError(f"{written} bytes of pixels, {length} were announced")


def slabs(slab: Slab, start: int, stop: int, shape: tuple[int, ...], dtype: np.dtype) -> Iterator[np.ndarray]:
    """Slices start to stop, some megabytes at a time.

    Args:
        slab: gives them.
        start: first of all.
        stop: after the last.
        shape: of one.
        dtype: of them.

    Raises:
        InputError: if what it gives is of another shape or type.
    """
    several = max(1, AT_ONCE // (int(np.prod(shape)) * dtype.itemsize))
    for first in range(start, stop, several):
        last = min(first + several, stop)
        pixels = np.asarray(slab(first, last))
        if pixels.shape != (last - first, *shape) or pixels.dtype.newbyteorder("=") != dtype:
            found, wanted = (f"{'×'.join(map(str, each))}" for each in (pixels.shape, (last - first, *shape)))
            raise InputError(
                f"slices {first} to {last} of the stain are {found} {pixels.dtype}, the series' grid asks for {wanted}"
                f" {dtype}; give a stain of this very series."
            )
        yield pixels


def as_bytes(pixels: np.ndarray) -> bytes:
    """An array's values in little endian."""
    return pixels.astype(pixels.dtype.newbyteorder("<"), copy=False).tobytes()
