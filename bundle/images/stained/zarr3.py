"""Images of stained volumes as OME-Zarr: NGFF 0.5 on Zarr 3, a shard for each slab of each level.

Of a volume of 4,000³ these are a few hundred files, where one a chunk are 150,000. Chunks are those of NGFF 0.4, to the
byte. They are written here and not through ``zarr`` for the reasons that :mod:`~bundle.images.stained.ome_zarr` gives,
and because its generation for Python 3.10 knows no Zarr 3.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bundle.images.slides import reading
from bundle.images.stained.formats import Box
from bundle.images.stained.ome_zarr import (
    BLOSC,
    Arrays,
    Layout,
    blocks_of,
    packed,
    read_box,
    sizes_of,
    unpacked,
    write_json_in_place,
)
from bundle.images.stained.shards import read_chunks, remove_rests, write_shard

METADATA = "zarr.json"
BYTES = {"name": "bytes", "configuration": {"endian": "little"}}
AXES = ("c", "z", "y", "x")


def array_of(
    shape: Sequence[int], shard: Sequence[int], chunk: Sequence[int], kind: np.dtype, axes: Sequence[str] = AXES
) -> dict[str, Any]:
    """The ``zarr.json`` of an array whose chunks are packed as :func:`~bundle.images.stained.ome_zarr.packed` does.

    Args:
        shape: of the array.
        shard: likewise, whole chunks along each axis.
        chunk: likewise.
        kind: of the values.
        axes: names of the dimensions.
    """
    blosc = {
        "typesize": kind.itemsize,
        "cname": BLOSC["cname"],
        "clevel": BLOSC["clevel"],
        "shuffle": "noshuffle",
        "blocksize": BLOSC["blocksize"],
    }
    sharding = {
        "chunk_shape": list(chunk),
        "codecs": [BYTES, {"name": "blosc", "configuration": blosc}],
        "index_codecs": [BYTES, {"name": "crc32c"}],
        "index_location": "end",
    }
    return {
        "zarr_format": 3,
        "node_type": "array",
        "shape": list(shape),
        "data_type": kind.newbyteorder("=").name,
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": list(shard)}},
        "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
        "fill_value": "NaN" if kind.kind == "f" else 0,
        "codecs": [{"name": "sharding_indexed", "configuration": sharding}],
        "attributes": {},
        "dimension_names": list(axes),
    }


def group_of(attributes: dict[str, Any]) -> dict[str, Any]:
    """The ``zarr.json`` of an image.

    Args:
        attributes: as NGFF 0.4 has them, by :func:`~bundle.images.stained.ome_zarr.attributes_of`.
    """
    ome: dict[str, Any] = {"version": "0.5"}  # stated here once
    for name in ("multiscales", "omero"):
        parts = attributes[name] if name == "multiscales" else [attributes[name]]
        without = [{key: value for key, value in part.items() if key != "version"} for part in parts]
        ome[name] = without if name == "multiscales" else without[0]
    own = {name: value for name, value in attributes.items() if name not in ome}
    return {"zarr_format": 3, "node_type": "group", "attributes": {"ome": ome, **own}}


class Sharded(Layout):
    """NGFF 0.5 on Zarr 3: a file a slab and level."""

    marks = (METADATA, f"0/{METADATA}")

    def create(self, path: Path, arrays: Arrays) -> None:
        """As of :class:`Layout`."""
        for level, shape in enumerate(arrays.levels):
            chunk = arrays.chunk(level)
            rows, columns = self._across(arrays, level)
            shard = (arrays.channels, chunk[0], rows * chunk[1], columns * chunk[2])
            array = array_of((arrays.channels, *shape), shard, (arrays.channels, *chunk), arrays.kind)
            write_json_in_place(path / str(level) / METADATA, array)

    def write(self, path: Path, arrays: Arrays, level: int, row: int, slab: np.ndarray) -> None:
        """As of :class:`Layout`."""
        blocks = blocks_of(arrays.chunk(level), slab)
        write_shard(self._file(path, level, row), (packed(block) for _, _, block in blocks))

    def finish(self, path: Path, arrays: Arrays, attributes: dict[str, Any]) -> None:
        """As of :class:`Layout`."""
        for level in range(len(arrays.levels)):
            remove_rests(path / str(level))
        write_json_in_place(path / METADATA, group_of(attributes))

    def header(self, path: Path) -> tuple[dict[str, Any], tuple[int, int, int], int, int]:
        """As of :class:`Layout`."""
        if not (path / METADATA).is_file():
            raise ValueError(f"it has no {METADATA}, so it was not finished")
        stamp = json.loads((path / METADATA).read_text(encoding="utf-8"))["attributes"]["virtual_staining"]
        array = json.loads((path / "0" / METADATA).read_text(encoding="utf-8"))
        channels, z, y, x = sizes_of(array["shape"])
        return stamp, (z, y, x), channels, int(array["chunk_grid"]["configuration"]["chunk_shape"][1])

    def read(self, path: Path, arrays: Arrays, level: int, box: Box) -> np.ndarray:
        """As of :class:`Layout`; of each shard its index and the chunks that the box touches."""
        rows, columns = self._across(arrays, level)

        def load(slab: int, places: Sequence[tuple[int, int]]) -> Iterator[np.ndarray]:
            file, numbers = self._file(path, level, slab), [y * columns + x for y, x in places]
            for number, content in zip(numbers, read_chunks(file, rows * columns, numbers), strict=True):
                with reading(f"{file}, chunk {number},"):
                    block = unpacked(content, arrays, level)
                yield block

        return read_box(arrays, level, box, load)

    @staticmethod
    def _across(arrays: Arrays, level: int) -> tuple[int, int]:
        """Rows and columns of chunks in a shard."""
        (_, height, width), (_, *chunk) = arrays.levels[level], arrays.chunk(level)
        return -(-height // chunk[0]), -(-width // chunk[1])

    @staticmethod
    def _file(path: Path, level: int, row: int) -> Path:
        return path / str(level) / "c" / "0" / str(row) / "0" / "0"
