"""The pyramid of a stained slide as NGFF 0.5 on Zarr 3: of the tiles that are there, many in a file."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path

from bundle.common.atomic import whole_folder
from bundle.images.stained.ome_zarr import write_json_in_place
from bundle.images.stained.shards import write_shard
from bundle.images.stained.zarr3 import METADATA, array_of, group_of
from bundle.images.stained_slides.pyramid import TILE, Pyramid, attributes_of

ACROSS = 16  # tiles a side of a shard: 8192 px, and an index of 4 kB


def write_sharded(path: Path, pyramid: Pyramid, report: Callable[[], None] = lambda: None) -> None:
    """Write a finished pyramid; its tiles are taken as they are packed.

    Args:
        path: the folder; what stands there is replaced.
        pyramid: all levels of it are there.
        report: called after each tile.

    Raises:
        InputError: if a tile is missing.
    """
    with whole_folder(path) as partial:
        _write(partial, pyramid, report)


def _write(path: Path, pyramid: Pyramid, report: Callable[[], None]) -> None:
    spec = pyramid.spec
    for level, shape in enumerate(spec.levels):
        chunk, shard = ((spec.channels, side, side) for side in (TILE, ACROSS * TILE))
        array = array_of((spec.channels, *shape), shard, chunk, spec.kind, ("c", "y", "x"))
        write_json_in_place(path / str(level) / METADATA, array)
        rows, columns = (-(-size // TILE) for size in shape)
        for top, left in itertools.product(range(0, rows, ACROSS), range(0, columns, ACROSS)):
            file = path / str(level) / "c" / "0" / str(top // ACROSS) / str(left // ACROSS)
            write_shard(file, _tiles(pyramid, level, (top, left), (rows, columns), report))
    write_json_in_place(path / METADATA, group_of(attributes_of(spec)))


def _tiles(
    pyramid: Pyramid, level: int, first: tuple[int, int], count: tuple[int, int], report: Callable[[], None]
) -> Iterator[bytes | None]:
    """The tiles of a shard, packed; None for those beyond the level's edges."""
    for row, column in itertools.product(*(range(start, start + ACROSS) for start in first)):
        if row < count[0] and column < count[1]:
            yield pyramid.packed(level, row, column)
            report()
        else:
            yield None
