"""Scores of a stained slide against the real section: of its patches, and of the whole."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy.ndimage import minimum_filter

from bundle.evaluation.resolution import detail_ratio
from bundle.evaluation.similarity import Lpips, gradient_correlation, psnr, ssim, ssim_inside
from bundle.staining.stripes import LUMINANCE

EDGE_PX = 8  # the filters of detail and gradient see no farther (4 σ), so no edge that every image shares


def luminance(image: np.ndarray) -> np.ndarray:
    """(3, H, W) uint8 → (H, W) float32."""
    return np.tensordot(LUMINANCE, image.astype(np.float32), 1)


def interior(mask: np.ndarray) -> np.ndarray:
    """What of a mask (H, W) is more than 8 px from its edge; the border of the image is none."""
    return minimum_filter(mask, 2 * EDGE_PX + 1, mode="nearest")


def structure(image: np.ndarray, real: np.ndarray, inner: np.ndarray) -> dict[str, float | None]:
    """How much detail an image has, and whether it lies where the section's does.

    Args:
        image: (3, H, W), uint8.
        real: (3, H, W), uint8.
        inner: (H, W), bool, see :func:`interior`.

    Returns:
        ``detail`` and ``gradient_correlation``; None where the section is even or nothing is inside.
    """
    pair = luminance(image), luminance(real)
    return {"detail": detail_ratio(*pair, inner), "gradient_correlation": gradient_correlation(*pair, inner)}


def score_patches(
    about: dict[str, Any],
    image: np.ndarray,
    real: np.ndarray,
    mask: np.ndarray,
    corners: Sequence[tuple[int, int]],
    patch: int,
    lpips: Lpips | None,
) -> list[dict[str, Any]]:
    """Score each patch of a slide: detail and gradients inside the mask, the rest all over the patch (§2.10).

    Args:
        about: columns that every row starts with.
        image: (3, H, W), uint8.
        real: (3, H, W), uint8.
        mask: (H, W), bool; outside, both images are of one colour.
        corners: top left corners.
        patch: side, px.
        lpips: None leaves the column as None.

    Returns:
        A row a patch.
    """
    if not corners:
        return []
    places = [(..., slice(top, top + patch), slice(left, left + patch)) for top, left in corners]
    cut = [np.stack([full[place] for place in places]) for full in (image, real)]
    inner = interior(mask)
    distances = lpips.of_slides(*cut) if lpips else [None] * len(corners)
    return [
        {
            **about,
            **{"top": top, "left": left, "lpips": distance},
            **structure(one, other, inner[place]),
            **{"ssim": ssim(one, other), "psnr": psnr(one, other)},
        }
        for (top, left), place, one, other, distance in zip(corners, places, *cut, distances, strict=True)
    ]


def score_slide(image: np.ndarray, real: np.ndarray, mask: np.ndarray, lpips: Lpips | None) -> dict[str, Any]:
    """Score a whole slide: LPIPS of all of it, the rest inside the mask."""
    return {
        "lpips": lpips.of_slides(image[None], real[None])[0] if lpips else None,
        **structure(image, real, interior(mask)),
        "ssim": ssim_inside(image, real, mask),
        "psnr": psnr(image[:, mask], real[:, mask]),
    }
