"""Averages over areas: each coarse pixel is the mean of the box that it covers, block by block of the fine image."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from scipy.sparse import csc_matrix, csr_matrix

BLOCK = 1 << 23  # samples averaged at a time, 32 MB as float32


def box_count(extent: float, box: float) -> int:
    """How many boxes lie along an extent, the last one counted if at least half of it is inside.

    Args:
        extent: length of the axis, in any unit.
        box: length of a box, in the same unit.
    """
    return int(np.floor(extent / box + 0.5 + 1e-6))  # so that 3 · 0.1 / 0.2 counts as 1.5


def area_weights(fine: np.ndarray, coarse: np.ndarray) -> csc_matrix:
    """The matrix that averages an axis: each coarse box is the mean of the fine ones, weighted by overlap.

    ``W[i, j] = |coarse_i ∩ fine_j| / |coarse_i ∩ ∪ fine|``.

    Args:
        fine: (N + 1,), ascending edges of the fine boxes, in any unit.
        coarse: (M + 1,), ascending edges of the coarse boxes, in the same unit, each overlapping a fine one.

    Returns:
        (M, N), float32, banded; each row sums to 1.
    """
    edges = np.unique(np.concatenate([fine, coarse]))
    edges = edges[(edges >= max(fine[0], coarse[0])) & (edges <= min(fine[-1], coarse[-1]))]
    length, middle = np.diff(edges), (edges[1:] + edges[:-1]) / 2
    kept = length > 1e-9 * (fine[1] - fine[0])  # two edges that differ by rounding alone
    length, middle = length[kept], middle[kept]
    row = np.searchsorted(coarse, middle) - 1
    column = np.searchsorted(fine, middle) - 1
    mean = length / np.bincount(row, length)[row]
    return csc_matrix((mean.astype(np.float32), (row, column)), shape=(len(coarse) - 1, len(fine) - 1))


def axis_weights(size: int, step: float, box: float, extent: float) -> csc_matrix:
    """Weights for an axis that begins at 0: from ``size`` pixels of ``step`` to boxes of exactly ``box``.

    Args:
        size: number of fine pixels, N.
        step: their length, in any unit.
        box: length of a coarse pixel, in the same unit.
        extent: length of the whole axis; the last fine pixel is taken to end there, as the levels of a pyramid
            are rounded to whole pixels.

    Returns:
        (M, N) as of :func:`area_weights`, where M is :func:`box_count`.
    """
    fine = step * np.arange(size + 1, dtype=np.float64)
    fine[-1] = extent
    return area_weights(fine, box * np.arange(box_count(extent, box) + 1, dtype=np.float64))


def average_along(array: np.ndarray, weights: csc_matrix | csr_matrix, axis: int) -> np.ndarray:
    """Average one axis.

    Args:
        array: any shape, N along ``axis``.
        weights: (M, N).
        axis: which axis.

    Returns:
        float32, M along ``axis``, otherwise of the shape of ``array``; the array itself where nothing changes.
    """
    if _changes_nothing(weights):
        return array.astype(np.float32, copy=False)
    first = np.moveaxis(array, axis, 0)
    flat = np.ascontiguousarray(first.reshape(len(first), -1), np.float32)
    averaged = (weights @ flat).reshape(-1, *first.shape[1:])
    return np.moveaxis(averaged, 0, axis)


def _changes_nothing(weights: csc_matrix | csr_matrix) -> bool:
    """Whether weights are the identity, as of boxes that are as large as what they average."""
    size = weights.shape[0]
    same = weights.shape[1] == weights.nnz == size
    return bool(same and (weights.data == 1).all() and (weights.indices == np.arange(size)).all())


def average_block(block: np.ndarray, start: int, weights: tuple[csc_matrix, ...]) -> tuple[int, np.ndarray] | None:
    """What one block of the fine image contributes to the coarse one.

    Args:
        block: the fine image from ``start`` on along the first axis, whole along the others.
        start: where the block begins.
        weights: those of the leading axes; the first one's for the whole axis. Axes without are left alone.

    Returns:
        Where in the coarse image that begins along the first axis, and the part, float32, to be added there; None
        for the remainder at the end that fills less than half a box.
    """
    part = weights[0][:, start : start + len(block)].tocsr()
    touched = np.flatnonzero(np.diff(part.indptr))
    if not len(touched):
        return None
    low, high = touched[0], touched[-1] + 1
    block = average_along(block, part[low:high], 0)
    for axis, others in enumerate(weights[1:], 1):
        block = average_along(block, others, axis)
    return int(low), block


def add_block(total: np.ndarray, block: np.ndarray, start: int, weights: tuple[csc_matrix, ...]) -> None:
    """Add what one block of the fine image contributes to the coarse one, in place.

    When every block along the first axis has been added once, ``total`` is the area average.

    Args:
        total: float32, the coarse image, zero at first.
        block: see :func:`average_block`.
        start: likewise.
        weights: likewise.
    """
    found = average_block(block, start, weights)
    if found is not None:
        low, part = found
        total[low : low + len(part)] += part


def blocks(length: int, row: int, kept_together: int) -> Iterator[tuple[int, int]]:
    """Ranges to read an axis in: of about ``BLOCK`` samples, and whole pieces of what a file keeps together.

    Args:
        length: of the axis.
        row: samples at each place of the axis.
        kept_together: places that the file keeps together (slices of a chunk, rows of a tile).

    Yields:
        Where a block starts and where it stops.
    """
    size = kept_together * max(1, BLOCK // (kept_together * row))
    for start in range(0, length, size):
        yield start, min(start + size, length)


def pieces(start: int, block: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """Cut a block that a file keeps together into pieces of about ``BLOCK`` samples along the first axis.

    Args:
        start: where the block begins.
        block: any shape.

    Yields:
        Where a piece begins, and the piece.
    """
    for first, last in blocks(len(block), block[0].size, 1):
        yield start + first, block[first:last]
