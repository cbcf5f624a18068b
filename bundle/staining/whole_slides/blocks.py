"""A slide in blocks, each stained from as much around it as its pixels depend on."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from monai.inferers import Inferer

from bundle.images.stained_slides.pyramid import TILE
from bundle.networks.dense_norm import DenseInferer
from bundle.networks.halo import LEAST_READ, HaloInferer, moved

BLOCK = 4 * TILE  # px a side: 2,048, whole tiles of the pyramid's two finest coarser levels too
STRIP = 8  # blocks side by side that one process stains, so that windows between them are computed once


@dataclass(frozen=True)
class Block:
    """A part of a slide, px of the stain.

    Attributes:
        rows: that it is.
        columns: likewise.
        read: (rows, columns), what is shown to the network for that.
    """

    rows: slice
    columns: slice
    read: tuple[slice, slice]

    @property
    def cut(self) -> tuple[slice, slice]:
        """The block in what is made of ``read``."""
        return moved(self.rows, self.read[0].start), moved(self.columns, self.read[1].start)

    @property
    def name(self) -> str:
        """Of files about it."""
        return f"{self.rows.start:06d}_{self.columns.start:06d}"


@dataclass(frozen=True)
class WindowGrid:
    """How an inferer's windows lie along a side, so that a block's are those of the whole slide.

    Attributes:
        side: of a window, px, where windows lie at multiples of ``grid`` and the last ends with the slide; 0 where
            each pixel depends on no more than ``reach`` px around it.
        grid: of which what the network is shown begins at multiples, px.
        reach: px; with windows, those count that end no further from what is stained.
    """

    side: int
    grid: int
    reach: int

    def read(self, start: int, stop: int, size: int) -> slice:
        """What must be shown to the network for the pixels from ``start`` to ``stop`` of a side of ``size`` px."""
        if not self.side:
            first, last = max(0, start // self.grid * self.grid - self.reach), min(size, stop + self.reach)
            first = max(0, min(first, last - LEAST_READ)) // self.grid * self.grid
            return slice(first, min(size, max(last, first + LEAST_READ)))
        ends = max(0, size - self.side)  # where the last window begins, at a multiple or not
        first = max(0, -(-(start - self.reach + 1) // self.grid) * self.grid)
        latest = stop - 1 + self.reach - self.side  # where a window may begin that matters
        last = size if ends <= latest else latest // self.grid * self.grid + self.side
        return slice(min(first, ends // self.grid * self.grid), last)

    def count(self, length: int) -> int:
        """How many lie along a side of an image; 1 where that does not follow from its length."""
        return 1 + max(0, -(-(length - self.side) // self.grid)) if self.side else 1


def windows_of(inferer: Inferer, window: int, step: int | None) -> WindowGrid:
    """How the windows of an inferer lie.

    Args:
        inferer: of a bundle's ``inference.json``.
        window: side of its windows, px.
        step: between them, px; None where they lie side by side.
    """
    if isinstance(inferer, HaloInferer):
        return WindowGrid(0, inferer.multiple, inferer.halo)
    grid = step or window
    if isinstance(inferer, DenseInferer):  # statistics are interpolated between the centres of windows
        return WindowGrid(window, grid, window + window // 2 + grid)
    return WindowGrid(window, grid, window)


def blocks(shape: tuple[int, int], windows: WindowGrid) -> Iterator[list[Block]]:
    """Strips of blocks, from top to bottom and left to right.

    Args:
        shape: (rows, columns) of the stain.
        windows: of the inferer.
    """
    for top in range(0, shape[0], BLOCK):
        rows = slice(top, min(top + BLOCK, shape[0]))
        down = windows.read(rows.start, rows.stop, shape[0])
        for first in range(0, shape[1], STRIP * BLOCK):
            strip = []
            for left in range(first, min(first + STRIP * BLOCK, shape[1]), BLOCK):
                columns = slice(left, min(left + BLOCK, shape[1]))
                strip.append(Block(rows, columns, (down, windows.read(columns.start, columns.stop, shape[1]))))
            yield strip
