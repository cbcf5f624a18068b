"""Images of any size, type and number of channels, read once from top to bottom at the pixel size of the tiles."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from mmap import ACCESS_READ, mmap
from pathlib import Path

import numpy as np
import tifffile
from scipy.sparse import csc_matrix

from bundle.common.errors import InputError
from bundle.images import png
from bundle.images.averaging import average_along, axis_weights, blocks, box_count, pieces
from bundle.images.pixel_size import tiff_voxel_um
from bundle.images.slides import TIFF, TIFF_AXES, reading
from bundle.images.tiff import meaning_of
from bundle.images.turning import SWAPPED, turned_shape
from bundle.images.whole_slides import (
    LARGEST_UM,
    SAME,
    Level,
    level_for,
    level_steps,
    on_white,
    open_section,
    sides_of,
    tiff_levels,
)


@dataclass(frozen=True)
class Facts:
    """What the header of an image says.

    Attributes:
        path: its file.
        shape: (rows, columns).
        channels: how many it has, alpha not counted.
        dtype: of its values.
        rgb: whether it is a colour picture.
        stated_um: (row, column) pixel size in µm; None if not stated, or as a screen's resolution.
    """

    path: Path
    shape: tuple[int, int]
    channels: int
    dtype: np.dtype
    rgb: bool
    stated_um: tuple[float, float] | None


def facts_of(path: Path) -> Facts:
    """Read what an image is from its header; its pixels are not read.

    Args:
        path: PNG, TIFF, or a scanner's slide that OpenSlide reads.

    Raises:
        InputError: if it is no image this program reads, or not one 2D image of 8 or 16 bits or float.
    """
    if path.suffix.lower() == ".png":
        with reading(str(path)):
            return _png_facts(path)
    if path.suffix.lower() in TIFF:
        with reading(str(path)), tifffile.TiffFile(path) as file:
            return _tiff_facts(path, file)
    try:
        section = open_section(path)
    except InputError as error:
        if "--pixel_um" not in str(error):
            raise
        section, stated = open_section(path, 1.0), None  # readable, but of no stated size
    else:
        stated = (section.pixel_um, section.pixel_um)
    return Facts(path, section.shape, 3, np.dtype(np.uint8), True, stated)


def _png_facts(path: Path) -> Facts:
    with path.open("rb") as file, mmap(file.fileno(), 0, access=ACCESS_READ) as content:
        header = png.header_of(content)
    dtype = np.dtype(np.uint16 if header.bits == 16 else np.uint8)
    shape = turned_shape(header.shape, header.orientation)
    return Facts(path, shape, header.channels, dtype, header.channels == 3, _plausible(header.pixel_um))


def _tiff_facts(path: Path, file: tifffile.TiffFile) -> Facts:
    full = file.series[0]
    found = f"{'×'.join(map(str, full.shape))} {full.dtype}, axes {full.axes}"
    if full.axes not in TIFF_AXES:
        raise InputError(f"{path} is {found}; an image is rows and columns, with channels as axes CYX or YXS.")
    meaning = meaning_of(path, file)
    if meaning.dtype not in (np.uint8, np.uint16, np.float32):
        raise InputError(f"{path} is {found}; convert it to 8 or 16 bits or 32-bit float.")
    voxel_um = tiff_voxel_um(file)
    stated = voxel_um and (voxel_um[:0:-1] if meaning.orientation in SWAPPED else voxel_um[1:])
    rgb = meaning.rgb and meaning.dtype != np.float32
    shape = turned_shape(sides_of(full), meaning.orientation)
    return Facts(path, shape, meaning.channels - meaning.alpha, meaning.dtype, rgb, _plausible(stated))


def _plausible(stated: tuple[float, float] | None) -> tuple[float, float] | None:
    """None for a screen's resolution, which programs write when they know none."""
    return None if stated is None or max(stated) > LARGEST_UM else stated


@dataclass(frozen=True)
class Scan:
    """An image whose rows are averaged as they are read.

    Attributes:
        path: its file.
        shape: (rows, columns) at full resolution.
        levels: what is stored, finest first; their rows have the channels asked for and no alpha.
        ratio: length of a tile's pixel in pixels of the image.
    """

    path: Path
    shape: tuple[int, int]
    levels: tuple[Level, ...]
    ratio: float

    @property
    def size(self) -> tuple[int, int]:
        """(rows, columns) in pixels of the tiles."""
        return shape_at(self.shape, self.ratio)

    def rows(self, coarser: float = 1.0) -> Iterator[np.ndarray]:
        """Yield the image from top to bottom, averaged; each stored row is decoded once.

        Pixel (r, c) is the mean over the box [r·b, (r+1)·b) × [c·b, (c+1)·b) of the image's pixels, where
        b = ratio · coarser, of the coarsest stored level that is no coarser. A last row or column that is less
        than half covered is dropped.

        Args:
            coarser: how many pixels of a tile a pixel here is long.

        Yields:
            (n, W, C), float32, any n of 1 or more; or the stored type where nothing is averaged.

        Raises:
            InputError: if the file is truncated or corrupt.
        """
        box = self.ratio * coarser
        steps = [level_steps(self.shape, level.shape) for level in self.levels]
        chosen = level_for([max(step) for step in steps], box)
        bands = self._bands(self.levels[chosen])
        if box == 1:
            yield from (band for _, band in bands)
            return
        weights = [
            axis_weights(size, step, box, extent)
            for size, step, extent in zip(self.levels[chosen].shape, steps[chosen], self.shape, strict=True)
        ]
        yield from averaged(bands, weights[0], weights[1])

    def _bands(self, level: Level) -> Iterator[tuple[int, np.ndarray]]:
        height, width = level.shape
        for start, stop in blocks(height, width * 3, level.band):
            with reading(f"{self.path}, rows {start} to {stop - 1},"):
                rows = level.rows(start, stop)
            yield from pieces(start, rows)


