"""Boxes of a slide, of its stain and of the expected error as pictures."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence

import imagecodecs
import matplotlib
import numpy as np
from PIL import Image

from bundle.common.palette import HEAT, PAGE, rgb
from bundle.images.channel_slides import Facts, Scan
from bundle.images.slide_boxes import SlideBoxes
from bundle.images.stained_slides.pyramid import Pyramid
from bundle.images.stained_slides.spec import COLOURS

Pictures = Callable[[int, slice, slice], np.ndarray]  # of a level, rows and columns: (h, w, 3), uint8
QUALITY = 85  # of JPEG; colour in full resolution, as DAB in a thin membrane is colour
MOST_STORED = 2**24  # px of what a file stores that are read at once, when a coarse level has to be averaged from them
PERIOD, STROKE = 16, 3  # px of hatches; a tile's side is whole periods
SHADES, HATCH, CLEAR = 253, 254, 255  # of the palette of the expected error: up to SHADES from none to most


def as_picture(box: np.ndarray, is_rgb: bool, colours: Sequence[str], shown: Sequence[float]) -> np.ndarray:
    """Pixels of any kind as something to look at.

    Args:
        box: (h, w, C): one colour picture, or channels that are lit in their colours and added.
        is_rgb: whether it is a colour picture.
        colours: of the channels, RGB in hexadecimals.
        shown: values that are darkest and brightest.

    Returns:
        (h, w, 3), uint8.
    """
    low, high = shown
    if is_rgb and box.dtype == np.uint8 and (low, high) == (0, 255):
        return np.ascontiguousarray(box)
    light = np.clip((box.astype(np.float32) - low) / (high - low), 0, 1)
    if box.shape[2] == 1:
        light = np.broadcast_to(light, (*box.shape[:2], 3))
    elif not is_rgb:
        hues = np.array([rgb(f"#{colour}") for colour in colours], np.float32) / 255
        light = np.clip(light @ hues, 0, 1)
    return np.rint(255 * light).astype(np.uint8)


def stain_pictures(stain: Pyramid) -> Pictures:
    """Pictures of a stained slide."""
    spec = stain.spec

    def read(level: int, rows: slice, columns: slice) -> np.ndarray:
        return as_picture(stain.read(level, rows, columns), spec.rgb, spec.colours, spec.shown)

    return read


def source_pictures(facts: Facts, scan: Scan, shown: Sequence[float] | None = None) -> Pictures:
    """Pictures of the slide itself on the grid of its stain.

    Memory is bounded whatever levels the file stores: what has to be averaged is read in parts.

    Args:
        facts: of its header.
        scan: the slide, open for as long as pictures are read, at the stain's pixel size.
        shown: values that are darkest and brightest, as its dataset declares them; None for all that its type holds,
            which is right for a colour picture alone.

    Raises:
        ValueError: if ``shown`` is None and the slide is no colour picture of whole numbers.
    """
    if shown is None:
        if not facts.rgb or facts.dtype.kind != "u":
            raise ValueError(f"{facts.path} is no colour picture of whole numbers: say which values are shown")
        shown = (0, int(np.iinfo(facts.dtype).max))
    known: dict[int, SlideBoxes] = {}

    def read(level: int, rows: slice, columns: slice) -> np.ndarray:
        if level not in known:
            known[level] = SlideBoxes(scan, float(2**level))
        boxes = known[level]
        box = tuple(  # a last row or column that is less than half covered is in the stain's level alone
            slice(min(part.start, size - 1), min(part.stop, size))
            for part, size in zip((rows, columns), boxes.size, strict=True)
        )
        found = _in_parts(boxes, *box)
        assert shown is not None
        picture = as_picture(found, facts.rgb, _cycled(found.shape[2]), shown)
        lacking = [
            (0, part.stop - part.start - size) for part, size in zip((rows, columns), picture.shape, strict=False)
        ]
        return np.pad(picture, [*lacking, (0, 0)], mode="edge") if any(after for _, after in lacking) else picture

    return read


def _cycled(channels: int) -> list[str]:
    return [COLOURS[place % len(COLOURS)] for place in range(channels)]


def _in_parts(boxes: SlideBoxes, rows: slice, columns: slice) -> np.ndarray:
    """A box, read in so many parts that little of the file is decoded at once."""
    stored = np.array(boxes.stored) / boxes.size  # px of the file along each axis to a pixel here
    side = max(1, int(np.sqrt(MOST_STORED / np.prod(stored))))
    bands = []
    for top in range(rows.start, rows.stop, side):
        parts = [
            boxes.read(slice(top, min(top + side, rows.stop)), slice(left, min(left + side, columns.stop)))
            for left in range(columns.start, columns.stop, side)
        ]
        bands.append(np.concatenate(parts, axis=1))
    return np.concatenate(bands)


def jpeg(picture: np.ndarray) -> bytes:
    """A picture (h, w, 3) as a JPEG file."""
    return bytes(imagecodecs.jpeg8_encode(np.ascontiguousarray(picture), level=QUALITY, subsampling="444"))


def error_png(error: np.ndarray, stained: np.ndarray, most: float) -> bytes:
    """The expected error as a PNG file to lie over a stain: hatched where it is not known, clear where there is none.

    Args:
        error: (h, w), NaN where nothing is known.
        stained: (h, w), whether anything is stained there.
        most: what is brightest.
    """
    known = np.isfinite(error)
    place = np.clip(np.where(known, error, 0) / most, 0, 1)
    indices = np.rint(SHADES * place).astype(np.uint8)
    lines = np.add.outer(*(np.arange(size) for size in error.shape)) % PERIOD < STROKE
    indices[~known] = CLEAR
    indices[~known & stained & lines] = HATCH
    picture = Image.fromarray(indices, "P")
    shades = np.rint(255 * matplotlib.colormaps[HEAT](np.linspace(0, 1, SHADES + 1))[:, :3]).astype(int)
    picture.putpalette([*shades.ravel().tolist(), *rgb(PAGE["quiet"]), 0, 0, 0])
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", transparency=CLEAR)
    return buffer.getvalue()
