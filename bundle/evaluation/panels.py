"""What of a slide is kept and shown: its panels, its region, the colours in it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from bundle.common.atomic import whole_folder
from bundle.common.region import Region
from bundle.images.slides import write_slide

PATCHES_SHOWN = 3  # of each split
BINS = 32  # 8 grey levels each


def best_region(mask: np.ndarray, side: int) -> Region:
    """The square window with most of its pixels in the mask, the nearest to the slide's centre among equals.

    Args:
        mask: (H, W), bool.
        side: of the window, px; a slide smaller than that is taken whole in that direction.

    Returns:
        The window.
    """
    height, width = (min(side, size) for size in mask.shape)
    sums = np.pad(mask.cumsum(0, dtype=np.int32).cumsum(1, dtype=np.int32), ((1, 0), (1, 0)))
    inside = sums[height:, width:] - sums[:-height, width:] - sums[height:, :-width] + sums[:-height, :-width]
    rows, columns = (np.arange(size) - (size - 1) / 2 for size in inside.shape)
    distance = np.where(inside == inside.max(), rows[:, None] ** 2 + columns**2, np.inf)
    top, left = np.unravel_index(distance.argmin(), distance.shape)
    return Region(int(top), int(left), height, width)


def histograms(image: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """Share of the pixels in each of ``BINS`` equal bins of 0–255, per channel.

    Args:
        image: (C, H, W), uint8.
        inside: (H, W), bool; the pixels that count, at least one.

    Returns:
        (C, BINS), each row of sum 1.
    """
    counts = [np.bincount(channel[inside] // (256 // BINS), minlength=BINS) for channel in image]
    return np.stack(counts) / inside.sum()


def profile(image: np.ndarray, row: int, inside: np.ndarray) -> np.ndarray:
    """The values along one row of an image.

    Args:
        image: (C, H, W), uint8.
        row: from the top, px.
        inside: (H, W), bool.

    Returns:
        (C, W), float; NaN outside the mask.
    """
    return np.where(inside[row], image[:, row].astype(float), np.nan)


def difference(image: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """|image − reference|, averaged over the channels: (C, H, W) uint8, twice → (1, H, W) uint8."""
    distance = np.abs(image.astype(np.int16) - reference.astype(np.int16))
    return np.rint(distance.mean(0, keepdims=True)).astype(np.uint8)


def in_levels(error: np.ndarray) -> np.ndarray:
    """An expected error to be looked at beside that, (H, W) levels → (1, H, W) uint8."""
    return np.rint(np.minimum(error, 255))[None].astype(np.uint8)


def patches_to_keep(slides: int, number: int = PATCHES_SHOWN) -> list[int]:
    """How many patches of each of so many slides to keep, spread over them: 1, 0, 1, 0, 1 of five."""
    if not slides:
        return []
    return np.bincount(np.linspace(0, slides - 1, number).round().astype(int), minlength=slides).tolist()


def draw_corners(corners: Sequence[tuple[int, int]], number: int) -> list[tuple[int, int]]:
    """Some of the patches of a slide, by a fixed seed, so that nobody chooses the good ones.

    Args:
        corners: (top, left) of each.
        number: how many to take, if there are as many.

    Returns:
        In the order of ``corners``.
    """
    drawn = np.random.default_rng(0).permutation(len(corners))[:number]
    return [corners[place] for place in sorted(drawn)]


def save_slide(
    folder: Path,
    panels: Mapping[str, np.ndarray],
    patches: Mapping[tuple[int, int], Mapping[str, np.ndarray]],
    pixel_um: float,
) -> None:
    """Write what is kept of one slide as 8-bit PNG, instead of what an earlier evaluation kept of it.

    Args:
        folder: of the slide; patches go to ``patch_<top>_<left>`` in it.
        panels: by name, (1 or 3, H, W), uint8.
        patches: the panels of some patches by (top, left), likewise.
        pixel_um: pixel size in µm.
    """
    with whole_folder(folder) as partial:
        for name, image in panels.items():
            write_slide(partial / f"{name}.png", image, pixel_um)
        for (top, left), cut in patches.items():
            for name, image in cut.items():
                write_slide(partial / f"patch_{top}_{left}" / f"{name}.png", image, pixel_um)
