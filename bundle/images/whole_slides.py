"""Histology slides read at the pixel size one needs, band by band, so that none is held whole."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tifffile

from bundle.common.errors import InputError
from bundle.images import png
from bundle.images.averaging import add_block, axis_weights, blocks, box_count, pieces
from bundle.images.pixel_size import SAME, side_of, tiff_voxel_um
from bundle.images.slides import TIFF, TIFF_AXES, interleaved, reading
from bundle.images.tiff import PHOTOMETRIC, Meaning, meaning_of, ome_files
from bundle.images.turning import SWAPPED, Box, box_as_seen, turned, turned_shape

VENDOR = (".svs", ".ndpi", ".mrxs", ".scn", ".vms", ".vmu", ".bif", ".svslide", ".dcm", ".czi")
SUFFIXES = (".png", *TIFF, *VENDOR)
DARKEST = 2**14 - 1  # of the brightest pixel of a slide of 16 bits: a camera's 12 or 14 are not full scale
HAMAMATSU = (".vms", ".vmu", ".jpg", ".opt", ".ngr")  # files of a slide of several
LARGEST_UM = 200.0  # of a stated pixel; programs write 72 or 96 dpi (353, 265 µm) when they know none


@dataclass(frozen=True)
class Level:
    """One stored resolution of a slide.

    Attributes:
        shape: (rows, columns).
        band: rows that are decoded together, so best read together.
        box: reads slices of rows and columns, each with a start and a stop, (h, w, C), uint8 or uint16, C of 1 to 4;
            an even C of a section ends with alpha.
    """

    shape: tuple[int, int]
    band: int
    box: Box

    def rows(self, start: int, stop: int) -> np.ndarray:
        """Read rows start to stop, (n, columns, C)."""
        return self.box(slice(start, stop), slice(0, self.shape[1]))


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
            InputError: if ``target_um`` is finer than the slide by more than 1 %, or larger than all of it, the file
                is truncated or corrupt, or of 16 bits that do not reach the upper three quarters of their range.
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
        brightest = 0
        for start, rows in self._bands(self.levels[level]):
            brightest = max(brightest, int(rows.max()) if rows.dtype == np.uint16 else DARKEST + 1)
            for first, piece in pieces(start, rows):
                add_block(total, on_white(piece, self.premultiplied), first, weights)
        if brightest <= DARKEST:
            raise InputError(
                f"{self.path} has 16 bits, but its brightest value is {brightest}; white is 65535, so scale it to the "
                "full range, as 12 or 14 bits of a camera are not."
            )
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
    return side_of(path, row, column, "resample it, or give --pixel_um if it errs")


Opened = tuple[tuple[Level, ...], tuple[float, float] | None, bool]  # levels, (row, column) µm, premultiplied


def _open_png(path: Path) -> Opened:
    content = path.read_bytes()
    header = png.header_of(content)
    pixels = turned(png.decoded(content, header), header.orientation)
    level = Level(pixels.shape[:2], 1, lambda rows, columns: pixels[rows, columns])
    return (level,), header.pixel_um, False


def _open_tiff(path: Path) -> Opened:
    file = tifffile.TiffFile(path)  # stays open for the rows
    full: Any = file.series[0]
    found = f"{'×'.join(map(str, full.shape))} {full.dtype}, axes {full.axes}, {full.keyframe.photometric.name}"
    if full.axes not in TIFF_AXES:
        raise InputError(f"{path} is {found}; a slide is one image, grey or RGB.")
    meaning = meaning_of(path, file)
    if meaning.channels - meaning.alpha not in (1, 3):
        raise InputError(f"{path} is {found}; a slide is one image, grey or RGB.")
    if meaning.dtype not in (np.uint8, np.uint16):
        raise InputError(f"{path} is {found}; a slide has 8 or 16 bits, so convert it.")
    voxel_um = tiff_voxel_um(file)
    pixel_um = voxel_um and (voxel_um[:0:-1] if meaning.orientation in SWAPPED else voxel_um[1:])
    return tuple(tiff_levels(path, file, meaning)), pixel_um, meaning.premultiplied


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


def tiff_levels(path: Path, file: Any, meaning: Meaning, channels: Sequence[int] | None = None) -> list[Level]:
    """The resolutions that a TIFF stores of its first image, finest first.

    Args:
        path: the file.
        file: the same, open; it stays so for as long as rows are read.
        meaning: of its pixels.
        channels: which to read of an image of channels; None for all. No light is there where no tile was stored.
    """
    full = file.series[0]
    stored = [*full.levels, *(series for series in file.series[1:] if is_level(series, full))]
    bright = meaning.rgb or meaning.channels == 1
    return [_tiff_level(path, series, meaning, channels, bright and channels is None) for series in stored]


def _tiff_level(path: Path, series: Any, meaning: Meaning, channels: Sequence[int] | None, bright: bool) -> Level:
    """Rows of one image of a TIFF: from the file where they lie uncompressed in one piece, else by strips or tiles."""
    chosen = slice(None) if channels is None else list(channels)
    if series.dataoffset is not None:
        dtype = np.dtype(series.dtype).newbyteorder(series.parent.byteorder)
        array: Any = np.memmap(path, dtype, "r", series.dataoffset, series.shape)
        band = 1
    else:
        import zarr

        white = np.iinfo(series.dtype).max if bright and series.keyframe.photometric != PHOTOMETRIC.MINISWHITE else 0
        array = zarr.open_array(series.aszarr(level=0, fillvalue=white), mode="r")  # of tiles that a scanner left out
        band = array.chunks[series.axes.index("X" if meaning.orientation in SWAPPED else "Y")]

    def box(rows: slice, columns: slice) -> np.ndarray:
        if series.axes in ("YX", "YXS"):
            stored = np.asarray(array[rows, columns])
        elif channels is None:
            stored = np.asarray(array[:, rows, columns])
        else:
            stored = np.stack([np.asarray(array[channel, rows, columns]) for channel in channels])
        read = meaning.read(interleaved(stored, series.axes))
        return read[..., chosen] if series.axes in ("YX", "YXS") else read

    shape = sides_of(series)
    return Level(turned_shape(shape, meaning.orientation), band, box_as_seen(box, shape, meaning.orientation))


def _open_vendor(path: Path) -> Opened:
    import openslide  # not every user of slides has it

    slide = openslide.OpenSlide(path)

    def level_of(number: int) -> Level:
        width, height = slide.level_dimensions[number]
        downsample = slide.level_downsamples[number]
        tile = int(slide.properties.get(f"openslide.level[{number}].tile-height", 256))

        def box(rows: slice, columns: slice) -> np.ndarray:
            corner = (round(columns.start * downsample), round(rows.start * downsample))  # in full pixels
            return np.asarray(slide.read_region(corner, number, (columns.stop - columns.start, rows.stop - rows.start)))

        return Level((height, width), tile, box)

    mpp = [slide.properties.get(name) for name in (openslide.PROPERTY_NAME_MPP_Y, openslide.PROPERTY_NAME_MPP_X)]
    stated = (float(mpp[0]), float(mpp[1])) if mpp[0] and mpp[1] else None
    return tuple(level_of(number) for number in range(slide.level_count)), stated, False


def companions(path: Path) -> list[Path]:
    """All files that a slide consists of, itself among them, in order of their names."""
    suffix = path.suffix.lower()
    if suffix in TIFF:
        with reading(str(path)), tifffile.TiffFile(path) as file:
            return sorted({path, *ome_files(path, file)})
    if suffix == ".mrxs":
        return [path, *sorted(each for each in path.with_suffix("").rglob("*") if each.is_file())]
    if suffix in (".vms", ".vmu", ".dcm"):
        beside = [each for each in path.parent.iterdir() if each.is_file() and _is_part(each, suffix)]
        return sorted({path, *beside})
    return [path]


def _is_part(path: Path, suffix: str) -> bool:
    """Whether a file beside a slide may be of it: what a run leaves there is not, so it does not make it another."""
    if suffix != ".dcm":
        return path.suffix.lower() in HAMAMATSU
    from bundle.images.dicom.slices import begins_as_dicom

    with path.open("rb") as file:
        return begins_as_dicom(file.read(132))
