"""What an affine transform leaves: local shifts of the section against the plane, found by matching blocks.

For a block of the section and a shift, the match is the mean over its pixels of ln p(a, b) / p(a) p(b), with the joint
histogram of the whole section: pointwise mutual information, so that a small block needs no histogram of its own.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter, map_coordinates, uniform_filter

from bundle.preparation.registration.levels import Level
from bundle.preparation.registration.pose import Pose
from bundle.preparation.registration.similarity import BINS, reslice
from bundle.preparation.registration.workers import share_out

BLOCK_PX = 32  # side; blocks overlap by half. 40 and 56 px left more error on half-width phantom sections
SMOOTH_BLOCKS = 1.0  # standard deviation of the smoothing between blocks
LEAST_JACOBIAN = 0.1  # a field below it is flattened; 0 would be a fold


@dataclass(frozen=True)
class Blocks:
    """How well blocks of the section match at each shift.

    Attributes:
        rows: of the blocks' middles, pixels.
        columns: likewise.
        matches: (S, S, R, C), nats per pixel at shifts of −reach … reach rows and columns; S = 2 reach + 1.
    """

    rows: np.ndarray
    columns: np.ndarray
    matches: np.ndarray

    @property
    def reach(self) -> int:
        """The largest shift, pixels."""
        return len(self.matches) // 2

    @property
    def best(self) -> np.ndarray:
        """(R, C), the match at the best shift."""
        return self.matches.max(axis=(0, 1))

    @property
    def shifts(self) -> np.ndarray:
        """(2, R, C), the best shift of each block in rows and columns, to parts of a pixel by a parabola."""
        return self._peaks()[0]

    @property
    def weights(self) -> np.ndarray:
        """(R, C), how sure a shift is: curvature of its peak times its height over the mean; 0 or more."""
        flat = self.matches.reshape(-1, *self.matches.shape[2:])
        return self._peaks()[1] * (flat.max(0) - flat.mean(0))

    def _peaks(self) -> tuple[np.ndarray, np.ndarray]:
        side = len(self.matches)
        shape = self.matches.shape[2:]
        best = np.divmod(self.matches.reshape(-1, *shape).argmax(0), side)
        where = np.indices(shape)
        shifts, curvatures = [], []
        for axis in range(2):
            middle = np.clip(best[axis], 1, side - 2)
            around = [list(best) for _ in range(3)]
            for offset in range(3):
                around[offset][axis] = middle + offset - 1
            low, mid, high = (self.matches[place[0], place[1], where[0], where[1]] for place in around)
            bend = 2 * mid - low - high
            part = np.where((middle == best[axis]) & (bend > 1e-9), 0.5 * (high - low) / np.maximum(bend, 1e-9), 0)
            shifts.append(best[axis] + np.clip(part, -0.5, 0.5) - side // 2)
            curvatures.append(np.maximum(bend, 0))
        return np.stack(shifts), np.minimum(*curvatures)


def match_blocks(level: Level, pose: Pose, reach: int, warp: np.ndarray | None = None, side: int = BLOCK_PX) -> Blocks:
    """Match blocks of the section with the plane.

    Args:
        level: the images.
        pose: where the section lies.
        reach: largest shift, pixels.
        warp: (2, H, W), rows and columns by which each pixel has been shifted so far.
        side: of a block, pixels.

    Returns:
        The matches.
    """
    height, width = level.shape
    around = level.points.reshape(height, width, 2)[0, 0]
    rows, columns = (around[n] + np.arange(-reach, level.shape[n] + reach) for n in range(2))
    places = np.stack(np.meshgrid(rows, columns, indexing="ij"))
    if warp is not None:
        places = places + np.pad(warp, ((0, 0), (reach, reach), (reach, reach)), mode="edge")
    greys = reslice(level.volume, places.reshape(2, -1).T.astype(np.float32), pose.matrix(level.factor))
    greys = greys.reshape(height + 2 * reach, width + 2 * reach)
    bins = np.where(greys < 0, BINS, np.rint(greys)).astype(np.int32)
    table = pointwise(level.classes.reshape(height, width), bins[reach : reach + height, reach : reach + width])
    offsets = level.classes.reshape(height, width).astype(np.int32) * (BINS + 1)
    middles = [np.arange(side // 4, size, side // 2) for size in level.shape]
    matches = np.empty((2 * reach + 1, 2 * reach + 1, *map(len, middles)), np.float32)

    def fill(row: int) -> None:
        for column in range(2 * reach + 1):
            pixels = table[offsets + bins[row : row + height, column : column + width]]
            matches[row, column] = uniform_filter(pixels, side, mode="constant")[np.ix_(*middles)]

    share_out(fill, range(2 * reach + 1))
    return Blocks(middles[0], middles[1], matches)


def pointwise(classes: np.ndarray, bins: np.ndarray) -> np.ndarray:
    """Pointwise information of colours and bins, flat, (colours · (``BINS`` + 1),) float32; outside is 0."""
    colours = int(classes.max()) + 1
    counts = np.bincount((classes.astype(np.int32) * (BINS + 1) + bins).ravel(), minlength=colours * (BINS + 1))
    inside = gaussian_filter(counts.reshape(colours, BINS + 1)[:, :BINS].astype(float), (0, 1.0))
    inside += 1e-3 * max(inside.sum(), 1) / inside.size  # so that what was never seen together stays finite
    table = np.log(inside * inside.sum() / (inside.sum(1, keepdims=True) * inside.sum(0, keepdims=True)))
    return np.pad(table, ((0, 0), (0, 1))).astype(np.float32).ravel()


def smooth_field(blocks: Blocks, shape: tuple[int, int], smooth: float = SMOOTH_BLOCKS) -> np.ndarray:
    """A smooth shift for every pixel from those of the blocks, each counting by its weight.

    Args:
        blocks: matched.
        shape: (H, W).
        smooth: standard deviation, in steps between blocks.

    Returns:
        (2, H, W), rows and columns.
    """
    weights = blocks.weights
    total = gaussian_filter(weights, smooth, mode="constant") + 1e-6 * max(weights.max(), 1e-9)
    field = [gaussian_filter(shift * weights, smooth, mode="constant") / total for shift in blocks.shifts]
    return np.stack([_between(values, blocks, shape, 3) for values in field])


def weight_field(blocks: Blocks, shape: tuple[int, int]) -> np.ndarray:
    """How sure the shifts are at every pixel, (H, W)."""
    return _between(gaussian_filter(blocks.weights, SMOOTH_BLOCKS), blocks, shape, 1)


def _between(values: np.ndarray, blocks: Blocks, shape: tuple[int, int], order: int) -> np.ndarray:
    """Values of the blocks (R, C) at every pixel (H, W)."""
    places = []
    for size, middles in zip(shape, (blocks.rows, blocks.columns), strict=True):
        step = middles[1] - middles[0] if len(middles) > 1 else 1
        places.append((np.arange(size) - middles[0]) / step)
    return map_coordinates(values, np.meshgrid(*places, indexing="ij"), order=order, mode="nearest")


def jacobian(warp: np.ndarray) -> np.ndarray:
    """Determinant of the Jacobian of place + warp, (2, H, W) → (H, W); 1 is no change of area, 0 or less a fold."""
    (rows_down, rows_right), (columns_down, columns_right) = (np.gradient(part) for part in warp)
    return (1 + rows_down) * (1 + columns_right) - rows_right * columns_down


def without_folds(warp: np.ndarray) -> np.ndarray:
    """The field, flattened as a whole until its Jacobian is at least ``LEAST_JACOBIAN`` everywhere."""
    while jacobian(warp).min() < LEAST_JACOBIAN:
        warp = 0.8 * warp
    return warp
