"""What a network must beat: stains made from the grey of a slide, the mean of its channels, without any network."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np

BINS = 64


def grey(source: np.ndarray) -> np.ndarray:
    """The mean of the channels, (C, H, W) uint8 → (H, W) uint8."""
    return np.rint(source.mean(0)).astype(np.uint8)


def raw(source: np.ndarray) -> np.ndarray:
    """The greyscale image itself; a colour image as it is.

    Args:
        source: (C, H, W), uint8.

    Returns:
        (3, H, W), uint8.
    """
    image = source if len(source) == 3 else grey(source)
    return np.broadcast_to(image, (3, *source.shape[1:])).copy()


def inverted(source: np.ndarray) -> np.ndarray:
    """The negative of :func:`raw`, (3, H, W), uint8."""
    return 255 - raw(source)


class ColourTable:
    """A grey-to-colour table learnt from registered pairs, by joint histogram (Khimchenko et al. 2016).

    Each grey bin becomes the mean colour of the pixels of that grey in the training pairs; bins that no
    training pixel falls in are interpolated between their neighbours.

    Args:
        pairs: (source (C, H, W), target (3, H, W), mask (H, W)) of each training pair, uint8 and bool.
        bins: grey bins over 0–255.

    Attributes:
        table: (256, 3), uint8; the colour of each grey value.
        mean_rgb: (3,), float; mean colour of the target inside the masks.
    """

    def __init__(self, pairs: Iterable[tuple[np.ndarray, np.ndarray, np.ndarray]], bins: int = BINS) -> None:
        counts, sums = np.zeros(bins), np.zeros((bins, 3))
        for source, target, mask in pairs:
            place = grey(source)[mask].astype(int) * bins // 256
            counts += np.bincount(place, minlength=bins)
            sums += np.stack([np.bincount(place, channel[mask], minlength=bins) for channel in target], axis=1)
        self.mean_rgb = sums.sum(0) / counts.sum()
        filled = np.flatnonzero(counts)
        means = sums[filled] / counts[filled, None]
        colours = np.stack([np.interp(np.arange(bins), filled, channel) for channel in means.T], axis=1)
        self.table = np.rint(colours)[np.arange(256) * bins // 256].astype(np.uint8)

    @property
    def arrays(self) -> dict[str, np.ndarray]:
        """What it learnt, by name."""
        return {"table": self.table, "mean_rgb": self.mean_rgb}

    @classmethod
    def kept(cls, arrays: Mapping[str, np.ndarray]) -> ColourTable:
        """One that learnt what :attr:`arrays` of another had."""
        made = cls.__new__(cls)
        made.table, made.mean_rgb = arrays["table"], arrays["mean_rgb"]
        return made

    def __call__(self, source: np.ndarray) -> np.ndarray:
        """Colour an image by its grey, (C, H, W) uint8 → (3, H, W) uint8."""
        return self.table[grey(source)].transpose(2, 0, 1)

    def mean_colour(self, source: np.ndarray) -> np.ndarray:
        """One colour everywhere, (3, H, W) uint8."""
        colour = np.rint(self.mean_rgb).astype(np.uint8).reshape(3, 1, 1)
        return np.broadcast_to(colour, (3, *source.shape[1:])).copy()
