"""Connected parts of a mask."""

from __future__ import annotations

import numpy as np
from scipy.ndimage import distance_transform_edt, maximum_filter, minimum_filter
from skimage.measure import label, regionprops
from skimage.morphology import disk, opening

MARGIN_PX = 4.0  # "a small amount of background pixels surrounding the bone" (§2.8); the number is ours

THIN_PX = 2  # radius of what must fit into a part somewhere for it to count: specks and lines do not

LEAST_SHARE = 0.002  # of the largest part; trabeculae cut across are islands, smaller ones are debris

LEAST_SOLIDITY = 0.15  # area of a part over that of its hull; the arc of a sample tube's wall has less


def main_parts(area: np.ndarray) -> np.ndarray:
    """The parts of an area that can be bone or screw: thick somewhere, not small, no arc of a tube's wall.

    Args:
        area: (H, W), bool.

    Returns:
        (H, W), bool.
    """
    parts = label(area, connectivity=1)
    core = opening(area, disk(THIN_PX))
    thick = set(np.unique(parts[core]).tolist()) - {0}
    found = sorted((part for part in regionprops(parts) if part.label in thick), key=lambda part: -part.area)
    largest, kept = 0.0, []
    for part in found:
        if part.area < LEAST_SHARE * largest:
            break
        if part.solidity >= LEAST_SOLIDITY:
            largest = max(largest, part.area)
            kept.append(part.label)
    return opening(np.isin(parts, kept), disk(1))


def eroded(area: np.ndarray, pixels: int) -> np.ndarray:
    """What of an area lies more than ``pixels`` inside it; the image's border is no edge, (H, W) bool."""
    inside = np.pad(area, 1, mode="edge")
    return (distance_transform_edt(inside) > pixels)[1:-1, 1:-1] if not area.all() else area.copy()


def dilated(area: np.ndarray, pixels: float) -> np.ndarray:
    """An area and all within ``pixels`` of it, (H, W) bool."""
    return distance_transform_edt(~area) <= pixels if area.any() else area.copy()


FLAT_PX = 5  # side of a square of one exact value, as noise in even 8 bits has none


def is_flat(source: np.ndarray) -> np.ndarray:
    """Where a scan (H, W) holds one exact value all around, (H, W) bool: a fill, for measured values have noise."""
    return maximum_filter(source, FLAT_PX) == minimum_filter(source, FLAT_PX)
