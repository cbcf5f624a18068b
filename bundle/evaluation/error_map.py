"""How good a map of expected error is, where the error is known."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.ndimage import uniform_filter

WINDOW = 32  # px a side of the windows that a map is judged by
WORST = 0.1  # of them, that it should find
COVERED = 0.5  # of a window that must count
KEPT = (1.0, 0.95, 0.9, 0.8, 0.7, 0.6, 0.5)  # shares, of an abstention curve
SPREADS = (4, 16)  # px, sides of the squares of trivial scores
TRIVIAL = ("grey", "inverted_grey", *(f"spread_{side}" for side in SPREADS))  # scores that need no network


def true_error(stain: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """Mean absolute difference over the channels, (C, H, W) uint8, twice → (H, W) float32, levels."""
    return np.abs(stain.astype(np.int16) - reference).mean(0, dtype=np.float32)


def trivial_scores(grey: np.ndarray) -> dict[str, np.ndarray]:
    """What a map must beat, by name of ``TRIVIAL``: the source's grey, its negative, and its spread around a pixel.

    Args:
        grey: (H, W), any units.

    Returns:
        (H, W) each; the spread is the standard deviation in squares of ``SPREADS``.
    """
    grey = grey.astype(np.float64)
    spreads = [
        np.sqrt(np.maximum(uniform_filter(grey**2, side) - uniform_filter(grey, side) ** 2, 0)) for side in SPREADS
    ]
    return dict(zip(TRIVIAL, (grey, -grey, *spreads), strict=True))


def coverage(error: np.ndarray, bound: np.ndarray, inside: np.ndarray) -> float | None:
    """Share of the pixels whose error is within a bound.

    Args:
        error: any shape, levels.
        bound: likewise.
        inside: likewise, bool; the pixels that count.

    Returns:
        0 to 1; None if none counts.
    """
    return float((error[inside] <= bound[inside]).mean()) if inside.any() else None


def windows_of(image: np.ndarray, mask: np.ndarray, side: int) -> np.ndarray:
    """Mean of an image inside a mask, in each square of a side of which at least half counts.

    Args:
        image: (H, W).
        mask: (H, W), bool.
        side: of the squares, px; what is left at the far edges is left out.

    Returns:
        (N), row by row.
    """
    rows, columns = image.shape[0] // side, image.shape[1] // side
    squares = lambda each: each[: rows * side, : columns * side].reshape(rows, side, columns, side).sum((1, 3))
    counted = squares(mask.astype(np.float64))
    found = squares(np.where(mask, image, 0).astype(np.float64)) / np.maximum(counted, 1)
    return found[counted >= COVERED * side**2]


def auroc(score: np.ndarray, positive: np.ndarray) -> float:
    """Area under the ROC curve: how often one that is positive has the higher score, ties counted half.

    Args:
        score: (N).
        positive: (N), bool.

    Returns:
        0 to 1, 0.5 by chance; NaN where all are alike.
    """
    number = int(positive.sum())
    if number in (0, len(positive)):
        return float("nan")
    from scipy.stats import rankdata  # here, as it takes a second to load

    ranks = rankdata(score)
    return float((ranks[positive].sum() - number * (number + 1) / 2) / (number * (len(score) - number)))


def auroc_of_worst(score: np.ndarray, error: np.ndarray, worst: float = WORST) -> float:
    """With which AUROC a score finds that share of windows whose errors are the largest.

    Args:
        score: (N).
        error: (N).
        worst: share.
    """
    if len(error) == 0:
        return float("nan")
    return auroc(score, error >= np.quantile(error, 1 - worst))


def abstention(score: np.ndarray, error: np.ndarray, kept: Sequence[float] = KEPT) -> list[float]:
    """Mean error of what is kept where what has the highest scores is left out.

    Args:
        score: (N).
        error: (N).
        kept: shares of them.

    Returns:
        One a share; NaN where nothing is kept.
    """
    order = error[np.argsort(score, kind="stable")]
    return [
        float(order[: round(share * len(order))].mean()) if round(share * len(order)) else float("nan")
        for share in kept
    ]
