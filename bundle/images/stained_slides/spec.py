"""What a stained whole slide is to be."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from bundle.images.false_colour import HUES

SMALL = 512  # px: a level whose longer side is no longer needs no coarser one
PRIMARIES = ("FF0000", "00FF00", "0000FF")  # in hexadecimals
COLOURS = tuple("".join(f"{round(255 * part):02X}" for part in hue) for hue in HUES)  # of channels, in turn


@dataclass(frozen=True)
class SlideSpec:
    """What is to be written.

    Attributes:
        name: of the image, for viewers.
        shape: (rows, columns) of the finest level.
        kind: of the values: ``|u1``, ``<u2``, or ``<f4`` with NaN where nothing is known.
        pixel_um: of the finest level, µm.
        channel_names: one a channel.
        rgb: whether the three channels are one colour picture.
        background: of each channel, where nothing was stained.
        shown: values that a viewer shows from dark to bright.
        about: where it comes from (model, slide, settings), kept in the file as JSON.
    """

    name: str
    shape: tuple[int, int]
    kind: np.dtype
    pixel_um: float
    channel_names: tuple[str, ...]
    rgb: bool
    background: tuple[float, ...]
    shown: tuple[float, float]
    about: dict[str, Any]

    @property
    def channels(self) -> int:
        """How many there are."""
        return len(self.channel_names)

    @property
    def colours(self) -> tuple[str, ...]:
        """In which each channel is shown, RGB in hexadecimals; a single one is grey."""
        if self.channels == 1:
            return ("FFFFFF",)
        return PRIMARIES if self.rgb else tuple(COLOURS[place % len(COLOURS)] for place in range(self.channels))

    @property
    def levels(self) -> list[tuple[int, int]]:
        """Shapes (rows, columns) of all levels, finest first; each halves the one before, rounded up."""
        shapes = [self.shape]
        while max(shapes[-1]) > SMALL:
            shapes.append(((shapes[-1][0] + 1) // 2, (shapes[-1][1] + 1) // 2))
        return shapes

    def stamp(self) -> dict[str, Any]:
        """Size and origin of the pixels, as JSON that each format keeps."""
        return {
            "version": 1,
            "pixel_um": self.pixel_um,
            "rgb": self.rgb,
            "background": list(self.background),
            "about": self.about,
        }
