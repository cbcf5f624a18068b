"""Where tiles lie: on a grid over an image, or over each of two parts that share no pixel."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from bundle.common.errors import InputError

TRAINING, TESTING = "training", "testing"
BORDERS = ("right", "left", "top", "bottom")


@dataclass(frozen=True, order=True)
class Place:
    """Where one tile lies.

    Attributes:
        top: first row, in pixels of the tiles.
        left: first column, likewise.
        row: which row of its grid.
        column: which column of its grid.
        split: ``training`` or ``testing``.
    """

    top: int
    left: int
    row: int
    column: int
    split: str


@dataclass(frozen=True)
class Area:
    """A part of an image, in pixels of the tiles: rows top to bottom − 1, columns left to right − 1."""

    top: int
    left: int
    bottom: int
    right: int


@dataclass(frozen=True)
class HoldOut:
    """A side of every image that is for testing: ``side`` is one of ``BORDERS``, ``share`` its part of the image."""

    side: str
    share: float

    def areas(self, size: tuple[int, int]) -> dict[str, Area]:
        """The two parts of an image.

        A row or column of pixels between them belongs to neither, as a pixel of the file may reach over the border.

        Args:
            size: (rows, columns) in pixels of the tiles.

        Returns:
            The area of each split.
        """
        height, width = size
        along = width if self.side in ("left", "right") else height
        held = round(self.share * along)
        if self.side in ("right", "bottom"):
            kept, tested = (0, along - held), (along - held + 1, along)
        else:
            kept, tested = (held, along), (0, held - 1)
        if self.side in ("left", "right"):
            parts = [Area(0, first, height, last) for first, last in (kept, tested)]
        else:
            parts = [Area(first, 0, last, width) for first, last in (kept, tested)]
        return dict(zip((TRAINING, TESTING), parts, strict=True))

    def __str__(self) -> str:
        """In words, for messages."""
        return f"{self.side} {self.share:.0%}"


def parse_hold_out(value: object) -> HoldOut:
    """``right:0.3`` as an option.

    Raises:
        InputError: if it is not a side, a colon and a share between 0 and 1.
    """
    side, _, share = str(value).partition(":")
    try:
        number = float(share)
    except ValueError:
        number = 0.0
    if side not in BORDERS or not 0 < number < 1:
        raise InputError(
            f"hold_out is {value!r}; give a side and its share, for example right:0.3 ({', '.join(BORDERS)})."
        )
    return HoldOut(side, number)


def positions(first: int, last: int, tile: int, overlap: int) -> list[int]:
    """Where tiles begin along an axis: every ``tile − overlap`` from its start on, and one that ends at its end.

    Without overlap there is none at the end, so that no two tiles share a pixel.

    Args:
        first: where the axis begins, px.
        last: where it ends, px, exclusive.
        tile: the side of a tile, px.
        overlap: what neighbours share, px.

    Returns:
        Ascending; empty if the axis is shorter than a tile.

    >>> positions(0, 3000, 288, 144)[-3:]
    [2448, 2592, 2712]
    """
    found = list(range(first, last - tile + 1, tile - overlap))
    if found and overlap and found[-1] + tile < last:
        found.append(last - tile)
    return found


def places(areas: dict[str, Area], tile: int, overlaps: dict[str, int]) -> list[Place]:
    """Where the tiles of an image lie, from top to bottom and left to right.

    Args:
        areas: by split.
        tile: the side of a tile, px.
        overlaps: by split, px.
    """
    return sorted(
        Place(top, left, row, column, split)
        for split, area in areas.items()
        for row, top in enumerate(positions(area.top, area.bottom, tile, overlaps[split]))
        for column, left in enumerate(positions(area.left, area.right, tile, overlaps[split]))
    )


def cut(rows: Iterator[np.ndarray], where: Sequence[Place], tile: int) -> Iterator[tuple[Place, np.ndarray]]:
    """Cut tiles out of an image that comes from top to bottom; only the rows of one row of tiles are held.

    Args:
        rows: (n, W, C) each.
        where: ascending.
        tile: the side of a tile, px.

    Yields:
        A place and its pixels, (tile, tile, C).
    """
    held: list[np.ndarray] = []
    first = stop = 0  # rows that are held
    strip = None
    for place in where:
        if strip is None or place.top != first:
            while held and first + len(held[0]) <= place.top:
                first += len(held.pop(0))
            while stop < place.top + tile:
                held.append(next(rows))
                stop += len(held[-1])
                if stop <= place.top:
                    first += len(held.pop())
            strip = np.concatenate(held)[place.top - first :]
            held, first = [strip], place.top
        yield place, strip[:tile, place.left : place.left + tile]
