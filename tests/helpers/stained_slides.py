"""Stained slides with a planted pattern: each corner has its own colour and size, so no turn or swap goes unseen."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from bundle.images.stained_slides.formats import FORMATS, Packing
from bundle.images.stained_slides.pyramid import Pyramid
from bundle.images.stained_slides.spec import SlideSpec

SHAPE = (701, 1102)  # odd, and of no whole number of tiles
LEVELS = [(701, 1102), (351, 551), (176, 276)]
PIXEL_UM = 0.4973
ABOUT = {
    "stain": "Ki-67 β",
    "source": "H&E",
    "started": "2026-01-02T03:04:05+0000",
    "fingerprint": {"model": "ab" * 32},
}
NAMES = ("DAPI", "Ki\N{NON-BREAKING HYPHEN}67 β", "第三", "d < e", "last")
KINDS: dict[str, tuple[str, int, bool]] = {  # values, channels, whether they are one colour picture
    "rgb": ("|u1", 3, True),
    "three": ("|u1", 3, False),
    "five": ("<u2", 5, False),
    "grey": ("|u1", 1, False),
    "map": ("<f4", 1, False),
}
MARKS = (  # rows and columns of a corner, and what its first three channels are, of 255
    ((slice(0, 100), slice(0, 200)), (250, 20, 30)),
    ((slice(0, 60), slice(-300, None)), (10, 230, 60)),
    ((slice(-40, None), slice(0, 80)), (20, 40, 240)),
)


def pattern(kind: str, channels: int, shape: tuple[int, int] = SHAPE) -> np.ndarray:
    """(h, w, C): a ramp that no two pixels of a row or column share, and the marks."""
    rows, columns = np.mgrid[: shape[0], : shape[1]] / np.array(shape)[:, None, None]
    levels = [90 + 80 * rows + 40 * columns + 10 * channel for channel in range(channels)]
    pixels = np.stack(levels, -1)
    for (down, across), colour in MARKS:
        pixels[down, across] = (*colour, 77, 33)[:channels]
    if kind == "<u2":
        pixels *= 250  # past 32,767
    if kind == "<f4":
        pixels = np.where(rows[..., None] > 0.9, np.nan, pixels / 7)
    return pixels.astype(kind)


def spec_of(of: str, **given: Any) -> SlideSpec:
    """Of one of ``KINDS``."""
    kind, channels, rgb = KINDS[of]
    names = ("Red", "Green", "Blue") if rgb else NAMES[:channels]
    facts: dict[str, Any] = {
        "name": "stained µ",
        "shape": SHAPE,
        "kind": np.dtype(kind),
        "pixel_um": PIXEL_UM,
        "channel_names": names,
        "rgb": rgb,
        "background": (240.0,) * channels,
        "shown": (0, 255),
        "about": ABOUT,
    }
    return SlideSpec(**{**facts, **given})


def pyramid_of(folder: Path, of: str, pixels: np.ndarray | None = None, **given: Any) -> tuple[Pyramid, np.ndarray]:
    """A pyramid with all its levels, and the pixels of its finest."""
    spec = spec_of(of, **given)
    pixels = pattern(spec.kind.str, spec.channels, spec.shape) if pixels is None else pixels
    pyramid = Pyramid(folder, spec)
    pyramid.create()
    pyramid.write(0, 0, pixels)
    for level in range(1, len(spec.levels)):
        pyramid.build(level)
    return pyramid, pixels


def level_of(pyramid: Pyramid, level: int) -> np.ndarray:
    """(h, w, C), all of a level."""
    height, width = pyramid.spec.levels[level]
    return pyramid.read(level, slice(0, height), slice(0, width))


def written(path: Path, file_format: str, pyramid: Pyramid, packing: Packing | None = None) -> Path:
    """A pyramid as a file or folder of a format."""
    made = FORMATS[file_format]
    made.check(pyramid.spec, packing or Packing("lossless"))
    made.write(path, pyramid, packing or Packing("lossless"), lambda: None)
    return path


def far(one: np.ndarray, other: np.ndarray) -> float:
    """How far two pictures are apart on the mean; unlike shapes are a fault."""
    assert one.shape == other.shape
    return float(np.abs(one.astype(float) - other).mean())
