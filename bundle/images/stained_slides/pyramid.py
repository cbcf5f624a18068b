"""The pyramid of a stained slide on disk: NGFF 0.4 on Zarr 2, written tile by tile in any order.

It is what a run works on, and with its metadata the OME-Zarr that it may give out. A tile that is not there was not
written: it is never taken for black.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np

from bundle.common.errors import InputError
from bundle.images.slides import reading
from bundle.images.stained.ome_zarr import packed, write_json_in_place, zarray
from bundle.images.stained_slides.spec import SlideSpec

TILE = 512  # px a side
MOST_KNOWN = 64  # colours of tiles that are packed once


@dataclass(frozen=True)
class Pyramid:
    """A folder of tiles by level.

    Attributes:
        folder: where they are.
        spec: what they are.
    """

    folder: Path
    spec: SlideSpec
    _known: dict[bytes, bytes] = field(default_factory=dict, init=False, repr=False, compare=False)

    def create(self) -> None:
        """Make room; without what lets a viewer open it."""
        for level, shape in enumerate(self.spec.levels):
            array = zarray([self.spec.channels, *shape], [self.spec.channels, TILE, TILE], self.spec.kind)
            write_json_in_place(self.folder / str(level) / ".zarray", array)

    def write(self, top: int, left: int, block: np.ndarray, level: int = 0) -> None:
        """Write tiles; again does no harm, and is to be done where a try was stopped in the middle.

        Args:
            top: first row, a multiple of ``TILE``.
            left: first column, likewise.
            block: (h, w, C), whole tiles but at the level's far edges.
            level: which.
        """
        for row in range(0, block.shape[0], TILE):
            for column in range(0, block.shape[1], TILE):
                part = block[row : row + TILE, column : column + TILE]
                path = self._tile(level, (top + row) // TILE, (left + column) // TILE)
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(
                    self._packed(part)
                )  # in place: a second file, left by a kill, would stay in the result

    def _packed(self, part: np.ndarray) -> bytes:
        """A tile (h, w, C), filled up with zeros; whole ones of one colour, of which a slide has most, packed once."""
        key = of_one_colour(part) if part.shape[:2] == (TILE, TILE) else b""
        if key in self._known:
            return self._known[key]
        tile = np.zeros((self.spec.channels, TILE, TILE), self.spec.kind)
        tile[:, : part.shape[0], : part.shape[1]] = part.transpose(2, 0, 1)
        made = packed(tile)
        if key and len(self._known) < MOST_KNOWN:
            self._known[key] = made
        return made

    def read(self, level: int, rows: slice, columns: slice) -> np.ndarray:
        """Read a box of a level.

        Args:
            level: 0 for the finest.
            rows: with a start and a stop within the level's shape.
            columns: likewise.

        Returns:
            (h, w, C), of the spec's kind.

        Raises:
            InputError: if a tile is missing or corrupt.
        """
        shape = (rows.stop - rows.start, columns.stop - columns.start, self.spec.channels)
        box: np.ndarray = np.empty(shape, self.spec.kind)
        for row in range(rows.start // TILE, -(-rows.stop // TILE)):
            for column in range(columns.start // TILE, -(-columns.stop // TILE)):
                inner, outer = zip(_overlap(row, rows), _overlap(column, columns), strict=True)
                box[outer] = self._read_tile(level, row, column)[(slice(None), *inner)].transpose(1, 2, 0)
        return box

    def tiles(self, level: int) -> Iterator[tuple[slice, slice]]:
        """Rows and columns of all tiles of a level, row by row; those at the far edges are cut."""
        height, width = self.spec.levels[level]
        for top in range(0, height, TILE):
            for left in range(0, width, TILE):
                yield slice(top, min(top + TILE, height)), slice(left, min(left + TILE, width))

    def build(self, level: int, report: Callable[[], None] = lambda: None) -> None:
        """Make a level from the next finer one; again does no harm.

        Args:
            level: 1 or more.
            report: called after each tile.
        """
        shape = self.spec.levels[level - 1]
        for box in self.tiles(level):
            finer = [slice(2 * part.start, min(2 * part.stop, side)) for part, side in zip(box, shape, strict=True)]
            self.write(box[0].start, box[1].start, halved(self.read(level - 1, *finer)), level)
            report()

    def finish(self) -> None:
        """Write what makes it readable as OME-Zarr."""
        write_json_in_place(self.folder / ".zattrs", attributes_of(self.spec))
        write_json_in_place(self.folder / ".zgroup", {"zarr_format": 2})

    def _tile(self, level: int, row: int, column: int) -> Path:
        return self.folder / str(level) / "0" / str(row) / str(column)

    def packed(self, level: int, row: int, column: int) -> bytes:
        """A tile as it lies on disk.

        Raises:
            InputError: if it is missing.
        """
        path = self._tile(level, row, column)
        with reading(str(path)):
            if not path.is_file():
                raise InputError(f"{path} is missing, so the stained slide is not whole; stain it again.")
            return path.read_bytes()

    def _read_tile(self, level: int, row: int, column: int) -> np.ndarray:
        content = self.packed(level, row, column)
        with reading(str(self._tile(level, row, column))):
            shape = (self.spec.channels, TILE, TILE)
            return np.frombuffer(imagecodecs.blosc_decode(content), self.spec.kind).reshape(shape)


def of_one_colour(tile: np.ndarray) -> bytes:
    """The pixel that all of a tile (h, w, …) are like, as bytes; none if they differ."""
    first = tile[0, 0].tobytes()
    return first if tile.tobytes() == first * (tile.shape[0] * tile.shape[1]) else b""


def _overlap(tile: int, part: slice) -> tuple[slice, slice]:
    """What of a tile lies in a part of its axis, and where that is in the part."""
    start, stop = max(tile * TILE, part.start), min((tile + 1) * TILE, part.stop)
    return slice(start - tile * TILE, stop - tile * TILE), slice(start - part.start, stop - part.start)


def halved(block: np.ndarray) -> np.ndarray:
    """Average pixels 2×2; at the end of an odd side, those that are there.

    Args:
        block: (h, w, C); of whole numbers, or float32 with NaN where nothing is known.

    Returns:
        (⌈h/2⌉, ⌈w/2⌉, C), of the same type: rounded half up, or the mean of what is known.
    """
    odd = [(0, size % 2) for size in block.shape[:2]]
    if any(after for _, after in odd):
        block = np.pad(block, [*odd, (0, 0)], mode="edge")  # a pixel and its copy have the pixel's mean
    if block.dtype.kind == "f":
        parts = np.stack([block[row::2, column::2] for row in (0, 1) for column in (0, 1)])
        known = np.isfinite(parts)
        with np.errstate(invalid="ignore"):  # 0 / 0
            return (np.where(known, parts, 0).sum(0) / known.sum(0)).astype(block.dtype)
    total = np.add(block[0::2], block[1::2], dtype=np.uint32)
    return ((total[:, 0::2] + total[:, 1::2] + 2) >> 2).astype(block.dtype)


def attributes_of(spec: SlideSpec) -> dict[str, Any]:
    """The ``.zattrs`` of the group."""
    low, high = spec.shown
    limits = (0, np.iinfo(spec.kind).max) if spec.kind.kind == "u" else spec.shown
    window = {"start": low, "end": high, "min": int(limits[0]), "max": int(limits[1])}
    channels = [
        {"label": label, "color": colour, "window": window, "active": True}
        | {"coefficient": 1, "family": "linear", "inverted": False}
        for label, colour in zip(spec.channel_names, spec.colours, strict=True)
    ]
    datasets = []
    for level in range(len(spec.levels)):
        scale = spec.pixel_um * 2**level
        centre = (2**level - 1) / 2 * spec.pixel_um  # of the first of the larger pixels
        transformations = [
            {"type": "scale", "scale": [1.0, scale, scale]},
            {"type": "translation", "translation": [0.0, centre, centre]},
        ]
        datasets.append({"path": str(level), "coordinateTransformations": transformations})
    space = [{"name": axis, "type": "space", "unit": "micrometer"} for axis in "yx"]
    image = {
        "version": "0.4",
        "name": spec.name,
        "type": "mean",
        "axes": [{"name": "c", "type": "channel"}, *space],
        "datasets": datasets,
    }
    return {
        "multiscales": [image],
        "omero": {
            "name": spec.name,
            "version": "0.4",
            "channels": channels,
            "rdefs": {"model": "greyscale" if spec.channels == 1 else "color"},
        },
        "virtual_staining": spec.stamp(),
    }
