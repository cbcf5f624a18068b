"""What is stained: a scan after a 3D Gaussian, a slab at a time, across any of its axes."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

import numpy as np
import zarr
from scipy.ndimage import gaussian_filter1d

from bundle.common.places import reaching, zarr_store
from bundle.images.volumes.volume import Volume

TRUNCATE = 4.0  # σ at which the Gaussian is cut, SciPy's default
BRICK = (32, 64, 64)  # voxels, half a megabyte: a slab across any axis reads few that it does not use


class Slabs(Protocol):
    """Gives slices across an axis of a volume."""

    def slab(self, axis: str, start: int, stop: int) -> np.ndarray:
        """Slices ``start`` to ``stop`` across ``axis``: (n, H, W), float32, in the scan's units."""


class SmoothedScan:
    """A scan after a 3D Gaussian (§2.11), exact across slab borders: each slab is read with what reaches into it.

    Going forwards, every slice is read once.

    Args:
        volume: the scan.
        sigma: of the Gaussian, voxels along each axis; 0 for none.

    Attributes:
        as_read: the slices of the last slab before the Gaussian.
    """

    def __init__(self, volume: Volume, sigma: float) -> None:
        self.volume, self.sigma = volume, sigma
        self.reach = int(TRUNCATE * sigma + 0.5)
        self._kept: tuple[int, np.ndarray] | None = None  # the slices last read: their place, and they themselves
        self.as_read = np.empty((0, *volume.shape[1:]), volume.dtype)

    def slab(self, axis: str, start: int, stop: int) -> np.ndarray:
        """Slices ``start`` to ``stop`` along z: (n, Y, X), float32, in the scan's units."""
        assert axis == "z", "a scan is read along z only"
        first, last = max(start - self.reach, 0), min(stop + self.reach, self.volume.shape[0])
        read = self._read(first, last)
        self.as_read = read[start - first : stop - first]
        slab = read.astype(np.float32)
        for across in range(3) if self.sigma else ():
            gaussian_filter1d(slab, self.sigma, across, output=slab, mode="nearest", truncate=TRUNCATE)
            if across == 0:
                slab = slab[start - first : stop - first].copy()
        return slab

    def _read(self, start: int, stop: int) -> np.ndarray:
        """Read slices; those that the last slab ended with are still there (a gzip stream cannot go back)."""
        place, kept = self._kept or (0, np.empty((0, *self.volume.shape[1:]), self.volume.dtype))
        end = place + len(kept)
        if place <= start < end < stop:
            slab = np.concatenate([kept[start - place :], self.volume.read(end, stop)])
        else:
            slab = self.volume.read(start, stop)
        tail = min(2 * self.reach, len(slab))
        self._kept = (stop - tail, slab[len(slab) - tail :].copy())
        return slab


class Bricks:
    """A smoothed scan in bricks on disk, of which slabs across any axis are read.

    Args:
        path: its folder.
        shape: (Z, Y, X).
    """

    def __init__(self, path: Path, shape: tuple[int, int, int]) -> None:
        self.path, self.shape = path, shape

    def create(self) -> None:
        """Make it, empty; anything there is replaced."""
        layout: dict[str, Any] = {
            "shape": self.shape,
            "chunks": BRICK,
            "dtype": "float32",
            "compressor": None,
            "fill_value": 0,
        }
        with reaching(self.path):
            zarr.open_array(
                zarr_store(self.path), mode="w", zarr_version=2, **layout
            )  # as Zarr 2.18 and 3 both take it

    def write(self, start: int, slab: np.ndarray) -> None:
        """Write (n, Y, X) from slice ``start`` on, a multiple of a brick's depth."""
        with reaching(self.path):
            zarr.open_array(zarr_store(self.path), mode="r+")[start : start + len(slab)] = slab

    def slab(self, axis: str, start: int, stop: int) -> np.ndarray:
        """Slices across z, y or x: (n, Y, X), (n, Z, X) or (n, Z, Y), float32."""
        place = "zyx".index(axis)
        window = tuple(slice(start, stop) if each == place else slice(None) for each in range(3))
        with reaching(self.path):
            return np.moveaxis(np.asarray(zarr.open_array(zarr_store(self.path), mode="r")[window]), place, 0)


def slice_shape(shape: tuple[int, int, int], axis: str) -> tuple[int, int]:
    """Rows and columns of a slice across an axis of (Z, Y, X)."""
    height, width = (size for name, size in zip("zyx", shape, strict=True) if name != axis)
    return height, width
