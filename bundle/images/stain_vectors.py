"""Hematoxylin, eosin and DAB in a brightfield image: colour deconvolution, and its inverse."""

from __future__ import annotations

import numpy as np
from skimage.color import hed_from_rgb, rgb_from_hed

STAINS = ("hematoxylin", "eosin", "DAB")
DARKEST = 1  # of 255; a pixel of 0 would have no finite density


def densities(rgb: np.ndarray) -> np.ndarray:
    """How much of each stain a pixel holds (Ruifrok and Johnston 2001), with the stain vectors of scikit-image.

    Proportional to ``skimage.color.rgb2hed``, but not clipped at 0, and in optical density: a pixel of hematoxylin
    1.0 alone has −log₁₀ of its RGB transmissions equal to that stain's vector.

    Args:
        rgb: (3, H, W), uint8.

    Returns:
        (3, H, W), float64: optical density (log₁₀) of hematoxylin, eosin and DAB; below 0 where noise is.

    Raises:
        ValueError: if the image has not 3 channels of uint8.
    """
    if rgb.shape[0] != 3 or rgb.dtype != np.uint8:
        raise ValueError(f"colour deconvolution needs (3, H, W) of uint8, got {rgb.shape} of {rgb.dtype}")
    absorbed = -np.log10(np.maximum(rgb, DARKEST) / 255)
    return np.einsum("chw,cs->shw", absorbed, hed_from_rgb)


def mixed(stains: np.ndarray) -> np.ndarray:
    """The image that stains of given densities make on white light; the inverse of :func:`densities`.

    Args:
        stains: (3, H, W), optical density of hematoxylin, eosin and DAB.

    Returns:
        (3, H, W), uint8.
    """
    absorbed = np.einsum("shw,sc->chw", stains, rgb_from_hed)
    return np.clip(np.rint(255 * 10**-absorbed), 0, 255).astype(np.uint8)
