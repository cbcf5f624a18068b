"""Which part of a tile is tissue: by optical density in brightfield, by intensity in fluorescence."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from skimage.filters import threshold_otsu

from bundle.common.errors import InputError
from bundle.images.channel_slides import Scan

BOX = 8  # tile pixels averaged before the threshold (ours): 4 µm at 20×, about a nucleus, so that noise is none
DENSITY = 0.1  # log₁₀; ours: glass as dark as 80 % of white has less, cells of H&E and hematoxylin more
DARKEST = 1 / 255  # of white; 0 would have no finite density
APART = 5.0  # SDs of the background between the two classes (ours); one noisy class cut in two has 2.7, a flat one 3.5


@dataclass(frozen=True)
class Kind:
    """How tissue shows in a kind of image.

    Attributes:
        signal: of pixels (..., C) and (low, high), the declared range: (...), higher where tissue is.
        threshold: of a scan, its range, and how a user gives another (for a message): above which the signal is tissue.
    """

    signal: Callable[[np.ndarray, tuple[float, float]], np.ndarray]
    threshold: Callable[[Scan, tuple[float, float], str], float]


def optical_density(pixels: np.ndarray, limits: tuple[float, float]) -> np.ndarray:
    """−log₁₀ of value / white, the largest of the channels.

    Args:
        pixels: (..., C), in units of the range.
        limits: the declared range; its upper end is white.

    Returns:
        (...), float; from 0 to 2.4.
    """
    low, high = limits
    darkest = pixels.min(axis=-1).astype(np.float32)
    return -np.log10(np.clip((darkest - low) / (high - low), DARKEST, 1))


def intensity(pixels: np.ndarray, limits: tuple[float, float]) -> np.ndarray:
    """The sum of the channels, (..., C) → (...), in the file's units."""
    del limits
    return pixels.sum(axis=-1, dtype=np.float32)


def otsu(scan: Scan, limits: tuple[float, float], way: str) -> float:
    """Otsu's threshold on the sum of the channels of a whole image, averaged as tiles are.

    Args:
        scan: the image, open.
        limits: its declared range.
        way: how a user gives another threshold, for the message.

    Raises:
        InputError: if it does not part the image into a background and something well above it.
    """
    sums = np.concatenate([intensity(rows, limits) for rows in scan.rows(coarser=BOX)]).ravel()
    if sums.min() < sums.max():
        threshold = float(threshold_otsu(sums))
        below, above = sums[sums <= threshold], sums[sums > threshold]
        if len(above) and above.mean() - below.mean() >= APART * below.std():
            return threshold
    raise InputError(
        f"{scan.path} does not divide into background and tissue by Otsu's threshold: it is all of one or of the "
        f"other; give a threshold on the sum of its channels, in its own units ({way}), or leave the file out."
    )


KINDS = {
    "brightfield": Kind(optical_density, lambda scan, limits, way: DENSITY),
    "fluorescence": Kind(intensity, otsu),
}


def boxes(tile: np.ndarray) -> np.ndarray:
    """Means of boxes of 8×8 px; pixels at the end that fill no box are left out.

    Args:
        tile: (H, W, C), of 8 px or more.

    Returns:
        (H // 8, W // 8, C), float32.
    """
    rows, columns = (size // BOX for size in tile.shape[:2])
    cut = tile[: rows * BOX, : columns * BOX].reshape(rows, BOX, -1).mean(axis=1, dtype=np.float32)
    return cut.reshape(rows, columns, BOX, -1).mean(axis=2)  # one axis at a time: five times as fast as both at once


def tissue_share(tile: np.ndarray, kind: Kind, threshold: float, limits: tuple[float, float]) -> float:
    """Share of a tile whose signal, of means over 8×8 px, is above a threshold.

    Args:
        tile: (H, W, C), in units of the range.
        kind: of the image.
        threshold: in units of the signal.
        limits: the declared range.

    Returns:
        0 to 1.
    """
    return float((kind.signal(boxes(tile), limits) > threshold).mean())
