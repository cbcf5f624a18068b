"""Images of stained volumes as OME-Zarr: NGFF 0.4 on Zarr 2, which more viewers read than any later pair.

They have coarser levels for viewers, and state scale and translation along their axes; the direction matrix, which NGFF
cannot express, is in an attribute of our own. What other versions share with this one is here too.

Chunks are written and read here and not through ``zarr``: its threads would make the bytes of a chunk depend on
chance, it takes a missing chunk for black, and its two generations differ in how they write format 2.
"""

from __future__ import annotations

import itertools
import json
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np

from bundle.common.places import TOGETHER, contents, write_files
from bundle.images.slides import reading
from bundle.images.stained.formats import DEPTH, Box
from bundle.images.volumes.geometry import Geometry

SIDE = 128  # a chunk's height and width: 1.5 MB of RGB, at a third of it packed one request over a network
COARSER = 5  # coarser levels at most
SMALL = 256  # a level whose longest axis is no longer needs no coarser one: a viewer loads it at once
# level 3 takes seven times as long for a tenth fewer bytes, on smooth random colours
BLOSC: dict[str, Any] = {"id": "blosc", "cname": "zstd", "clevel": 1, "shuffle": 0, "blocksize": 0}
HEADER = 16  # bytes, of a chunk by Blosc
COLOUR = np.dtype("|u1")
COLOURS = {"Red": "FF0000", "Green": "00FF00", "Blue": "0000FF", "Alpha": "FFFFFF"}


