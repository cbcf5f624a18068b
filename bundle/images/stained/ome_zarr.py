"""A stained volume as OME-Zarr: NGFF 0.4 on Zarr 2, which more viewers read than any later pair.

It has coarser levels for viewers, and states scale and translation along its axes; the direction matrix, which NGFF
0.4 cannot express, is in an attribute of our own.

Chunks are written and read here and not through ``zarr``: its threads would make the bytes of a chunk depend on
chance, it takes a missing chunk for black, and its two generations differ in how they write format 2.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np

from bundle.common.places import TOGETHER, contents, is_remote, write_files
from bundle.images.slides import reading
from bundle.images.stained.formats import DEPTH, Box, Format, Stain, geometry_of, register
from bundle.images.stained.spec import StainSpec
from bundle.images.volumes.geometry import Geometry

SIDE = 128  # a chunk's height and width: 1.5 MB of RGB, at a third of it packed one request over a network
COARSER = 5  # coarser levels at most
SMALL = 256  # a level whose longest axis is no longer needs no coarser one: a viewer loads it at once
# level 3 takes seven times as long for a tenth fewer bytes, on smooth random colours
BLOSC: dict[str, Any] = {"id": "blosc", "cname": "zstd", "clevel": 1, "shuffle": 0, "blocksize": 0}
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


def array_of(
    shape: tuple[int, int, int], level: int, channels: int, kind: np.dtype = COLOUR, depth: int = DEPTH
) -> dict[str, Any]:
    """The ``.zarray`` of a level."""
    return zarray([channels, *shape], [channels, *chunk_of(shape, level, depth)], kind)


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


def _attributes(spec: StainSpec) -> dict[str, Any]:
    """The ``.zattrs`` of the group."""
    window = {"start": 0, "end": 255, "min": 0, "max": 255}
    channels = [
        {"label": label, "color": colour, "window": window, "active": label != "Alpha", "coefficient": 1}
        | {"family": "linear", "inverted": False}
        for label, colour in list(COLOURS.items())[: spec.channels]
    ]
    return attributes_of("stained", spec.geometry, len(level_shapes(spec.shape)), channels, "color", spec.stamp())


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


def finish_metadata(path: Path, metadata: dict[str, Any]) -> None:
    """Write all metadata in one file, for readers over a network, and at last what makes it an OME-Zarr."""
    if is_remote(path):  # where it was not written before
        for name in metadata.keys() - {".zattrs"}:
            write_json_in_place(path / name, metadata[name])
    write_json_in_place(path / ".zmetadata", {"zarr_consolidated_format": 1, "metadata": metadata})
    write_json_in_place(path / ".zattrs", metadata[".zattrs"])


def write_level(folder: Path, chunk: tuple[int, int, int], row: int, slab: np.ndarray) -> None:
    """Write the chunks of one level that a slab (D, Y, X, C) fills; those at the far edges are filled up with zeros."""
    channels = slab.shape[3]
    rows, columns = (-(-size // side) for size, side in zip(slab.shape[1:3], chunk[1:], strict=True))
    files: dict[Path, bytes] = {}
    for y, x in itertools.product(range(rows), range(columns)):
        part = slab[:, y * chunk[1] : (y + 1) * chunk[1], x * chunk[2] : (x + 1) * chunk[2]]
        block = np.zeros((channels, *chunk), slab.dtype)
        block[:, : part.shape[0], : part.shape[1], : part.shape[2]] = part.transpose(3, 0, 1, 2)
        files[folder / "0" / str(row) / str(y) / str(x)] = packed(block)
        if len(files) == TOGETHER:
            write_files(files)
            files = {}
    write_files(files)


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


def read_header(path: Path) -> tuple[dict[str, Any], tuple[int, int, int], int]:
    """The stamp, shape (Z, Y, X) and channels of a finished OME-Zarr.

    Raises:
        ValueError: if it is not finished or not of this program.
    """
    if not (path / ".zattrs").is_file():
        raise ValueError("it has no .zattrs, so it was not finished")
    stamp = json.loads((path / ".zattrs").read_text(encoding="utf-8"))["virtual_staining"]
    channels, z, y, x = json.loads((path / "0" / ".zarray").read_text(encoding="utf-8"))["shape"]
    return stamp, (z, y, x), channels


def read_box(
    path: Path,
    shape: tuple[int, int, int],
    channels: int,
    level: int,
    box: Box,
    kind: np.dtype = COLOUR,
    depth: int = DEPTH,
) -> np.ndarray:
    """Read a box of a level.

    Args:
        path: the OME-Zarr.
        shape: (Z, Y, X) of the level.
        channels: of the image.
        level: its number.
        box: z, y and x from start to stop, within the shape.
        kind: of the values.
        depth: of a slab, slices.

    Returns:
        (D, H, W, C), of that kind.

    Raises:
        InputError: if a chunk is missing or corrupt.
    """
    chunk = chunk_of(shape, level, depth)
    pixels = np.empty((*(part.stop - part.start for part in box), channels), kind)
    places = list(itertools.product(*(_chunks_of(part, side) for part, side in zip(box, chunk, strict=True))))
    files = [path / str(level) / "0" / "/".join(map(str, place)) for place in places]
    packed_chunks = contents(files)
    for place, file in zip(places, files, strict=True):
        with reading(str(file)):
            block = np.frombuffer(imagecodecs.blosc_decode(next(packed_chunks)), kind).reshape(channels, *chunk)
        inner, outer = zip(*_overlaps(place, chunk, box), strict=True)
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


class OmeZarr(Format):
    """OME-Zarr."""

    name, file_name, title = "ome-zarr", "stained.ome.zarr", "OME-Zarr"
    remote = True

    def holds(self, path: Path) -> bool:
        """As of :class:`Format`."""
        return any((path / name).is_file() for name in (".zgroup", ".zattrs"))

    def create(self, path: Path, spec: StainSpec) -> None:
        """Make the arrays, without what makes them an OME-Zarr; a remote one has none before it is finished."""
        if is_remote(path):
            return
        write_json_in_place(path / ".zgroup", {"zarr_format": 2})
        for level, shape in enumerate(level_shapes(spec.shape)):
            write_json_in_place(path / str(level) / ".zarray", array_of(shape, level, spec.channels))

    def write_slab(self, path: Path, spec: StainSpec, start: int, slab: np.ndarray) -> None:
        """Write a slab's chunks of every level."""
        for level in range(len(level_shapes(spec.shape))):
            if level:
                slab = halve(slab)
            write_level(path / str(level), chunk_of(slab.shape[:3], level), (start >> level) // (DEPTH >> level), slab)

    def finish(self, path: Path, spec: StainSpec) -> None:
        """Write what makes the arrays an OME-Zarr, and all metadata in one file for readers over a network."""
        attributes = _attributes(spec)
        metadata: dict[str, Any] = {".zattrs": attributes, ".zgroup": {"zarr_format": 2}}
        for level, shape in enumerate(level_shapes(spec.shape)):
            metadata[f"{level}/.zarray"] = array_of(shape, level, spec.channels)
        finish_metadata(path, metadata)

    def open(self, path: Path) -> Stain:
        """As of :class:`Format`."""
        stamp, shape, channels = read_header(path)
        levels = level_shapes(shape)

        def boxes(level: int, box: Box) -> np.ndarray:
            return read_box(path, levels[level], channels, level, box)

        return Stain(path, shape, channels, geometry_of(path, stamp), stamp["about"], levels, boxes)


register(OmeZarr())
