"""A rectangle of an image."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np


class Region(NamedTuple):
    """A window of a slide, px."""

    top: int
    left: int
    height: int
    width: int

    def cut(self, image: np.ndarray) -> np.ndarray:
        """The window of an image (…, H, W)."""
        return image[..., self.top : self.top + self.height, self.left : self.left + self.width]


def spread(slides: int, number: int) -> list[int]:
    """At most ``number`` places out of ``slides``, first and last among them."""
    return sorted({int(place) for place in np.linspace(0, slides - 1, min(number, slides)).round()})
