"""Pictures of nuclei: outlines of the truth and of what was found, on the image."""

from __future__ import annotations

import numpy as np
from skimage.segmentation import find_boundaries

from bundle.common.palette import FOUND, PAPER, TRUE
from bundle.data.datalist import Modality
from bundle.images.false_colour import shown

SCALE = 2  # so that an outline hides little of a nucleus of 10 px
BRIGHTEST = 0.998  # quantile of fluorescence that is shown as full brightness


def outlined(
    pixels: np.ndarray,
    image: Modality,
    found: np.ndarray,
    true: np.ndarray | None = None,
    scale: int = SCALE,
    colour: tuple[int, int, int] = FOUND,
) -> np.ndarray:
    """An image with outlines of nuclei: found in magenta, true in green, white where they are the same.

    Fluorescence (any number of channels but 3) is brightened for the eye, each image by its own maximum.

    Args:
        pixels: (C, H, W), in the units of the declared range.
        image: what is declared.
        found: (H, W), labels.
        true: (H, W), labels; None for none.
        scale: pixels of the picture for one of the image.
        colour: of what was found.

    Returns:
        (scale · H, scale · W, 3), uint8.
    """
    scaled = (pixels.astype(np.float32) - image.low) / (image.high - image.low)
    if len(pixels) != 3:
        scaled = scaled / max(float(np.quantile(scaled, BRIGHTEST)), 1e-6)
    picture = (np.clip(shown(np.clip(scaled, 0, 1)), 0, 1) * 255).round().astype(np.uint8).transpose(1, 2, 0)
    picture = picture.repeat(scale, 0).repeat(scale, 1)
    lines = _outlines(found, scale)
    picture[lines] = colour
    if true is not None:
        truth = _outlines(true, scale)
        picture[truth] = TRUE
        picture[truth & lines] = PAPER
    return picture


def _outlines(labels: np.ndarray, scale: int) -> np.ndarray:
    return find_boundaries(labels.repeat(scale, 0).repeat(scale, 1), mode="inner")