def level_shapes(shape: tuple[int, int, int]) -> list[tuple[int, int, int]]:
    """Shapes (Z, Y, X) of all levels, finest first; each halves the one before, rounded up."""
    shapes = [shape]
    while max(shapes[-1]) > SMALL and len(shapes) <= COARSER:
        z, y, x = ((size + 1) // 2 for size in shapes[-1])
        shapes.append((z, y, x))
    return shapes


def halve(slab: np.ndarray) -> np.ndarray:
    """Average voxels 2×2×2, rounded half up; at the end of an odd axis, those that are there.

    Args:
        slab: (D, Y, X, C), uint8.

    Returns:
        (⌈D/2⌉, ⌈Y/2⌉, ⌈X/2⌉, C), uint8.
    """
    odd = [(0, size % 2) for size in slab.shape[:3]]
    if any(after for _, after in odd):
        slab = np.pad(slab, [*odd, (0, 0)], mode="edge")  # a voxel and its copy have the voxel's mean
    total = np.add(slab[0::2], slab[1::2], dtype=np.uint16)
    total = total[:, 0::2] + total[:, 1::2]
    total = total[:, :, 0::2] + total[:, :, 1::2] + np.uint16(4)
    return (total >> 3).astype(np.uint8)


def chunk_of(shape: tuple[int, int, int], level: int, depth: int = DEPTH) -> tuple[int, int, int]:
    """Shape (Z, Y, X) of a level's chunks: those of a slab, of so many slices, are no other slab's."""
    return depth >> level, min(SIDE, shape[1]), min(SIDE, shape[2])


def zarray(shape: list[int], chunks: list[int], kind: np.dtype) -> dict[str, Any]:
    """The ``.zarray`` of an array of Zarr 2, packed as :func:`packed` does."""
    return {
        "zarr_format": 2,
        "shape": shape,
        "chunks": chunks,
        "dtype": kind.str,
        "compressor": BLOSC,
        "fill_value": "NaN" if kind.kind == "f" else 0,
        "order": "C",
        "filters": None,
        "dimension_separator": "/",
    }


@dataclass(frozen=True)
class Arrays:
    """The arrays of an image, a level each.

    Attributes:
        levels: shapes (Z, Y, X), finest first.
        channels: of each voxel.
        kind: of the values.
        depth: slices of the finest level that are written together.
    """

    levels: list[tuple[int, int, int]]
    channels: int
    kind: np.dtype = COLOUR
    depth: int = DEPTH

    def chunk(self, level: int) -> tuple[int, int, int]:
        """Shape (Z, Y, X) of a level's chunks."""
        return chunk_of(self.levels[level], level, self.depth)


class Layout(ABC):
    """How the arrays of an image lie on disk, and what says that they are one, by version of NGFF.

    Attributes:
        marks: names of which one is there, in the folder of an image begun or finished.
    """

    marks: tuple[str, ...]

    @abstractmethod
    def create(self, path: Path, arrays: Arrays) -> None:
        """Make the arrays, without what makes them an OME-Zarr."""

    @abstractmethod
    def write(self, path: Path, arrays: Arrays, level: int, row: int, slab: np.ndarray) -> None:
        """Write what one slab (D, Y, X, C), the ``row``-th, fills of a level."""

    @abstractmethod
    def finish(self, path: Path, arrays: Arrays, attributes: dict[str, Any]) -> None:
        """Write what makes the arrays an OME-Zarr.

        Args:
            path: the image.
            arrays: likewise.
            attributes: of NGFF 0.4, by :func:`attributes_of`.
        """

    @abstractmethod
    def header(self, path: Path) -> tuple[dict[str, Any], tuple[int, int, int], int, int]:
        """The stamp, shape (Z, Y, X), channels and depth of a slab of a finished image.

        Raises:
            ValueError: if it is not finished.
        """

    @abstractmethod
    def read(self, path: Path, arrays: Arrays, level: int, box: Box) -> np.ndarray:
        """Read a box (D, H, W, C) of a level.

        Raises:
            InputError: if a chunk is missing or corrupt.
        """


def attributes_of(
    name: str, geometry: Geometry, levels: int, channels: list[dict[str, Any]], shown: str, stamp: dict[str, Any]
) -> dict[str, Any]:
    """The ``.zattrs`` of a group.

    Args:
        name: of the image.
        geometry: of its finest level.
        levels: how many it has.
        channels: how each is shown, as OMERO has it.
        shown: ``color`` or ``greyscale``.
        stamp: of the voxels' origin.
    """
    steps_um = geometry.spacing_um
    place_um = [1000.0 * place for place in geometry.origin_mm[::-1]]
    datasets = []
    for level in range(levels):
        scale = [step * 2**level for step in steps_um]
        # the centre of the first of the larger voxels lies further in
        centre = [at + (2**level - 1) / 2 * step for at, step in zip(place_um, steps_um, strict=True)]
        transformations = [
            {"type": "scale", "scale": [1.0, *scale]},
            {"type": "translation", "translation": [0.0, *centre]},
        ]
        datasets.append({"path": str(level), "coordinateTransformations": transformations})
    space = [{"name": axis, "type": "space", "unit": "micrometer"} for axis in "zyx"]
    return {
        "multiscales": [
            {
                "version": "0.4",
                "name": name,
                "type": "mean",
                "axes": [{"name": "c", "type": "channel"}, *space],
                "datasets": datasets,
            }
        ],
        "omero": {"name": name, "version": "0.4", "channels": channels, "rdefs": {"model": shown}},
        "virtual_staining": stamp,
    }


def write_json_in_place(path: Path, content: dict[str, Any]) -> None:
    """In place, and not through a second file: one left by a kill would stay in the result."""
    write_files({path: (json.dumps(content, indent=2, default=str) + "\n").encode()})


def blocks_of(chunk: tuple[int, int, int], slab: np.ndarray) -> Iterator[tuple[int, int, np.ndarray]]:
    """Row, column and values (C, *chunk) of the chunks that a slab (D, Y, X, C) fills, row by row.

    Those at the far edges are filled up with zeros.
    """
    channels = slab.shape[3]
    rows, columns = (-(-size // side) for size, side in zip(slab.shape[1:3], chunk[1:], strict=True))
    for y, x in itertools.product(range(rows), range(columns)):
        part = slab[:, y * chunk[1] : (y + 1) * chunk[1], x * chunk[2] : (x + 1) * chunk[2]]
        block = np.zeros((channels, *chunk), slab.dtype)
        block[:, : part.shape[0], : part.shape[1], : part.shape[2]] = part.transpose(3, 0, 1, 2)
        yield y, x, block


def sizes_of(shape: Any) -> list[int]:
    """Channels and shape (Z, Y, X) of an array, as its metadata states them.

    Raises:
        ValueError: if they are no sizes of an image.
    """
    if not (isinstance(shape, list) and len(shape) == 4 and all(type(size) is int and size > 0 for size in shape)):
        raise ValueError(f"it states a shape of {str(shape)[:80]}")
    if shape[0] > len(COLOURS):
        raise ValueError(f"it states {shape[0]} channels")
    return shape


def packed(block: np.ndarray) -> bytes:
    """Compress a chunk, by one thread: several would lay its blocks down in the order in which they end."""
    packed = imagecodecs.blosc_encode(
        block.tobytes(),
        level=BLOSC["clevel"],
        compressor=BLOSC["cname"],
        shuffle=BLOSC["shuffle"],
        typesize=block.itemsize,
        blocksize=BLOSC["blocksize"],
        numthreads=1,
    )
    return bytes(packed)


def unpacked(content: bytes, arrays: Arrays, level: int) -> np.ndarray:
    """A chunk (C, *chunk) of what :func:`packed` made of it."""
    shape = (arrays.channels, *arrays.chunk(level))
    expected = math.prod(shape) * arrays.kind.itemsize
    stated = int.from_bytes(content[4:8], "little")  # by its header, which Blosc believes
    if len(content) < HEADER or stated != expected:
        raise ValueError(f"a chunk of blosc of {stated} bytes, not {expected}")
    values = np.frombuffer(imagecodecs.blosc_decode(content), arrays.kind)
    return values.reshape(shape)


def read_box(
    arrays: Arrays, level: int, box: Box, load: Callable[[int, Sequence[tuple[int, int]]], Iterable[np.ndarray]]
) -> np.ndarray:
    """Read a box of a level.

    Args:
        arrays: of the image.
        level: its number.
        box: z, y and x from start to stop, within the shape.
        load: gives the chunks (C, *chunk) of one slab, of its number and of their rows and columns.

    Returns:
        (D, H, W, C), of the arrays' kind.
    """
    chunk = arrays.chunk(level)
    pixels = np.empty((*(part.stop - part.start for part in box), arrays.channels), arrays.kind)
    slabs, rows, columns = (_chunks_of(part, side) for part, side in zip(box, chunk, strict=True))
    places = list(itertools.product(rows, columns))
    for slab in slabs if places else ():
        for place, block in zip(places, load(slab, places), strict=True):
            inner, outer = zip(*_overlaps((slab, *place), chunk, box), strict=True)
            for channel, values in enumerate(block):  # faster than all of them at once
                pixels[(*outer, channel)] = values[inner]
    return pixels


def _chunks_of(part: slice, side: int) -> range:
    """The chunks that a part of an axis touches."""
    return range(part.start // side, -(-part.stop // side)) if part.stop > part.start else range(0)


def _overlaps(place: tuple[int, ...], chunk: tuple[int, int, int], box: Box) -> Iterator[tuple[slice, slice]]:
    """Per axis, what a chunk shares with a box, counted from the chunk's start and from the box's."""
    for number, side, part in zip(place, chunk, box, strict=True):
        first = number * side
        start, stop = max(part.start, first), min(part.stop, first + side)
        yield slice(start - first, stop - first), slice(start - part.start, stop - part.start)


class Plain(Layout):
    """NGFF 0.4 on Zarr 2: a file a chunk."""

    marks = (".zgroup", ".zattrs")

    def create(self, path: Path, arrays: Arrays) -> None:
        """As of :class:`Layout`."""
        write_json_in_place(path / ".zgroup", {"zarr_format": 2})
        for level, array in enumerate(self._arrays(arrays)):
            write_json_in_place(path / str(level) / ".zarray", array)

    def write(self, path: Path, arrays: Arrays, level: int, row: int, slab: np.ndarray) -> None:
        """As of :class:`Layout`."""
        blocks = blocks_of(arrays.chunk(level), slab)
        while files := {
            _chunk_file(path, level, row, y, x): packed(block) for y, x, block in itertools.islice(blocks, TOGETHER)
        }:
            write_files(files)

    def finish(self, path: Path, arrays: Arrays, attributes: dict[str, Any]) -> None:
        """As of :class:`Layout`, and all metadata in one file for readers over a network."""
        metadata: dict[str, Any] = {".zattrs": attributes, ".zgroup": {"zarr_format": 2}}
        for level, array in enumerate(self._arrays(arrays)):
            metadata[f"{level}/.zarray"] = array
        write_json_in_place(path / ".zmetadata", {"zarr_consolidated_format": 1, "metadata": metadata})
        write_json_in_place(path / ".zattrs", attributes)

    def header(self, path: Path) -> tuple[dict[str, Any], tuple[int, int, int], int, int]:
        """As of :class:`Layout`."""
        if not (path / ".zattrs").is_file():
            raise ValueError("it has no .zattrs, so it was not finished")
        stamp = json.loads((path / ".zattrs").read_text(encoding="utf-8"))["virtual_staining"]
        array = json.loads((path / "0" / ".zarray").read_text(encoding="utf-8"))
        channels, z, y, x = sizes_of(array["shape"])
        return stamp, (z, y, x), channels, int(array["chunks"][1])

    def read(self, path: Path, arrays: Arrays, level: int, box: Box) -> np.ndarray:
        """As of :class:`Layout`."""

        def load(slab: int, places: Sequence[tuple[int, int]]) -> Iterator[np.ndarray]:
            files = [_chunk_file(path, level, slab, *place) for place in places]
            chunks = contents(files)
            for file in files:
                with reading(str(file)):
                    block = unpacked(next(chunks), arrays, level)
                yield block

        return read_box(arrays, level, box, load)

    @staticmethod
    def _arrays(arrays: Arrays) -> list[dict[str, Any]]:
        channels = arrays.channels
        return [
            zarray([channels, *shape], [channels, *arrays.chunk(level)], arrays.kind)
            for level, shape in enumerate(arrays.levels)
        ]


def _chunk_file(path: Path, level: int, *place: int) -> Path:
    return path / str(level) / "0" / "/".join(map(str, place))
