"""Two slides compared square by square: what a place of one tells of the same place of the other."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import map_coordinates

from bundle.preparation.registration.levels import Level, classify, colour_centres, pixel_places
from bundle.preparation.registration.planar import blurred, pose_from, stacked
from bundle.preparation.registration.pose import Pose
from bundle.preparation.registration.similarity import BINS
from bundle.preparation.registration.two_slides.placing import Placing
from bundle.preparation.registration.warp import Blocks, match_blocks, pointwise, smooth_field, without_folds

BLUR_PX = 1.0
BLOCK_PX = 64  # side of the blocks whose shifts are the warp, as planar.py
REACHES = (10, 5)  # of the local shifts in each turn, px
SQUARES = 8  # along the longer side, of the checkerboard of which half learns and half asks
LEAST_KNOWN = 0.3  # of a square, or it is not asked


@dataclass(frozen=True)
class Both:
    """Two slides as colour classes and grey bins, at the size at which they are compared.

    Attributes:
        level: the source's classes; the target's density in bins, as two equal slices.
        known: (H, W), where the source may be compared, bool.
        seen: (h, w), where the target may, bool.
        pixel_um: of both.
    """

    level: Level
    known: np.ndarray
    seen: np.ndarray
    pixel_um: float

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of the source."""
        return self.level.shape

    def pose(self, placing: Placing) -> Pose:
        """A placing as a pose in two equal slices."""
        return pose_from(self.seen.shape, self.shape, placing.in_pixels(self.pixel_um))

    def bins(self, placing: Placing, warp: np.ndarray | None) -> np.ndarray:
        """The target's bins on the source's grid, (H, W) int32; ``BINS`` where nothing may be compared."""
        matrix = placing.in_pixels(self.pixel_um)
        places = np.indices(self.shape) + (0 if warp is None else warp)
        places = np.tensordot(matrix[:, :2], places, 1) + matrix[:, 2, None, None]
        found = map_coordinates(self.level.volume[0], places, order=1, cval=-1e6)
        return np.where((found < 0) | ~self.known, BINS, np.rint(np.clip(found, 0, BINS - 1))).astype(np.int32)


def make_both(source: np.ndarray, target: np.ndarray, known: np.ndarray, seen: np.ndarray, pixel_um: float) -> Both:
    """Prepare two slides.

    Args:
        source: (3, H, W), uint8.
        target: (h, w), density.
        known: (H, W), where the source may be compared.
        seen: (h, w), where the target may.
        pixel_um: of both.
    """
    smooth = np.stack([blurred(colour, known, BLUR_PX) for colour in source])
    classes = classify(smooth, colour_centres(smooth[:, known][:, None]))
    classes[~known.ravel()] = classes.max() + 1
    shape = source.shape[1], source.shape[2]
    volume = stacked(np.where(seen, target, np.nan), BLUR_PX)
    return Both(Level(1, volume, pixel_places(shape, shape, 1), classes, shape), known, seen, pixel_um)


def local_warp(both: Both, placing: Placing, learn: np.ndarray | None = None) -> np.ndarray:
    """What an affine transform leaves, by blocks.

    Args:
        both: the slides.
        placing: the transform.
        learn: (H, W), bool; blocks whose middle it leaves out do not count. None for all.

    Returns:
        (2, H, W), px on the source, without folds; its pixel p shows the target at placing(p + warp).
    """
    warp = np.zeros((2, *both.shape))
    for reach in REACHES:
        blocks = match_blocks(both.level, both.pose(placing), reach, warp, BLOCK_PX)
        if learn is not None:
            used = learn[np.ix_(blocks.rows, blocks.columns)]
            blocks = Blocks(blocks.rows, blocks.columns, blocks.matches * used)
        warp = warp + smooth_field(blocks, both.shape)
    return without_folds(warp)


def squares(shape: tuple[int, int]) -> np.ndarray:
    """A number for each square of a checkerboard, (H, W); the sum of its row and column is even or odd."""
    side = max(BLOCK_PX, -(-max(shape) // SQUARES))
    rows, columns = (np.arange(size) // side for size in shape)
    return rows[:, None] * 1000 + columns


def is_odd(numbers: np.ndarray) -> np.ndarray:
    """Which squares are black, (H, W) bool."""
    return (numbers // 1000 + numbers % 1000) % 2 == 1


def information(both: Both, placing: Placing, warp: np.ndarray | None, learn: np.ndarray) -> dict[int, float]:
    """What the target tells of the source's colours in squares that nothing was learnt from, nats per pixel.

    Mean of ln p(a, b) / p(a) p(b) over a square's pixels, p from the pixels in ``learn`` alone, so that a transform
    that fits noise there tells nothing here; where one of the two has no data it is 0.

    Args:
        both: the slides.
        placing: the transform.
        warp: (2, H, W), local shifts before it.
        learn: (H, W), bool.

    Returns:
        By square (:func:`squares`), those of which enough is known.
    """
    bins = both.bins(placing, warp)
    classes = both.level.classes.reshape(both.shape).astype(np.int32)
    table = np.zeros((both.level.colours, BINS + 1), np.float32)
    learnt = pointwise(classes[learn], bins[learn]).reshape(-1, BINS + 1)
    table[: len(learnt)] = learnt
    told, numbers = table[classes, bins], squares(both.shape)
    asked = both.known & ~learn
    count = np.bincount(numbers[asked], minlength=int(numbers.max()) + 1)
    total = np.bincount(numbers[asked], told[asked], minlength=len(count))
    whole = np.bincount(numbers.ravel(), minlength=len(count))
    enough = np.flatnonzero((count > 0) & (count >= LEAST_KNOWN * whole))
    return {int(number): float(total[number] / count[number]) for number in enough}
