"""Planes across a volume and a coarse copy of it, collected in one pass over its slabs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol

import numpy as np
from scipy.sparse import csc_matrix

from bundle.images.averaging import add_block, area_weights, average_along, average_block, pieces

ACROSS = ((1, 2), (0, 2), (0, 1))  # by the axis that a plane is cut across: the axes down it and along it


class Collector(Protocol):
    """What takes in the slabs of a volume one after the other."""

    def add(self, start: int, slab: np.ndarray) -> None:
        """Take in a slab (D, Y, X, C) that begins at slice ``start``."""


def box_weights(size: int, step_um: float, box_um: float) -> csc_matrix:
    """Weights that average an axis to boxes of nearly ``box_um``, a whole number of them over all of its length.

    Args:
        size: number of voxels.
        step_um: their length, µm.
        box_um: length wanted of a box, µm; finer than a voxel repeats it.

    Returns:
        (M, ``size``) as of :func:`bundle.images.averaging.area_weights`.
    """
    extent = size * step_um
    number = max(1, round(extent / box_um))
    return area_weights(np.linspace(0, extent, size + 1), np.linspace(0, extent, number + 1))


def pixel_for(shape: Sequence[int], spacing_um: Sequence[float], longest_px: int) -> float:
    """The pixel size with which no side of a volume is longer than ``longest_px``, no finer than its finest voxel.

    Args:
        shape: (Z, Y, X).
        spacing_um: along (z, y, x), µm.
        longest_px: at most so many pixels.

    Returns:
        In µm, the same for the planes across all axes.
    """
    longest_um = max(size * step for size, step in zip(shape, spacing_um, strict=True))
    return max(longest_um / longest_px, min(spacing_um))


class Planes:
    """Planes across the three axes, one voxel thick, averaged to square pixels as the slabs go by.

    Only these planes are kept, so memory does not depend on the size of the volume.

    Attributes:
        places: of the planes across z, y and x, voxels.
    """

    def __init__(
        self,
        shape: Sequence[int],
        spacing_um: Sequence[float],
        places: Sequence[Sequence[int]],
        pixel_um: float,
        channels: int,
    ) -> None:
        self.places = [np.asarray(along, int) for along in places]
        self._weights = [box_weights(size, step, pixel_um) for size, step in zip(shape, spacing_um, strict=True)]
        sizes = [weights.shape[0] for weights in self._weights]
        # planes across y and x grow along z, so z comes first in them and the planes after their own two axes
        self._totals = [
            np.zeros((sizes[down], sizes[along], len(self.places[axis]), channels), np.float32)
            for axis, (down, along) in enumerate(ACROSS)
        ]

    def add(self, start: int, slab: np.ndarray) -> None:
        """Take in a slab (D, Y, X, C), of real numbers, that begins at slice ``start``."""
        z, y, x = self._weights
        for number, place in enumerate(self.places[0]):
            if start <= place < start + len(slab):
                self._totals[0][:, :, number] = average_along(average_along(slab[place - start], y, 0), x, 1)
        add_block(self._totals[1], slab[:, self.places[1]].swapaxes(1, 2), start, (z, x))
        add_block(self._totals[2], slab[:, :, self.places[2]], start, (z, y))

    def pictures(self, axis: int) -> np.ndarray:
        """The planes across an axis (0 is z), when every slab was added.

        Returns:
            (N, H, W, C), float32: rows are y and columns x across z, else rows are z.
        """
        return self._totals[axis].transpose(2, 0, 1, 3)


class Copy:
    """A copy of a volume of 0–255 in coarser voxels, each the mean of what it covers, as the slabs go by in order.

    Attributes:
        voxel_um: size of its voxels along (z, y, x), µm.
        voxels: (Z, Y, X, C), uint8, of what was added.
    """

    def __init__(self, shape: Sequence[int], spacing_um: Sequence[float], longest: int, channels: int) -> None:
        box_um = pixel_for(shape, spacing_um, longest)
        steps = list(zip(shape, spacing_um, strict=True))
        self._weights = tuple(box_weights(size, step, max(step, box_um)) for size, step in steps)
        self.shape = tuple(int(weights.shape[0]) for weights in self._weights)
        self.voxel_um = tuple(size * step / number for (size, step), number in zip(steps, self.shape, strict=True))
        self.voxels = np.zeros((*self.shape, channels), np.uint8)
        self._last: tuple[int, np.ndarray] = -1, np.empty(0)  # the plane that the next slab may add to, not rounded

    def add(self, start: int, slab: np.ndarray) -> None:
        """Take in a slab (D, Y, X, C) that begins at slice ``start``, where the one before has ended."""
        for first, piece in pieces(start, slab):
            found = average_block(piece, first, self._weights)
            if found is None:
                continue
            low, planes = found
            if self._last[0] == low:
                planes[0] += self._last[1]
            for rounded, exact in zip(self.voxels[low:], planes, strict=False):
                rounded[:] = np.rint(exact)
            self._last = low + len(planes) - 1, planes[-1].copy()


def sweep(slabs: Iterable[tuple[int, np.ndarray]], collectors: Sequence[Collector]) -> None:
    """Hand every slab to every collector, each in a thread of its own.

    Args:
        slabs: where each begins along z, and its voxels (D, Y, X, C); every slice once.
        collectors: what to fill.
    """
    with ThreadPoolExecutor(len(collectors)) as pool:
        for start, slab in slabs:
            for added in [pool.submit(collector.add, start, slab) for collector in collectors]:
                added.result()
