"""Scores of a stained slide against the real section: of its patches, and of the whole."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
    images: Mapping[str, np.ndarray],
    real: np.ndarray,
    mask: np.ndarray,
    corners: Sequence[tuple[int, int]],
    patch: int,
    lpips: Lpips | None,
) -> list[dict[str, Any]]:
    """Score each patch of stains of a slide: detail and gradients inside the mask, the rest all over it (§2.10).

    Args:
        about: columns that every row starts with.
        images: by row of the table, (3, H, W), uint8.
        real: (3, H, W), uint8.
        mask: (H, W), bool; outside, all images are of one colour.
        corners: top left corners.
        patch: side, px.
        lpips: None leaves the column as None.

    Returns:
        A row a patch, image by image.
    """
    places = [(..., slice(top, top + patch), slice(left, left + patch)) for top, left in corners]
    cut = {row: [image[place] for place in places] for row, image in images.items()}
    others = [real[place] for place in places]
    inner = interior(mask)
    distances = _distances(cut, others, lpips)
    return [
        {
            **about,
            **{"row": row, "top": top, "left": left, "lpips": distance},
            **structure(one, other, inner[place]),
            **{"ssim": ssim(one, other), "psnr": psnr(one, other)},
        }
        for row, patches in cut.items()
        for (top, left), place, one, other, distance in zip(
            corners, places, patches, others, distances[row], strict=True
        )
    ]


def score_slides(
    images: Mapping[str, np.ndarray], real: np.ndarray, mask: np.ndarray, lpips: Lpips | None
) -> dict[str, dict[str, Any]]:
    """Score stains of a whole slide, by name: LPIPS of all of it, the rest inside the mask."""
    inner = interior(mask)
    distances = _distances({name: [image] for name, image in images.items()}, [real], lpips)
    return {
        name: {
            "lpips": distances[name][0],
            **structure(image, real, inner),
            "ssim": ssim_inside(image, real, mask),
            "psnr": psnr(image[:, mask], real[:, mask]),
        }
        for name, image in images.items()
    }


def score_slide(image: np.ndarray, real: np.ndarray, mask: np.ndarray, lpips: Lpips | None) -> dict[str, Any]:
    """The same for one stain."""
    return score_slides({"": image}, real, mask, lpips)[""]


def _distances(
    images: Mapping[str, Sequence[np.ndarray]], real: Sequence[np.ndarray], lpips: Lpips | None
) -> Mapping[str, Sequence[float | None]]:
    """LPIPS of each image, by name; all None without it."""
    return lpips.of_slides(images, real) if lpips else {name: [None] * len(real) for name in images}
