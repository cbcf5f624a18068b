"""What two stains have in common: how much tissue lies at a place, whatever its colour."""

from __future__ import annotations

import numpy as np
from scipy.ndimage import gaussian_filter, map_coordinates

FLAT = 0.1  # share of the pixels, the flattest, whose colour is the background's
DARK = 100  # a background below it is a fluorescence slide's or a scan's, not glass
FLAT_BLUR_PX = 2.0
LEAST_SPREAD = 0.01  # standard deviation of density below which an image is blank; even glass with noise has 0.004


def background_of(image: np.ndarray) -> np.ndarray:
    """The colour of what holds no tissue: the median of the flattest tenth of the pixels.

    Args:
        image: (3, H, W), uint8.

    Returns:
        (3,), float.
    """
    grey = image.mean(0, dtype=np.float32)
    mean = gaussian_filter(grey, FLAT_BLUR_PX)
    spread = gaussian_filter(grey**2, FLAT_BLUR_PX) - mean**2
    return np.median(image[:, spread <= np.quantile(spread, FLAT)], axis=1).astype(float)


def density(image: np.ndarray) -> np.ndarray:
    """Mean optical density −log10(v / background) on glass; on a dark background the distance from it over 255.

    Args:
        image: (3, H, W), uint8.

    Returns:
        (H, W), float32, 0 where there is no tissue.
    """
    background = background_of(image)[:, None, None]
    if background.mean() < DARK:
        return (np.abs(image - background).mean(0) / 255).astype(np.float32)
    optical = -np.log10((image + 1.0) / (background + 1.0))
    return np.clip(optical.mean(0), 0, None).astype(np.float32)


def is_blank(tissue: np.ndarray) -> bool:
    """Whether a density (H, W) shows nothing."""
    return float(gaussian_filter(tissue, FLAT_BLUR_PX).std()) < LEAST_SPREAD


def shrunk(image: np.ndarray, factor: float) -> np.ndarray:
    """An image (H, W) at pixels ``factor`` times as large, from the same corner, smoothed before; float32."""
    if factor <= 1:
        return image.astype(np.float32)
    smooth = gaussian_filter(image.astype(np.float32), factor / 2, mode="nearest")
    steps = [(np.arange(max(1, int(size / factor))) + 0.5) * factor - 0.5 for size in image.shape]
    return map_coordinates(smooth, np.meshgrid(*steps, indexing="ij"), order=1, mode="nearest")
