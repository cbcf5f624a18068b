"""Mutual information between a section's colours and the plane of a volume that they may show."""

from __future__ import annotations

import numpy as np
from numba import njit

BINS = 24  # of the volume's grey values; each voxel counts in the two nearest
OUTSIDE = -1.0  # what a place outside the volume reads as


@njit(nogil=True, cache=True, fastmath=True, inline="always")
def _grey(volume: np.ndarray, z: float, y: float, x: float) -> float:
    """A volume between its voxels, linearly; ``OUTSIDE`` beyond its outermost voxels' centres."""
    depth, height, width = volume.shape
    if not (0 <= z <= depth - 1 and 0 <= y <= height - 1 and 0 <= x <= width - 1):
        return OUTSIDE
    k, j, i = min(int(z), depth - 2), min(int(y), height - 2), min(int(x), width - 2)
    fz, fy, fx = z - k, y - j, x - i
    near = (volume[k, j, i] * (1 - fx) + volume[k, j, i + 1] * fx) * (1 - fy) + (
        volume[k, j + 1, i] * (1 - fx) + volume[k, j + 1, i + 1] * fx
    ) * fy
    far = (volume[k + 1, j, i] * (1 - fx) + volume[k + 1, j, i + 1] * fx) * (1 - fy) + (
        volume[k + 1, j + 1, i] * (1 - fx) + volume[k + 1, j + 1, i + 1] * fx
    ) * fy
    return near * (1 - fz) + far * fz


@njit(nogil=True, cache=True)
def reslice(volume: np.ndarray, points: np.ndarray, pose: np.ndarray) -> np.ndarray:
    """The grey values that a plane shows.

    Args:
        volume: (Z, Y, X), at least 2 voxels a side; values of 0 or more, so that ``OUTSIDE`` stands apart.
        points: (N, 2), float, row and column of each pixel from the section's middle.
        pose: (3, 3), as of :func:`score`.

    Returns:
        (N,), float32; ``OUTSIDE`` outside the volume.
    """
    greys = np.empty(points.shape[0], np.float32)
    for n in range(points.shape[0]):
        row, column = points[n, 0], points[n, 1]
        greys[n] = _grey(
            volume,
            pose[0, 0] * row + pose[0, 1] * column + pose[0, 2],
            pose[1, 0] * row + pose[1, 1] * column + pose[1, 2],
            pose[2, 0] * row + pose[2, 1] * column + pose[2, 2],
        )
    return greys


@njit(nogil=True, cache=True, fastmath=True)
def score(volume: np.ndarray, points: np.ndarray, classes: np.ndarray, pose: np.ndarray, counts: np.ndarray) -> float:
    """Mutual information per pixel of the section: Σ p(a, b) ln [p(a, b) / p(a) p(b)] times the share of it inside.

    Slices the volume and counts in one pass. A pixel outside the volume tells nothing, so leaving it costs.

    Args:
        volume: (Z, Y, X), float32, 0 to ``BINS`` − 1.
        points: (N, 2), float32, row and column of each pixel from the section's middle.
        classes: (N,), uint8, its colour class.
        pose: (3, 3), columns: steps in voxels (z, y, x) for one row, for one column, and where the middle lies.
        counts: (colours, ``BINS``), float64, overwritten.

    Returns:
        In nats; 0 if the section lies outside.
    """
    counts[:] = 0.0
    inside = 0
    for n in range(points.shape[0]):
        row, column = points[n, 0], points[n, 1]
        grey = _grey(
            volume,
            pose[0, 0] * row + pose[0, 1] * column + pose[0, 2],
            pose[1, 0] * row + pose[1, 1] * column + pose[1, 2],
            pose[2, 0] * row + pose[2, 1] * column + pose[2, 2],
        )
        if grey < 0:
            continue
        low = min(int(grey), counts.shape[1] - 2)
        counts[classes[n], low] += low + 1 - grey
        counts[classes[n], low + 1] += grey - low
        inside += 1
    if inside == 0:
        return 0.0
    columns = counts.sum(axis=0)
    information = 0.0
    for a in range(counts.shape[0]):
        row_sum = counts[a].sum()
        for b in range(counts.shape[1]):
            if counts[a, b] > 0:
                information += counts[a, b] * np.log(counts[a, b] * inside / (row_sum * columns[b]))
    return information / points.shape[0]


@njit(nogil=True, cache=True)
def scores(volume: np.ndarray, points: np.ndarray, classes: np.ndarray, poses: np.ndarray, colours: int) -> np.ndarray:
    """:func:`score` of many poses, (P, 3, 3) → (P,)."""
    counts = np.zeros((colours, BINS))
    found = np.empty(poses.shape[0])
    for n in range(poses.shape[0]):
        found[n] = score(volume, points, classes, poses[n], counts)
    return found