def shape_at(shape: tuple[int, int], ratio: float) -> tuple[int, int]:
    """(rows, columns) of an image in pixels ``ratio`` times as long; a last one at least half covered counts."""
    return box_count(shape[0], ratio), box_count(shape[1], ratio)


def averaged(bands: Iterator[tuple[int, np.ndarray]], down: csc_matrix, across: csc_matrix) -> Iterator[np.ndarray]:
    """Area averages of an image that comes band by band; only rows that are not finished are held.

    Args:
        bands: where a band begins and its rows (n, N, C), in order and without gaps.
        down: (M, rows of all bands), the weights of the rows.
        across: (W, N), the weights of the columns.

    Yields:
        (m, W, C), float32, M rows in all.
    """
    by_row = down.tocsr()
    first = 0  # of the coarse rows that are not yet given out
    pending: np.ndarray | None = None
    for start, band in bands:
        part = down[:, start : start + len(band)].tocsr()
        touched = np.flatnonzero(np.diff(part.indptr))
        if not len(touched):
            continue
        stop = touched[-1] + 1
        found = average_along(average_along(band, part[first:stop], 0), across, 1)
        if pending is not None:
            found[: len(pending)] += pending
        last = by_row[stop - 1].indices.max()
        finished = len(found) - int(last >= start + len(band))  # only the last box can reach into the next band
        if finished:
            yield found[:finished]
        first, pending = first + finished, found[finished:].copy()
    if pending is not None and len(pending):
        yield pending


@contextmanager
def opened(facts: Facts, ratio: float, channels: Sequence[int] | None) -> Iterator[Scan]:
    """Open an image to be read once.

    Args:
        facts: of its header.
        ratio: length of a tile's pixel in pixels of the image.
        channels: which to take, counted from 0; None for all.

    Raises:
        InputError: if it cannot be read.
    """
    path = facts.path
    if facts.rgb or path.suffix.lower() not in TIFF:
        section = open_section(path, 1.0)  # µm: not asked for here, the ratio says all
        levels = [_flat(level, facts, section.premultiplied, channels) for level in section.levels]
        yield Scan(path, section.shape, tuple(levels), ratio)
        return
    with reading(str(path)), tifffile.TiffFile(path) as file:
        chosen = list(range(facts.channels) if channels is None else channels)
        yield Scan(path, facts.shape, tuple(tiff_levels(path, file, meaning_of(path, file), chosen)), ratio)


def _flat(level: Level, facts: Facts, premultiplied: bool, channels: Sequence[int] | None) -> Level:
    """A level of a picture: what is transparent becomes white, and alpha goes."""
    scale = 257.0 if facts.dtype == np.uint16 else 1.0  # on_white divides 16 bits by it

    def box(rows: slice, columns: slice) -> np.ndarray:
        found = level.box(rows, columns)
        if found.shape[-1] in (2, 4):
            found = on_white(found, premultiplied)[..., : facts.channels] * facts.dtype.type(scale)
        return found if channels is None else found[..., list(channels)]

    return Level(level.shape, level.band, box)


def ratio_of(facts: Facts, pixel_um: float, tile_um: float) -> float:
    """Length of a tile's pixel in pixels of an image, a whole number where that shifts nothing by half a pixel.

    Files store a pixel size with few digits; an exact ratio then averages whole pixels.

    Raises:
        InputError: if the tile's pixel is finer than the image's by more than 1 %.
    """
    ratio = tile_um / pixel_um
    if ratio < 1 - SAME:
        raise InputError(
            f"{facts.path} has pixels of {pixel_um:.6g} µm, coarser than the {tile_um:g} µm of the tiles; it would "
            f"have to be invented: ask for --tile_um {pixel_um:.6g} or more, or leave the file out."
        )
    whole = max(1, round(ratio))
    shift = abs(ratio / whole - 1) * max(facts.shape) / whole  # px of the tiles, at the far end
    return float(whole) if shift < 0.5 else ratio
