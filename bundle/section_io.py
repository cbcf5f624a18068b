"""Histology slides read at the pixel size one needs, band by band, so that none is held whole."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import tifffile

from bundle.area import add_block, axis_weights, blocks, box_count, pieces
from bundle.errors import InputError
from bundle.image_io import TIFF, png_pixel_um, reading, tiff_voxel_um

VENDOR = (".svs", ".ndpi", ".mrxs", ".scn", ".vms", ".vmu", ".bif", ".svslide", ".dcm", ".czi")
SUFFIXES = (".png", *TIFF, *VENDOR)
SAME = 0.01  # pixel sizes closer than 1 % are one: a scanner's calibration is no better
PREMULTIPLIED = tifffile.EXTRASAMPLE.ASSOCALPHA
PLAIN = (tifffile.PHOTOMETRIC.MINISBLACK, tifffile.PHOTOMETRIC.RGB, tifffile.PHOTOMETRIC.YCBCR)
LARGEST_UM = 200.0  # of a stated pixel; programs write 72 or 96 dpi (353, 265 µm) when they know none


@dataclass(frozen=True)
class Level:
    """One stored resolution of a slide.

    Attributes:
        shape: (rows, columns).
        band: rows that are decoded together, so best read together.
        rows: reads rows start to stop, (n, columns, C), uint8 or uint16, C of 1 to 4; an even C ends with alpha.
    """

    shape: tuple[int, int]
    band: int
    rows: Callable[[int, int], np.ndarray]


@dataclass(frozen=True)
class Section:
    """A slide of which an average is read when asked for.

    Attributes:
        path: its file.
        shape: (rows, columns) at full resolution.
        pixel_um: pixel size at full resolution, in µm.
        levels: what is stored, finest first.
        premultiplied: whether the colour of a transparent pixel is already weighted by its alpha.
    """

    path: Path
    shape: tuple[int, int]
    pixel_um: float
    levels: tuple[Level, ...]
    premultiplied: bool = False

    def read(self, target_um: float) -> np.ndarray:
        """Read the slide at pixels of exactly ``target_um``.

        Pixel (r, c) is the mean over the box [r·t, (r+1)·t) × [c·t, (c+1)·t) µm from the slide's top left corner,
        of the coarsest stored level that is no coarser. A last row or column that is less than half covered is
        dropped. Transparent is white, grey is repeated, and 16 bit is divided by 257.

        Args:
            target_um: pixel size in µm.

        Returns:
            (3, H, W), uint8.

        Raises:
            InputError: if ``target_um`` is finer than the slide by more than 1 %, or larger than all of it, or the
                file is truncated or corrupt.
        """
        if not target_um >= self.pixel_um * (1 - SAME):
            raise InputError(
                f"{self.path} has pixels of {self.pixel_um:.6g} µm, coarser than the {target_um:g} µm asked for;"
                f" ask for {self.pixel_um:.6g} µm or more."
            )
        extents = [size * self.pixel_um for size in self.shape]
        shape = [box_count(extent, target_um) for extent in extents]
        if 0 in shape:
            size = f"{extents[0]:.6g}×{extents[1]:.6g}"
            raise InputError(f"{self.path} is {size} µm in all, less than one pixel of {target_um:g} µm.")
        steps = [level_steps(self.shape, level.shape) for level in self.levels]
        level = level_for([self.pixel_um * max(step) for step in steps], target_um)
        weights = tuple(
            axis_weights(size, self.pixel_um * step, target_um, extent)
            for size, step, extent in zip(self.levels[level].shape, steps[level], extents, strict=True)
        )
        total: np.ndarray = np.zeros((*shape, 3), np.float32)
        for start, rows in self._bands(self.levels[level]):
            for first, piece in pieces(start, rows):
                add_block(total, on_white(piece, self.premultiplied), first, weights)
        np.clip(np.rint(total, out=total), 0, 255, out=total)
        return np.ascontiguousarray(total.transpose(2, 0, 1), np.uint8)

    def _bands(self, level: Level) -> Iterator[tuple[int, np.ndarray]]:
        """Yield where a band of a level begins, and its rows."""
        height, width = level.shape
        for start, stop in blocks(height, width * 3, level.band):
            with reading(f"{self.path}, rows {start} to {stop - 1},"):
                rows = level.rows(start, stop)
            yield start, rows


def level_for(pixel_sizes: Sequence[float], target: float) -> int:
    """Which stored level to average: the coarsest with a pixel of at most ``target``, within 1 %.

    Args:
        pixel_sizes: of the levels, the first the finest, in any unit.
        target: the pixel size asked for, in the same unit.
    """
    fine = [level for level, size in enumerate(pixel_sizes) if size <= target * (1 + SAME)]
    return max(fine, key=lambda level: pixel_sizes[level], default=0)


def level_steps(full: tuple[int, int], level: tuple[int, int]) -> tuple[float, float]:
    """How many full pixels a pixel of a level spans, along rows and columns.

    A pyramid made by halving drops or fills up an odd row, so a whole number is taken where it gives the level's
    size rounded down or up; else the level is taken to span the slide.
    """
    whole = round(max(full[0] / level[0], full[1] / level[1]))
    if all(coarse in (fine // whole, -(-fine // whole)) for fine, coarse in zip(full, level, strict=True)):
        return float(whole), float(whole)
    return full[0] / level[0], full[1] / level[1]


def on_white(rows: np.ndarray, premultiplied: bool) -> np.ndarray:
    """Colour of 0 to 255 over white.

    Args:
        rows: (H, W, C), uint8 or uint16: grey, grey and alpha, RGB or RGBA.
        premultiplied: whether the colours are already weighted by alpha.

    Returns:
        (H, W, 3): uint8 if that is what is stored and nothing is transparent, else float32.
    """
    channels = rows.shape[-1]
    if rows.dtype != np.uint8:
        rows = rows.astype(np.float32) / 257.0
    if channels in (2, 4):
        if (rows[..., -1] == 255).all():
            return np.broadcast_to(rows[..., :-1], (*rows.shape[:2], 3))
        alpha = rows[..., -1:].astype(np.float32) / 255.0
        colour = rows[..., :-1].astype(np.float32)
        rows = (colour if premultiplied else colour * alpha) + 255.0 * (1.0 - alpha)
    return np.broadcast_to(rows, (*rows.shape[:2], 3))


def open_section(path: Path, pixel_um: float | None = None) -> Section:
    """Open a slide without reading it, except a PNG, which has to be decoded whole.

    PNG; TIFF and OME-TIFF, of strips or tiles, with pyramids as SubIFDs or further pages (a compressed TIFF of one
    strip is decoded whole when read); slides of scanners through OpenSlide.

    Args:
        path: the file.
        pixel_um: pixel size at full resolution in µm, in place of what the file states.

    Raises:
        InputError: if there is none, it cannot be read, is not one image of 8 or 16 bits, its pixels are not
            square within 1 %, or neither it nor ``pixel_um`` gives their size.
    """
    suffix = path.suffix.lower()
    if not path.is_file():
        what = "is a folder; name one slide in it." if path.is_dir() else "does not exist."
        raise InputError(f"{path} {what}")
    if suffix not in SUFFIXES:
        raise InputError(f"{path} is not a slide this program reads ({', '.join(SUFFIXES)}).")
    open_levels = _open_png if suffix == ".png" else _open_tiff if suffix in TIFF else _open_vendor
    with reading(str(path)):
        levels, stated, premultiplied = open_levels(path)
    if pixel_um is None:
        pixel_um = _square(path, stated)
    if not (np.isfinite(pixel_um) and pixel_um > 0):
        raise InputError(f"{path} has pixels of {pixel_um} µm; give their size in µm with --pixel_um")
    return Section(path, levels[0].shape, float(pixel_um), levels, premultiplied)


def _square(path: Path, stated: tuple[float, float] | None) -> float:
    """The one size of the pixels a file states."""
    if stated is None:
        raise InputError(f"{path} states no pixel size; give it in µm with --pixel_um")
    row, column = stated
    if column > LARGEST_UM:
        raise InputError(
            f"{path} states pixels of {column:.6g} µm, a screen's resolution, no microscope's; give their size in µm "
            "with --pixel_um"
        )
    if not abs(row / column - 1) <= SAME:
        raise InputError(
            f"{path} has pixels of {row:.6g}×{column:.6g} µm, not squares; resample it, or give --pixel_um if it errs."
        )
    return column


Opened = tuple[tuple[Level, ...], tuple[float, float] | None, bool]  # levels, (row, column) µm, premultiplied


def _open_png(path: Path) -> Opened:
    content = path.read_bytes()
    pixels = imagecodecs.png_decode(content)
    pixels = pixels[..., None] if pixels.ndim == 2 else pixels
    level = Level(pixels.shape[:2], 1, lambda start, stop: pixels[start:stop])
    return (level,), png_pixel_um(content), False


def _open_tiff(path: Path) -> Opened:
    file = tifffile.TiffFile(path)  # stays open for the rows
    page: Any = file.pages.first
    full = file.series[0]
    channels = page.samplesperpixel if "S" in full.axes else full.shape[0] if full.axes == "CYX" else 1
    found = f"{'×'.join(map(str, full.shape))} {full.dtype}, axes {full.axes}, {page.photometric.name}"
    if full.axes not in ("YX", "YXS", "SYX", "CYX") or channels > 4 or page.photometric not in PLAIN:
        raise InputError(f"{path} is {found}; a slide is one image, grey or RGB.")
    if full.dtype not in (np.uint8, np.uint16):
        raise InputError(f"{path} is {found}; a slide has 8 or 16 bits, so convert it.")
    levels = [*full.levels, *(series for series in file.series[1:] if is_level(series, full))]
    voxel_um = tiff_voxel_um(file)
    premultiplied = PREMULTIPLIED in page.extrasamples
    return tuple(_tiff_level(path, level) for level in levels), voxel_um and voxel_um[1:], premultiplied


def sides_of(series: Any) -> tuple[int, int]:
    """Rows and columns of a TIFF's image."""
    return series.shape[series.axes.index("Y")], series.shape[series.axes.index("X")]


