"""The tiles that a page with a zoomable viewer asks for: only those where something is stained."""

from __future__ import annotations

import base64
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bundle.images.stained_slides.pyramid import Pyramid
from bundle.staining.whole_slides.pictures import Pictures, error_png, jpeg, stain_pictures

SIDE = 1024  # px: a quarter of the files that 512 would make, and still only a few of them on a screen
OVERVIEW = 2 * SIDE  # px: of a source, levels up to this size are shown whole, tissue or not

Shape = tuple[int, int]


@dataclass(frozen=True)
class Layer:
    """What lies in ``tiles/NAME``.

    Attributes:
        name: ``source``, ``stain`` or ``error``.
        suffix: of its files.
        shapes: (rows, columns) of its levels, finest first.
        present: of each level, which tiles (down, along) there are.
        file: makes the file of a tile from its level, rows and columns.
    """

    name: str
    suffix: str
    shapes: Sequence[Shape]
    present: Sequence[np.ndarray]
    file: Callable[[int, slice, slice], bytes]

    @property
    def count(self) -> int:
        """How many tiles there are."""
        return sum(int(tiles.sum()) for tiles in self.present)

    def write(self, folder: Path, report: Callable[[], None]) -> None:
        """Write all tiles: ``NAME/LEVEL/X_Y.SUFFIX``, levels counted from the finest.

        Args:
            folder: of all layers.
            report: called after each tile.
        """
        for level, (shape, present) in enumerate(zip(self.shapes, self.present, strict=True)):
            place = folder / self.name / str(level)
            place.mkdir(parents=True)
            for down, along in np.argwhere(present):
                content = self.file(level, *_box(shape, int(down), int(along)))
                (place / f"{along}_{down}.{self.suffix}").write_bytes(content)
                report()

    def told(self) -> dict[str, Any]:
        """What the page's script has to know, plain JSON: which tiles there are is a bit each, row by row."""
        bits = [base64.b64encode(np.packbits(tiles).tobytes()).decode() for tiles in self.present]
        height, width = self.shapes[0]
        return {"width": width, "height": height, "suffix": self.suffix, "present": bits}


def layers_of(source: Pictures | None, stain: Pyramid, error: Pyramid | None) -> list[Layer]:
    """What a page shows.

    A tile of a level is there where anything is stained in it. Whether there is, is asked of the coarsest level first,
    and of a finer one only where the coarser says yes: what is so small that it is not seen there has no tiles.

    Args:
        source: pictures of the slide; None where it is not to be had.
        stain: the finished stain.
        error: the error to expect, each of its pixels 2ⁿ of the stain's; None where there is none.
    """
    shapes = stain.spec.levels
    present = stained_tiles(stain)
    layers = []
    if source is not None:
        seen = [
            tiles | (max(shape) <= OVERVIEW) for tiles, shape in zip(present, shapes, strict=True)
        ]  # what no tissue was found in is to be seen too
        layers.append(Layer("source", "jpg", shapes, seen, _encoded(source)))
    layers.append(Layer("stain", "jpg", shapes, present, _encoded(stain_pictures(stain))))
    if error is not None:
        layers.append(_error_layer(stain, error))
    return layers


def stained_tiles(stain: Pyramid) -> list[np.ndarray]:
    """Of each level, finest first, in which tiles (down, along) something is stained; the coarsest level is whole."""
    shapes = stain.spec.levels
    found = [np.ones(_grid(shapes[-1]), bool)]
    for level in range(len(shapes) - 2, -1, -1):
        down, along = _grid(shapes[level])
        maybe = found[0].repeat(2, 0).repeat(2, 1)[:down, :along].copy()
        for place in np.argwhere(maybe):
            box = _box(shapes[level], *map(int, place))
            maybe[tuple(place)] = _stained(stain, level, *box).any()
        found.insert(0, maybe)
    return found


def _stained(stain: Pyramid, level: int, rows: slice, columns: slice) -> np.ndarray:
    """Where a box of a stain is not its background, (h, w)."""
    box, background = stain.read(level, rows, columns), np.array(stain.spec.background).astype(stain.spec.kind)
    found = box[..., 0] != background[0]
    for channel in range(1, stain.spec.channels):
        found |= box[..., channel] != background[channel]
    return found


def _encoded(pictures: Pictures) -> Callable[[int, slice, slice], bytes]:
    return lambda level, rows, columns: jpeg(pictures(level, rows, columns))


def _error_layer(stain: Pyramid, error: Pyramid) -> Layer:
    """Only where an error is known, or something is stained."""
    coarser = cells_between(stain, error)
    finest, coarsest = stain.spec.levels, len(stain.spec.levels) - 1
    most = error.spec.shown[1]

    def parts(level: int, rows: slice, columns: slice) -> tuple[np.ndarray, np.ndarray]:
        at = min(level + coarser, coarsest)  # the error may have levels that are coarser than any of the stain
        times = 2 ** (level + coarser - at)
        sides = [
            slice(part.start * times, min(part.stop * times, size))
            for part, size in zip((rows, columns), finest[at], strict=True)
        ]
        stained = _stained(stain, at, *sides)[::times, ::times]
        shape = (rows.stop - rows.start, columns.stop - columns.start)
        lacking = [(0, size - there) for size, there in zip(shape, stained.shape, strict=True)]
        return error.read(level, rows, columns)[..., 0], np.pad(stained, lacking, mode="edge")

    present = []
    for level, shape in enumerate(error.spec.levels):
        tiles = np.ones(_grid(shape), bool)
        for place in np.argwhere(tiles):
            values, stained = parts(level, *_box(shape, *map(int, place)))
            tiles[tuple(place)] = stained.any() or np.isfinite(values).any()
        present.append(tiles)
    return Layer("error", "png", error.spec.levels, present, lambda *box: error_png(*parts(*box), most))


def cells_between(stain: Pyramid, error: Pyramid) -> int:
    """How many times the stain's pixels were doubled to those of a map.

    Raises:
        ValueError: if they were not.
    """
    times = error.spec.pixel_um / stain.spec.pixel_um
    coarser = max(0, round(float(np.log2(times))))
    fits = tuple(-(-size // 2**coarser) for size in stain.spec.shape)
    if abs(times / 2**coarser - 1) > 1e-6 or error.spec.shape != fits:
        raise ValueError(f"a map of {error.spec.shape} px does not lie over a stain of {stain.spec.shape} px")
    return coarser


def _grid(shape: Shape) -> Shape:
    return -(-shape[0] // SIDE), -(-shape[1] // SIDE)


def _box(shape: Shape, down: int, along: int) -> tuple[slice, slice]:
    """Rows and columns of a tile."""
    return (
        slice(down * SIDE, min((down + 1) * SIDE, shape[0])),
        slice(along * SIDE, min((along + 1) * SIDE, shape[1])),
    )


def counted(total: int, report: Callable[[int, int], None] | None) -> Callable[[], None]:
    """What is called after each tile, of what takes the tiles done and those in all."""
    numbers = itertools.count(1)
    return lambda: None if report is None else report(next(numbers), total)
