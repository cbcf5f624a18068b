"""Edits of fluorescence channels: small named operations; :mod:`bundle.nuclei.insilico.edits` composes them from JSON.

An edit is a pure function of an image (C, H, W) in [0, 1], where 0 and 1 are the ends of the range that a channel's
values may have; it returns a new image, clipped to [0, 1], and leaves every other channel as it is. Applied between
the two translations of a pair of stain domains, an edit of one channel changes one stain (ReStainGAN,
arXiv:2403.06545, edits channels by simple arithmetic; the operations' exact form is ours).
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import ndimage
from skimage.morphology import disk

from bundle.common.values import is_number

BRIGHT = 0.95  # quantile of a channel within nuclei that counts as its full texture


def changed(image: np.ndarray, channel: int, values: np.ndarray) -> np.ndarray:
    """A copy of an image with other values, clipped to [0, 1], in one channel."""
    result = image.copy()
    result[channel] = np.clip(values, 0, 1)
    return result


def scale(image: np.ndarray, channel: int, factor: float) -> np.ndarray:
    """Multiply a channel: fainter below 1, stronger above.

    Args:
        image: (C, H, W), floating point in [0, 1].
        channel: its number.
        factor: 0 or more.
    """
    return changed(image, channel, image[channel] * factor)


def gamma(image: np.ndarray, channel: int, exponent: float) -> np.ndarray:
    """Raise a channel to a power: above 1 what is faint fades and what is bright stays; below 1 the faint rises.

    Args:
        image: (C, H, W), floating point in [0, 1].
        channel: its number.
        exponent: above 0.
    """
    return changed(image, channel, image[channel] ** exponent)


def suppress(image: np.ndarray, channel: int, percentile: float) -> np.ndarray:
    """Lower a channel to its background: no pixel stays above the channel's own low percentile in this image.

    Args:
        image: (C, H, W), floating point in [0, 1].
        channel: its number.
        percentile: of the channel's values, 0 to 100; it should lie among pixels that show nothing.
    """
    return changed(image, channel, np.minimum(image[channel], np.percentile(image[channel], percentile)))


def dilate(image: np.ndarray, channel: int, radius_px: int) -> np.ndarray:
    """Thicken what is bright in a channel: grey dilation, the maximum over a disk about each pixel.

    Args:
        image: (C, H, W), floating point in [0, 1].
        channel: its number.
        radius_px: of the disk; a pixel size is not needed.
    """
    return changed(image, channel, ndimage.grey_dilation(image[channel], footprint=disk(radius_px), mode="nearest"))


def swap(image: np.ndarray, channel: int, other: int) -> np.ndarray:
    """Exchange two channels.

    Args:
        image: (C, H, W), floating point in [0, 1].
        channel: number of one.
        other: number of the other.
    """
    result = image.copy()
    result[[channel, other]] = image[[other, channel]]
    return result


def add_nuclear_marker(
    image: np.ndarray,
    channel: int,
    labels: np.ndarray,
    rng: np.random.Generator,
    share: float,
    level: float,
    edge_px: float,
    like: int | None = None,
) -> np.ndarray:
    """Give some of the nuclei the signal of a nuclear marker: the channel becomes at least that signal where they are.

    Args:
        image: (C, H, W), floating point in [0, 1].
        channel: number of the channel that carries the marker.
        labels: (H, W), whole numbers; 0 is background, each nucleus has a number.
        rng: draws the nuclei, without replacement.
        share: of the nuclei that get it, above 0 to 1; rounded to whole nuclei, at least one.
        level: of the signal, 0 to 1.
        edge_px: standard deviation of the Gaussian that smooths the nuclei's edge; 0 leaves it sharp.
        like: number of a channel whose texture within these nuclei the signal follows; None is an even signal.
    """
    numbers = np.unique(labels[labels > 0])
    if not len(numbers):
        return image.copy()
    chosen = rng.choice(numbers, max(1, round(share * len(numbers))), replace=False)
    inside = np.isin(labels, chosen)
    signal = level * ndimage.gaussian_filter(inside.astype(np.float64), edge_px)
    if like is not None:
        full = np.quantile(image[like][inside], BRIGHT)
        signal = signal * (np.clip(image[like] / full, 0, 1) if full > 0 else 0)
    return changed(image, channel, np.maximum(image[channel], signal))


def noise(image: np.ndarray, channel: int, rng: np.random.Generator, sd: float) -> np.ndarray:
    """Add Gaussian noise to a channel.

    Args:
        image: (C, H, W), floating point in [0, 1].
        channel: its number.
        rng: draws the noise.
        sd: its standard deviation, as a share of the channel's range.
    """
    return changed(image, channel, image[channel] + rng.normal(0, sd, image[channel].shape))


REQUIRED = object()


@dataclass(frozen=True)
class Number:
    """An argument that is a number.

    Attributes:
        low: the least.
        high: the greatest.
        above: ``low`` itself is too little.
        whole: whole numbers alone.
        default: where the argument is not given.
    """

    low: float
    high: float
    above: bool = False
    whole: bool = False
    default: Any = REQUIRED

    def fault(self, value: Any, channels: Sequence[str]) -> str | None:
        """What a value must be; None if it is that."""
        fits = is_number(value) and self.low <= value <= self.high and not (self.above and value == self.low)
        if fits and not (self.whole and value != int(value)):
            return None
        between = f"above {self.low:g}, to {self.high:g}" if self.above else f"from {self.low:g} to {self.high:g}"
        return f"it must be a {'whole ' if self.whole else ''}number {between}"

    def read(self, value: Any, channels: Sequence[str]) -> Any:
        """The value as the function takes it."""
        return int(value) if self.whole else float(value)


@dataclass(frozen=True)
class Channel:
    """An argument that is a channel's name."""

    default: Any = REQUIRED

    def fault(self, value: Any, channels: Sequence[str]) -> str | None:
        """What a value must be; None if it is that."""
        if value in channels or (value is None and self.default is None):
            return None
        return f"it must be a channel of this model: {', '.join(channels)}"

    def read(self, value: Any, channels: Sequence[str]) -> Any:
        """Its number."""
        return None if value is None else list(channels).index(value)