def is_level(series: Any, full: Any) -> bool:
    """Whether a further image of a TIFF is the slide again, coarser: not a label, a macro picture or a mask."""
    if series.axes != full.axes or series.dtype != full.dtype:
        return False
    (height, width), (rows, columns) = sides_of(full), sides_of(series)
    slack = 1 / rows + 1 / columns  # a row or column more or less
    return rows < height and columns < width and abs((height / rows) / (width / columns) - 1) <= slack


def _tiff_level(path: Path, series: Any) -> Level:
    """Rows of one image of a TIFF: from the file where they lie uncompressed in one piece, else by strips or tiles."""
    if series.dataoffset is not None:
        dtype = np.dtype(series.dtype).newbyteorder(series.parent.byteorder)
        array: Any = np.memmap(path, dtype, "r", series.dataoffset, series.shape)
        band = 1
    else:
        import zarr

        white = np.iinfo(series.dtype).max  # of tiles that a scanner left out
        array = zarr.open_array(series.aszarr(level=0, fillvalue=white), mode="r")
        band = array.chunks[series.axes.index("Y")]

    def rows(start: int, stop: int) -> np.ndarray:
        if series.axes == "YX":
            return np.asarray(array[start:stop])[..., None]
        if series.axes == "YXS":
            return np.asarray(array[start:stop])
        return np.moveaxis(np.asarray(array[:, start:stop]), 0, -1)

    return Level(sides_of(series), band, rows)


def _open_vendor(path: Path) -> Opened:
    try:
        import openslide
    except ImportError as error:
        raise InputError(
            f"{path} is read through OpenSlide, which is missing; pip install openslide-python openslide-bin"
        ) from error
    slide = openslide.OpenSlide(path)

    def level_of(number: int) -> Level:
        width, height = slide.level_dimensions[number]
        downsample = slide.level_downsamples[number]
        tile = int(slide.properties.get(f"openslide.level[{number}].tile-height", 256))

        def rows(start: int, stop: int) -> np.ndarray:
            corner = (0, round(start * downsample))  # in pixels of the full resolution
            return np.asarray(slide.read_region(corner, number, (width, stop - start)))

        return Level((height, width), tile, rows)

    mpp = [slide.properties.get(name) for name in (openslide.PROPERTY_NAME_MPP_Y, openslide.PROPERTY_NAME_MPP_X)]
    stated = (float(mpp[0]), float(mpp[1])) if mpp[0] and mpp[1] else None
    return tuple(level_of(number) for number in range(slide.level_count)), stated, False
