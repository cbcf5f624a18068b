"""What a reconstruction fills a scan up with outside its circle: one exact value, or NaN, which is no air."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from skimage.measure import label

from bundle.common.errors import InputError
from bundle.common.values import is_number
from bundle.images.volumes.volume import Volume

SLICES = 9  # of a scan, evenly spaced, are looked at
RIM_PX = 2.0  # by which the border of the fill may miss a circle, and which interpolation may have spoilt
LEAST_RIM = 16  # pixels of that border, fewer of which fit any circle
LEAST_DIAMETER = 0.8  # of the shorter side; a round sample in air that was set to one value is smaller (ours)
AIRY = 0.5  # share of the value just inside the circle from which on it is the scan's own air


@dataclass(frozen=True)
class Fill:
    """What lies outside the reconstruction circle of a scan.

    Attributes:
        value: the one value there; NaN too.
        outside: (Y, X), bool, in every slice.
    """

    value: float
    outside: np.ndarray

    def __str__(self) -> str:
        """In words, for what a command prints."""
        return f"{self.value:g} outside the reconstruction circle ({self.outside.mean():.0%} of each slice)"


def find_fill(slices: np.ndarray) -> Fill | None:
    """Find the fill of a scan: one value in its corners, the same in all slices, and ending at a circle.

    The circle may be cut by the image, and need not lie in its middle.

    Args:
        slices: (N, Y, X), some slices of it; those of one value only do not count.

    Returns:
        The fill; None if there is none.
    """
    used = [plane for plane in slices if not _is(plane, plane.flat[0]).all()]
    if not used:
        return None
    for value in {str(value): value for value in used[0][[0, 0, -1, -1], [0, -1, 0, -1]]}.values():
        same = np.logical_and.reduce([_is(plane, value) for plane in used])
        parts = label(same, connectivity=1)
        corners = set(parts[[0, 0, -1, -1], [0, -1, 0, -1]].tolist()) - {0}
        found = _circle(np.isin(parts, list(corners)))
        if found is None:
            continue
        distance, radius = found
        just_inside = (distance > 0.9 * radius) & (distance <= radius - RIM_PX)
        if np.mean([_is(plane, value)[just_inside].mean() for plane in used]) < AIRY:
            return Fill(float(value), distance > radius - RIM_PX)
    return None


def _is(pixels: np.ndarray, value: np.generic) -> np.ndarray:
    """Where an image has one value, NaN too; in float to what an interpolation rounds."""
    if pixels.dtype.kind != "f":
        return pixels == value
    return np.isclose(pixels, value, rtol=1e-6, atol=0, equal_nan=True)


def _circle(area: np.ndarray) -> tuple[np.ndarray, float] | None:
    """The circle at which an area ends that lies outside it: each pixel's distance from its centre, and its radius.

    Returns:
        None if there is no such circle.
    """
    inside = np.pad(~area, 1)  # the image's border is no end
    near = inside[:-2, 1:-1] | inside[2:, 1:-1] | inside[1:-1, :-2] | inside[1:-1, 2:]
    y, x = np.nonzero(area & near)
    if len(y) < LEAST_RIM:
        return None
    # Kåsa's circle: x² + y² = 2 a x + 2 b y + c, by least squares
    rows = np.stack([2.0 * x, 2.0 * y, np.ones(len(x))], axis=1)
    (a, b, c), _, rank, _ = np.linalg.lstsq(rows, x**2.0 + y**2.0, rcond=None)
    radius = float(np.sqrt(max(c + a**2 + b**2, 0.0)))
    if rank < 3 or not LEAST_DIAMETER * min(area.shape) <= 2 * radius <= 4 * max(area.shape):
        return None
    distance = np.hypot(np.arange(area.shape[0])[:, None] - b, np.arange(area.shape[1])[None] - a)
    off = np.abs(distance[y, x] - radius)
    if np.percentile(off, 95) > RIM_PX or distance[area].min() < radius - 2 * RIM_PX:
        return None
    return distance, radius


def some_slices(volume: Volume, count: int = SLICES) -> tuple[np.ndarray, list[int]]:
    """Read evenly spaced slices from the middle 80 % of a scan: its ends are often outside the beam.

    Returns:
        (N, Y, X), of the scan's own type, and which slices they are.
    """
    places = some_places(volume.shape[0], count)
    return np.concatenate([volume.read(z, z + 1) for z in places]), places


def some_places(depth: int, count: int = SLICES) -> list[int]:
    """Which of so many slices :func:`some_slices` reads."""
    return sorted({round(z) for z in np.linspace(0.1, 0.9, min(count, depth)) * (depth - 1)})


def without_fill(volume: Volume, fill: Fill, value: float) -> Volume:
    """The same scan with another value outside its circle.

    Args:
        volume: the scan.
        fill: of it.
        value: in the scan's units; rounded and clipped to its type.
    """
    if volume.dtype.kind in "ui":
        value = float(np.clip(round(value), np.iinfo(volume.dtype).min, np.iinfo(volume.dtype).max))

    def slices(start: int, stop: int) -> np.ndarray:
        return np.where(fill.outside, np.asarray(value, volume.dtype), volume.slices(start, stop))

    return replace(volume, slices=slices)


def with_air(volume: Volume, value: float | None) -> Volume:
    """The same scan with a value in place of the NaN outside its circle; NaN inside stays, to be refused.

    Args:
        volume: the scan.
        value: what air is there, in the scan's units; None leaves the scan as it is.

    Raises:
        InputError: if the value is no number, or the scan has no NaN outside a circle.
    """
    if value is None:
        return volume
    if not is_number(value):
        raise InputError(f"fill_nan is {value!r}; it must be a number: the grey value of air in the scan.")
    fill = find_fill(some_slices(volume)[0])
    if fill is None or not np.isnan(fill.value):
        raise InputError(
            f"fill_nan is {value:g}, but {volume.path} has no NaN outside a reconstruction circle; leave it out."
        )

    def slices(start: int, stop: int) -> np.ndarray:
        pixels = volume.slices(start, stop)
        return np.where(fill.outside & np.isnan(pixels), np.asarray(value, volume.dtype), pixels)

    return replace(volume, slices=slices)
