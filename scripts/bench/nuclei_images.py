"""Images with labelled nuclei, scaled, cut, stretched and coloured for :mod:`scripts.bench.nuclei_data`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.ndimage import uniform_filter
from skimage.color import hsv2rgb
from skimage.transform import rescale

from bundle.common.errors import InputError
from bundle.images.slides import read_slide

LABELS = "_labels.png"
FEWEST = 3  # nuclei of a fluorescence image
LEVELS = (12.0, 235.0)  # of 255, to which background and the brightest nuclei of fluorescence are stretched


@dataclass(frozen=True)
class Labelled:
    """An image with its nuclei.

    Attributes:
        name: without suffix.
        pixels: (C, H, W), uint8.
        labels: (H, W), uint16.
    """

    name: str
    pixels: np.ndarray
    labels: np.ndarray

    @property
    def diameter(self) -> float:
        """Median equivalent diameter of its nuclei, px."""
        areas = np.bincount(self.labels.ravel())[1:]
        return float(np.median(2 * np.sqrt(areas[areas > 0] / np.pi)))

    @property
    def cover(self) -> float:
        """Share of its pixels that are nuclei."""
        return float((self.labels > 0).mean())


def read_folder(folder: Path) -> list[Labelled]:
    """The images of a folder, by name.

    Raises:
        InputError: if it holds none.
    """
    found = [path.name.removesuffix(LABELS) for path in sorted(folder.glob(f"*{LABELS}"))]
    if not found:
        raise InputError(f"{folder} holds no NAME{LABELS}; give the folder with colour/ and fluorescence/.")
    return [
        Labelled(name, read_slide(folder / f"{name}.png").pixels[:3], read_slide(folder / f"{name}{LABELS}").pixels[0])
        for name in found
    ]


def wanted_diameters(found: Sequence[float], model: Sequence[float]) -> np.ndarray:
    """For each of ``found``, the value that stands at the same quantile of ``model``."""
    rank = np.argsort(np.argsort(found, kind="stable"), kind="stable")
    return np.quantile(model, (rank + 0.5) / len(rank))


def scaled(image: Labelled, factor: float) -> Labelled:
    """The same at another magnification; labels take the nearest pixel's."""
    # an area mean first where it shrinks, so that fine texture does not alias
    pixels = rescale(image.pixels.astype(float), factor, order=1, anti_aliasing=factor < 1, channel_axis=0)
    labels = rescale(image.labels, factor, order=0, preserve_range=True, anti_aliasing=False)
    return Labelled(image.name, np.clip(np.rint(pixels), 0, 255).astype(np.uint8), labels.astype(np.uint16))


def stretched(image: Labelled) -> Labelled:
    """Fluorescence with its background and its brightest nuclei at fixed levels."""
    values = image.pixels.astype(float)
    inside = np.broadcast_to(image.labels > 0, values.shape)
    low, high = np.median(values[~inside]), np.quantile(values[inside], 0.95)
    level = LEVELS[0] + (values - low) * (LEVELS[1] - LEVELS[0]) / max(high - low, 1.0)
    return Labelled(image.name, np.clip(np.rint(level), 0, 255).astype(np.uint8), image.labels)


def densest(image: Labelled, side: int) -> Labelled:
    """Its square window with the most nuclei."""
    cover = uniform_filter((image.labels > 0).astype(float), side, mode="constant")
    half, (height, width) = side // 2, image.labels.shape
    inner = cover[half : height - side + half + 1, half : width - side + half + 1]
    row, column = np.unravel_index(inner.argmax(), inner.shape)
    window = (slice(row, row + side), slice(column, column + side))
    labels = image.labels[window]
    numbers, flat = np.unique(np.append(0, labels), return_inverse=True)
    relabelled = flat[1:].reshape(side, side).astype(np.uint16)
    return Labelled(image.name, np.ascontiguousarray(image.pixels[(slice(None), *window)]), relabelled)


def matched(
    images: Sequence[Labelled], diameters: Sequence[float], side: int, least_cover: float
) -> tuple[list[Labelled], dict[str, float]]:
    """Windows of images scaled so that the windows' nuclei have the distribution of ``diameters``.

    A window with too few nuclei is left out, and what is left is matched anew, until all windows stay.

    Args:
        images: fluorescence.
        diameters: a median for each image that is to be like, px.
        side: of the windows, px.
        least_cover: share of a window that must be nuclei.

    Returns:
        The windows, and each one's factor by name.
    """
    left = [stretched(image) for image in images if len(np.unique(image.labels)) > FEWEST]
    while True:
        wanted = wanted_diameters([image.diameter for image in left], diameters)
        factors = {
            image.name: max(diameter / image.diameter, side / min(image.labels.shape))
            for image, diameter in zip(left, wanted, strict=True)
        }
        windows = [densest(scaled(image, factors[image.name]), side) for image in left]
        kept = [window.cover >= least_cover for window in windows]
        if all(kept):
            return windows, factors
        left = [image for image, keep in zip(left, kept, strict=True) if keep]


def inverted(image: Labelled) -> Labelled:
    """Fluorescence as dark nuclei on light, three equal channels."""
    return Labelled(image.name, np.repeat(255 - image.pixels, 3, axis=0), image.labels)


def tinted(image: Labelled, rng: np.random.Generator, number: int) -> Labelled:
    """Inverted fluorescence in random colours: one for background, one for nuclei, with contrast and a gamma.

    Nothing of it is taken from stained images: hues are any, background is light and pale, nuclei are darker.
    """
    background = hsv2rgb([rng.random(), rng.uniform(0, 0.35), rng.uniform(0.7, 1)])
    nucleus = hsv2rgb([rng.random(), rng.uniform(0.2, 0.9), rng.uniform(0.15, 0.65)])
    share = (image.pixels[0] / 255.0) ** np.exp(rng.uniform(-0.5, 0.5))
    colour = background[:, None, None] * (1 - share) + nucleus[:, None, None] * share
    pixels = 255 * colour + rng.normal(0, rng.uniform(0, 4), colour.shape)
    return Labelled(f"{image.name}_{number}", np.clip(np.rint(pixels), 0, 255).astype(np.uint8), image.labels)