@dataclass(frozen=True)
class Operation:
    """A function with what may be said of its arguments in JSON.

    Attributes:
        function: takes the image, these arguments, and ``labels`` and ``rng`` if it names them.
        arguments: by name.
        stains_nuclei: afterwards nuclei may show by the channel's stain and not by their counterstain.
    """

    function: Callable[..., np.ndarray]
    arguments: Mapping[str, Number | Channel]
    stains_nuclei: bool = False


OPERATIONS = {
    "scale": Operation(scale, {"channel": Channel(), "factor": Number(0, 100)}),
    "gamma": Operation(gamma, {"channel": Channel(), "exponent": Number(0, 100, above=True)}),
    "suppress": Operation(suppress, {"channel": Channel(), "percentile": Number(0, 100, default=1.0)}),
    "dilate": Operation(dilate, {"channel": Channel(), "radius_px": Number(1, 100, whole=True)}),
    "swap": Operation(swap, {"channel": Channel(), "other": Channel()}, stains_nuclei=True),
    "add_nuclear_marker": Operation(
        add_nuclear_marker,
        {
            "channel": Channel(),
            "share": Number(0, 1, above=True),
            "level": Number(0, 1, above=True),
            "edge_px": Number(0, 100, default=1.0),
            "like": Channel(default=None),
        },
        stains_nuclei=True,
    ),
    "noise": Operation(noise, {"channel": Channel(), "sd": Number(0, 1, above=True)}),
}


@dataclass(frozen=True)
class Edit:
    """An operation with its arguments.

    Attributes:
        operation: what is done.
        arguments: by name; channels are numbers.
    """

    operation: Operation
    arguments: Mapping[str, Any]

    def __call__(self, image: np.ndarray, labels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """The edited image; the given one stays as it is.

        Args:
            image: (C, H, W), floating point in [0, 1].
            labels: (H, W), whole numbers, 0 is background.
            rng: for what is drawn.
        """
        given = {"labels": labels, "rng": rng}
        wanted = set(given) & set(inspect.signature(self.operation.function).parameters)
        return self.operation.function(image, **self.arguments, **{name: given[name] for name in wanted})


def edited(image: np.ndarray, edits: Sequence[Edit], labels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """An image after several edits, one on the result of the other.

    Args:
        image: (C, H, W), floating point in [0, 1].
        edits: none leave it as it is.
        labels: (H, W), whole numbers, 0 is background.
        rng: for what is drawn, in order.

    Returns:
        (C, H, W), of the image's type.
    """
    for edit in edits:
        image = edit(image, labels, rng)
    return image
