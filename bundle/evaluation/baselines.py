"""What a network must beat: stains made from a greyscale slide without any network."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

BINS = 64


def raw(source: np.ndarray) -> np.ndarray:
    """The greyscale image itself.

    Args:
        source: (1 or 3, H, W), uint8.

    Returns:
        (3, H, W), uint8.
    """
    return np.broadcast_to(source, (3, *source.shape[1:])).copy()


def inverted(source: np.ndarray) -> np.ndarray:
    """The negative of the greyscale image, (3, H, W), uint8."""
    return 255 - raw(source)


class ColourTable:
    """A grey-to-colour table learnt from registered pairs, by joint histogram (Khimchenko et al. 2016).

    Each grey bin becomes the mean colour of the pixels of that grey in the training pairs; bins that no
    training pixel falls in are interpolated between their neighbours.

    Args:
        pairs: (source (1 or 3, H, W), target (3, H, W), mask (H, W)) of each training pair, uint8 and bool.
        bins: grey bins over 0–255.

    Attributes:
        table: (256, 3), uint8; the colour of each grey value.
        mean_rgb: (3,), float; mean colour of the target inside the masks.
    """

    def __init__(self, pairs: Iterable[tuple[np.ndarray, np.ndarray, np.ndarray]], bins: int = BINS) -> None:
        counts, sums = np.zeros(bins), np.zeros((bins, 3))
        for source, target, mask in pairs:
            place = self._bins(source, bins)[mask]
            counts += np.bincount(place, minlength=bins)
            sums += np.stack([np.bincount(place, channel[mask], minlength=bins) for channel in target], axis=1)
        self.mean_rgb = sums.sum(0) / counts.sum()
        filled = np.flatnonzero(counts)
        means = sums[filled] / counts[filled, None]
        colours = np.stack([np.interp(np.arange(bins), filled, channel) for channel in means.T], axis=1)
        self.table = np.rint(colours)[np.arange(256) * bins // 256].astype(np.uint8)

    @staticmethod
    def _bins(source: np.ndarray, bins: int) -> np.ndarray:
        grey = np.rint(source.mean(0)).astype(int)
        return grey * bins // 256

    def __call__(self, source: np.ndarray) -> np.ndarray:
        """Colour a greyscale image, (1 or 3, H, W) uint8 → (3, H, W) uint8."""
        return self.table[np.rint(source.mean(0)).astype(int)].transpose(2, 0, 1)

    def mean_colour(self, source: np.ndarray) -> np.ndarray:
        """One colour everywhere, (3, H, W) uint8."""
        colour = np.rint(self.mean_rgb).astype(np.uint8).reshape(3, 1, 1)
        return np.broadcast_to(colour, (3, *source.shape[1:])).copy()
