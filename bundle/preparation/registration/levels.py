"""The images that are compared: a section as colour classes, a volume as grey bins, at several sizes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.cluster.vq import kmeans2, vq

from bundle.preparation.registration.similarity import BINS

COLOURS = 12  # classes of a section's pixels; 6 lose planes, 24 gain nothing
SEEN = 4000  # pixels that the classes are learnt from
CLIPPED = (0.2, 99.8)  # percentiles of the grey values that become the first and the last bin
SMALLEST_PX = 32  # of a section's longer side on the coarsest level


@dataclass(frozen=True)
class Level:
    """Section and volume at one size.

    Attributes:
        factor: voxels of the volume a side of one here.
        volume: (Z, Y, X), float32, 0 to ``BINS`` − 1.
        points: (H · W, 2), float32, row and column of each pixel from the section's middle, in pixels of this level.
        classes: (H · W,), uint8, the colour class of each pixel.
        shape: (H, W).
    """

    factor: int
    volume: np.ndarray
    points: np.ndarray
    classes: np.ndarray
    shape: tuple[int, int]

    @property
    def colours(self) -> int:
        """How many colour classes there are."""
        return int(self.classes.max()) + 1


def make_levels(volume: np.ndarray, section: np.ndarray) -> list[Level]:
    """Halve volume and section until the section's longer side is about ``SMALLEST_PX``.

    Args:
        volume: (Z, Y, X), any real type.
        section: (3, H, W), its pixels of the voxels' size.

    Returns:
        The coarsest first, down to half size; full size too if that is all there is.
    """
    levels = []
    factor, greys, image = 1, volume, section.astype(np.float32)
    centres = colour_centres(section)
    while True:
        last = max(image.shape[1:]) < 2 * SMALLEST_PX or min(greys.shape) < 16
        if factor > 1 or last:
            places = pixel_places(image.shape[1:], section.shape[1:], factor)
            levels.append(Level(factor, to_bins(greys, greys), places, classify(image, centres), image.shape[1:]))
        if last:
            return levels[::-1]
        factor, greys, image = factor * 2, halve_volume(greys), halve(image)


def halve(image: np.ndarray) -> np.ndarray:
    """Mean over 2 × 2 pixels of the last two axes, float32; an odd last row or column is left out."""
    rows, columns = image.shape[-2] // 2 * 2, image.shape[-1] // 2 * 2
    total = image[..., 0:rows:2, 0:columns:2].astype(np.float32)
    for row, column in ((0, 1), (1, 0), (1, 1)):
        total += image[..., row:rows:2, column:columns:2]
    total *= 0.25
    return total


def halve_volume(volume: np.ndarray) -> np.ndarray:
    """Mean over 2 × 2 × 2 voxels, (Z, Y, X) → float32 of half the size, two slices at a time."""
    depth, height, width = (size // 2 for size in volume.shape)
    half = np.empty((depth, height, width), np.float32)
    for k in range(depth):
        half[k] = halve(volume[2 * k : 2 * k + 2]).mean(0)
    return half


def pixel_places(shape: tuple[int, ...], full: tuple[int, ...], factor: int) -> np.ndarray:
    """Rows and columns (H · W, 2) of a reduced section's pixels from the full section's middle, in its own pixels."""
    steps = [((np.arange(size) + 0.5) * factor - whole / 2) / factor for size, whole in zip(shape, full, strict=True)]
    return np.stack(np.meshgrid(*steps, indexing="ij"), axis=-1).reshape(-1, 2).astype(np.float32)


def colour_centres(section: np.ndarray) -> np.ndarray:
    """Colours (``COLOURS``, 3) that stand for the section's pixels (3, H, W), by k-means."""
    pixels = section.reshape(3, -1).T
    seen = pixels[:: max(1, len(pixels) // SEEN)].astype(np.float64)
    return kmeans2(seen, COLOURS, seed=0, minit="++", missing="warn")[0]


def classify(section: np.ndarray, centres: np.ndarray) -> np.ndarray:
    """The nearest of the colours for each pixel, (3, H, W) → (H · W,) uint8."""
    return vq(section.reshape(3, -1).T.astype(np.float64), centres)[0].astype(np.uint8)


def to_bins(greys: np.ndarray, seen: np.ndarray) -> np.ndarray:
    """Grey values as bins, by percentiles of a part of them.

    Args:
        greys: any shape.
        seen: whose percentiles count.

    Returns:
        float32 of the shape of ``greys``, 0 to ``BINS`` − 1.
    """
    sample = seen.ravel()[:: max(1, seen.size // 1_000_000)]
    low, high = np.percentile(sample, CLIPPED)
    scaled = (greys.astype(np.float32) - low) * np.float32((BINS - 1) / max(high - low, 1e-12))
    return np.clip(scaled, 0, BINS - 1, out=scaled)
