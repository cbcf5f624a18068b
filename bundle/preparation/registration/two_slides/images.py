"""The pair that two slides make: the target resampled to the source's pixels, where they have both."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import map_coordinates

from bundle.common.errors import InputError
from bundle.preparation.registration.two_slides.placing import Placing

ROWS = 512  # resampled at a time
LEAST_PX = 32  # of the pair along each axis
WHITE = 255


@dataclass(frozen=True)
class SlidePair:
    """Two slides on one grid, the source's pixels.

    Attributes:
        source: (3, H, W), uint8, not resampled.
        target: (3, H, W), uint8; white where it ends.
        field: (H, W), bool, where both have data.
        corner: row and column of the first pixel on the source.
    """

    source: np.ndarray
    target: np.ndarray
    field: np.ndarray
    corner: tuple[int, int]


def make_slide_pair(
    source: np.ndarray,
    target: np.ndarray,
    known: np.ndarray,
    seen: np.ndarray,
    placing: Placing,
    pixel_um: float,
    warp: np.ndarray | None,
    warp_um: float,
) -> SlidePair:
    """Resample the target, and cut both to what they have in common.

    Args:
        source: (3, H, W), uint8.
        target: (3, h, w), uint8.
        known: (H, W), where the source may be compared, bool.
        seen: (h, w), likewise the target.
        placing: of the source on the target.
        pixel_um: of both.
        warp: (2, R, C), local shifts before it, in its own pixels; None for none.
        warp_um: the size of these.

    Raises:
        InputError: if they have fewer than ``LEAST_PX`` rows or columns in common.
    """
    moved = np.empty_like(source)
    field = np.zeros(source.shape[1:], bool)
    limits = np.array(seen.shape)[:, None, None] - 1
    for top in range(0, source.shape[1], ROWS):
        rows = slice(top, min(top + ROWS, source.shape[1]))
        places = target_places(rows, source.shape[2], placing, pixel_um, warp, warp_um)
        for channel, image in enumerate(target):
            values = map_coordinates(image, places, np.float32, order=1, mode="nearest")
            moved[channel, rows] = np.clip(np.rint(values), 0, 255)
        inside = ((places >= 0) & (places <= limits)).all(0)
        moved[:, rows][:, ~inside] = WHITE
        field[rows] = (
            known[rows] & inside & map_coordinates(seen, places, np.uint8, order=0, mode="nearest").astype(bool)
        )
    down, across = np.flatnonzero(field.any(1)), np.flatnonzero(field.any(0))
    if min(len(down), len(across)) < LEAST_PX:
        raise InputError(
            f"source and target have {len(down)} rows and {len(across)} columns in common where they fit best: no "
            "overlap. Check that they show the same tissue, and their pixel sizes."
        )
    box = np.s_[..., down[0] : down[-1] + 1, across[0] : across[-1] + 1]
    return SlidePair(source[box], moved[box], field[box], (int(down[0]), int(across[0])))


def target_places(
    rows: slice, columns: int, placing: Placing, pixel_um: float, warp: np.ndarray | None, warp_um: float
) -> np.ndarray:
    """Where rows of the source lie on the target, (2, n, columns), px."""
    places = np.stack(np.meshgrid(np.arange(rows.start, rows.stop), np.arange(columns), indexing="ij")).astype(float)
    if warp is not None:
        places += shifts_at((places + 0.5) * pixel_um, warp, warp_um) / pixel_um
    matrix = placing.in_pixels(pixel_um)
    return np.tensordot(matrix[:, :2], places, 1) + matrix[:, 2].reshape(2, *[1] * (places.ndim - 1))


def shifts_at(places_um: np.ndarray, warp: np.ndarray, warp_um: float) -> np.ndarray:
    """Local shifts, µm, at places (2, …) of the source, µm."""
    return (
        np.stack([map_coordinates(part, places_um / warp_um - 0.5, order=1, mode="nearest") for part in warp]) * warp_um
    )
