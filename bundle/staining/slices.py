"""Stained slices on disk, one file each, until they are joined."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bundle.common.atomic import whole_file
from bundle.staining.source import slice_shape


@dataclass(frozen=True)
class SliceStore:
    """A folder of stained slices, raw RGB.

    Attributes:
        folder: where they are.
        shape: (Z, Y, X) of the volume.
    """

    folder: Path
    shape: tuple[int, int, int]

    def path(self, axis: str, number: int) -> Path:
        """The file of a slice across an axis."""
        return self.folder / axis / f"{number:06d}.rgb"

    def has(self, axis: str, number: int) -> bool:
        """Whether a slice is there, whole."""
        height, width = slice_shape(self.shape, axis)
        path = self.path(axis, number)
        return path.exists() and path.stat().st_size == height * width * 3

    def write(self, axis: str, number: int, pixels: np.ndarray) -> None:
        """Keep a slice, (H, W, 3) uint8, whole or not at all."""
        with whole_file(self.path(axis, number)) as partial:
            partial.write_bytes(np.ascontiguousarray(pixels).data)  # tofile does not tell a full disk from other faults

    def slab(self, axis: str, start: int, stop: int) -> np.ndarray:
        """Slices ``start`` to ``stop`` along z of the volume, from slices across any axis.

        Returns:
            (stop − start, Y, X, 3), uint8.
        """
        if axis == "z":
            return np.stack([self._rows(axis, number, 0, self.shape[1]) for number in range(start, stop)])
        place = "zyx".index(axis)
        result = np.empty((stop - start, *self.shape[1:], 3), np.uint8)
        for number in range(self.shape[place]):
            rows = self._rows(axis, number, start, stop)
            if axis == "y":
                result[:, number] = rows
            else:
                result[:, :, number] = rows
        return result

    def _rows(self, axis: str, number: int, start: int, stop: int) -> np.ndarray:
        width = slice_shape(self.shape, axis)[1]
        count, offset = (stop - start) * width * 3, start * width * 3
        return np.fromfile(self.path(axis, number), np.uint8, count, offset=offset).reshape(stop - start, width, 3)

    def remove(self, axis: str, numbers: Sequence[int]) -> None:
        """Remove slices; some may be gone."""
        for number in numbers:
            self.path(axis, number).unlink(missing_ok=True)
