"""Images of any number of channels as something to look at."""

from __future__ import annotations

import numpy as np

HUES = ((0.2, 0.4, 1.0), (1.0, 0.35, 0.1), (0.2, 0.9, 0.3), (0.9, 0.2, 0.9))  # blue, orange, green, magenta: in turn


def as_picture(pixels: np.ndarray) -> np.ndarray:
    """An image of any number of channels as PNG holds it, (C, H, W) uint8 → (1 or 3, H, W) uint8."""
    if len(pixels) in (1, 3):
        return pixels
    return np.rint(255 * shown(pixels / 255.0)).astype(np.uint8)


def shown(image: np.ndarray) -> np.ndarray:
    """An image as RGB: grey from one channel, RGB as it is, fluorescence of other numbers in false colours, added.

    The first channel (a nuclear stain, as a rule) is blue, the second orange, then green and magenta, in turn.

    Args:
        image: (C, H, W), floating point in [0, 1].

    Returns:
        (3, H, W), in [0, 1].
    """
    if len(image) in (1, 3):
        return np.broadcast_to(image, (3, *image.shape[1:]))
    hues = np.asarray([HUES[channel % len(HUES)] for channel in range(len(image))])
    return np.clip(np.einsum("chw,cr->rhw", image, hues), 0, 1)
