"""Stains of one volume from slices across several axes, made one (Irvine et al., §3.3; Baltruschat et al. 2021)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np


def mean(stains: Sequence[np.ndarray]) -> np.ndarray:
    """Mean of stains, rounded, halves upwards: uint8 of any one shape → uint8."""
    if len(stains) == 1:
        return stains[0]
    total = np.zeros(stains[0].shape, np.uint16)
    for stain in stains:
        total += stain
    return ((2 * total + len(stains)) // (2 * len(stains))).astype(np.uint8)


def median(stains: Sequence[np.ndarray]) -> np.ndarray:
    """Median of three stains, channel by channel: uint8 of any one shape → uint8."""
    one, two, three = stains
    return np.maximum(np.minimum(one, two), np.minimum(np.maximum(one, two), three))


FUSIONS: dict[str, Callable[[Sequence[np.ndarray]], np.ndarray]] = {"mean": mean, "median": median}
