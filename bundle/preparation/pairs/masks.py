"""Sample correspondence masks (§2.8): where µCT and section of a pair may be compared."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from skimage.morphology import convex_hull_image

from bundle.images.parts import MARGIN_PX, dilated, eroded, main_parts
from bundle.preparation.pairs.normalisation import BACKGROUND_INTENSITY, BONE_INTENSITY
from bundle.preparation.pairs.proposal import SMOOTH_PX, Appearance, appearance, smoothed

OD_FLOOR = 1.0  # grey level below which optical density is not computed


@dataclass(frozen=True)
class Correspondence:
    """The mask of a pair and what it was made of, each (H, W) bool.

    Attributes:
        mask: where the two may be compared.
        source_rigid: bone and screw in the source.
        target_rigid: bone and screw in the target.
    """

    mask: np.ndarray
    source_rigid: np.ndarray
    target_rigid: np.ndarray


def correspondence(
    source: np.ndarray,
    target: np.ndarray,
    field: np.ndarray,
    manual: np.ndarray,
    bone: np.ndarray,
    margin_px: float = MARGIN_PX,
) -> Correspondence:
    """Intersect the convex hulls of bone and screw in both images, the field and the user's masks (§2.8).

    Differs from the paper in one thing: the screw is found in the section, where it is black whatever its material,
    and counts in both images, because PEEK in µCT cannot be told from soft tissue by its grey.

    Args:
        source: (H, W), uint16, normalised.
        target: (3, H, W), uint8, normalised.
        field: (H, W), bool, where both images have data.
        manual: (H, W), bool, where the user's masks allow it.
        bone: (H, W), bool, the bone region of the target.
        margin_px: how far the hulls are widened, px.

    Returns:
        The mask, empty if no bone is found.
    """
    smooth = smoothed(source, field, SMOOTH_PX)
    hard = field & (smooth > (BONE_INTENSITY + BACKGROUND_INTENSITY) / 2)
    seen = appearance(target, field)
    source_rigid = main_parts(hard | seen.black)
    target_rigid = main_parts(target_bone(target, seen, field, hard, bone) | seen.black)
    mask = hull(source_rigid, margin_px) & hull(target_rigid, margin_px) & field & manual
    return Correspondence(mask, source_rigid, target_rigid)


def target_bone(
    target: np.ndarray, seen: Appearance, field: np.ndarray, hard: np.ndarray, bone: np.ndarray
) -> np.ndarray:
    """Tell bone from soft tissue in the section by colour.

    Two normal distributions of optical density: bone from its region, soft tissue from what is stained but, well
    away from edges, not hard in the source. A stained pixel is bone where bone is the more likely of the two. Without
    enough soft tissue to learn from, all that is stained counts.

    Args:
        target: (3, H, W), uint8, normalised.
        seen: what it shows by brightness.
        field: (H, W), bool.
        hard: (H, W), bool, what is brighter than half-way to bone in the source.
        bone: (H, W), bool, the bone region of the target.

    Returns:
        (H, W), bool.
    """
    density = np.stack([smoothed(channel, field, SMOOTH_PX) for channel in target])
    density = -np.log10(np.maximum(density, OD_FLOOR) / 255)
    soft = seen.stained & eroded(~hard, 4) & ~dilated(seen.black, 4)
    if soft.sum() < 100 or bone.sum() < 25:
        return seen.stained
    likely = log_likelihood(density, density[:, bone]) > log_likelihood(density, density[:, soft])
    return seen.stained & likely


def log_likelihood(values: np.ndarray, sample: np.ndarray) -> np.ndarray:
    """Of a normal distribution fitted to a sample, up to a constant.

    Args:
        values: (C, …).
        sample: (C, N), N > C.

    Returns:
        The shape of ``values`` without its first axis.
    """
    mean = sample.mean(axis=1)
    spread = np.cov(sample) + 1e-4 * np.eye(
        len(sample)
    )  # a hundredth of density: even areas have no spread of their own
    away = values - mean.reshape(-1, *[1] * (values.ndim - 1))
    distance = np.einsum("c...,cd,d...->...", away, np.linalg.inv(spread), away)
    return -0.5 * (distance + np.linalg.slogdet(spread)[1])


def hull(area: np.ndarray, margin_px: float) -> np.ndarray:
    """Convex hull of an area, widened by ``margin_px``, (H, W) bool; empty if the area is."""
    return dilated(convex_hull_image(area), margin_px) if area.any() else area.copy()
