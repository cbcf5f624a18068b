"""Proposed regions of bone and background, from a registered pair or from a scan alone.

Every number here is our choice, made on phantoms of Mg, Ti and PEEK screws; a proposal is shown for approval before
it is used.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter, gaussian_filter1d
from skimage.filters import threshold_otsu
from skimage.measure import label
from skimage.morphology import disk, opening, remove_small_holes, remove_small_objects

from bundle.images.parts import FLAT_PX, dilated, eroded, is_flat

BONE, BACKGROUND = 1, 2  # values of a label image of ROIs
SMOOTH_PX = 1.5  # of the segmentation: below the size of a lacuna, above that of the noise
MODE_PX = 2.0  # of the values whose mode is sought
KEEP_OFF_PX = 3  # from any edge: blur, edge enhancement and registration error reach that far
SMALLEST_PX = 40  # of an area worth showing
GLASS, BLACK = 0.85, 0.2  # of the way from the darkest to the brightest of the section
SCREW_SHARE = 0.005  # of the field; a smaller black area is no screw
AIR_SHARE = 0.03  # of the field: whole slices have 10 % or more, spots of lost tissue (not air in the scan) under 2 %
BINS = 256


@dataclass(frozen=True)
class Appearance:
    """What a section shows before its colours are known, each (H, W) bool.

    Attributes:
        glass: near white.
        black: the screw.
        stained: neither.
    """

    glass: np.ndarray
    black: np.ndarray
    stained: np.ndarray


def smoothed(image: np.ndarray, field: np.ndarray, sigma: float) -> np.ndarray:
    """Gaussian mean of the pixels inside a field only.

    Args:
        image: (H, W), any values; what lies outside the field does not count.
        field: (H, W), bool.
        sigma: px.

    Returns:
        (H, W), float32; 0 where the field is more than 4 σ away.
    """
    if field.all():
        return gaussian_filter(image.astype(np.float32), sigma, mode="nearest")
    weight = gaussian_filter(field.astype(np.float32), sigma, mode="nearest")
    total = gaussian_filter(np.where(field, image, 0).astype(np.float32), sigma, mode="nearest")
    return np.divide(total, weight, out=np.zeros_like(total), where=weight > 1e-6)


def appearance(target: np.ndarray, field: np.ndarray) -> Appearance:
    """Tell glass, screw and tissue apart by brightness.

    Args:
        target: (3, H, W), uint8, of any white balance and contrast.
        field: (H, W), bool.

    Returns:
        The three areas.
    """
    image = np.stack([smoothed(channel, field, 1.0) for channel in target])
    white = np.percentile(image[:, field], 99, axis=1)[:, None, None]
    dark = np.percentile(image[:, field], 0.2, axis=1)[:, None, None]
    level = (image - dark) / np.maximum(white - dark, 1)
    glass = field & (level.min(0) >= GLASS)
    black = opening(field & (level.max(0) < BLACK), disk(3))
    black = remove_small_objects(black, max_size=max(1, int(SCREW_SHARE * field.sum())))
    return Appearance(glass, black, field & ~glass & ~black)


def mode(values: np.ndarray, highest: bool, share: float = 0.3) -> tuple[float, float]:
    """The highest (or lowest) peak of a histogram that is worth the name, and its width.

    Args:
        values: any number, at least one.
        highest: take the peak of the largest value; else of the smallest.
        share: of the tallest peak's height that another must have to count.

    Returns:
        Its place, and half its full width at half maximum towards the outer side; both in the units of ``values``.
    """
    low, high = np.percentile(values, (0.1, 99.9))
    if high <= low:
        return float(low), 0.0
    counts, edges = np.histogram(values, BINS, (low, high))
    curve = gaussian_filter1d(np.pad(counts.astype(float), 16), 5.0)
    peaks = [
        place
        for place in range(1, curve.size - 1)
        if curve[place - 1] < curve[place] >= curve[place + 1] and curve[place] >= share * curve.max()
    ]
    place = peaks[-1] if highest else peaks[0]
    step = 1 if highest else -1
    end = place
    while 0 < end < curve.size - 1 and curve[end] > curve[place] / 2:
        end += step
    width = edges[1] - edges[0]
    return float(edges[0] + (place - 16 + 0.5) * width), float(abs(end - place) * width)


def near_mode(values: np.ndarray, area: np.ndarray, highest: bool) -> np.ndarray:
    """The part of an area whose values belong to one peak, in pieces of some size, (H, W) bool."""
    if area.sum() < SMALLEST_PX:
        return np.zeros_like(area)
    centre, width = mode(values[area], highest)
    return pieces(area & (np.abs(values - centre) <= 2 * width))


def pieces(area: np.ndarray, most: int = 12) -> np.ndarray:
    """The largest connected parts of an area, at most ``most``, each of ``SMALLEST_PX`` or more, (H, W) bool."""
    parts = label(area, connectivity=1)
    sizes = np.bincount(parts.ravel())
    sizes[0] = 0
    kept = [number for number in np.argsort(sizes)[::-1][:most] if sizes[number] >= SMALLEST_PX]
    return np.isin(parts, kept)


def propose(source: np.ndarray, target: np.ndarray, field: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Propose bone and background in both images of a registered pair.

    The screw is black in the section, whatever it is in the scan, and so it leaves the search first. Bone is what is
    bright in the scan and stained in the section; of it, for the scan, only the peak of the highest grey (mature
    bone), for the section all of it, lacunae too, for its percentile of §2.5 to mean something. Background of the
    scan is dark there and glass in the section, and no small part of the slice; background of the section is glass,
    also where tissue was lost.

    Args:
        source: (H, W), any units, bone brighter than background.
        target: (3, H, W), uint8.
        field: (H, W), bool.

    Returns:
        Label images for source and target, (H, W) uint8: 1 bone, 2 background, 0 neither. A label may be missing.
    """
    seen = appearance(target, field)
    smooth, wide = (smoothed(source, field, sigma) for sigma in (SMOOTH_PX, MODE_PX))
    allowed = eroded(field, KEEP_OFF_PX) & ~dilated(seen.black, KEEP_OFF_PX + 1) & (source < saturation(source))
    clear = without_flat(seen.glass, source, AIR_SHARE * field.sum())
    threshold = bone_threshold(smooth[allowed & seen.stained], smooth[allowed & clear])
    rigid = remove_small_holes(seen.stained & (smooth > threshold), max_size=30)
    rigid = eroded(rigid, KEEP_OFF_PX) & allowed
    bone = near_mode(wide, rigid, highest=True)
    air = eroded(clear & (smooth < threshold), KEEP_OFF_PX) & allowed
    air = near_mode(wide, air, highest=False)
    air &= air.sum() >= AIR_SHARE * field.sum()
    labels = np.zeros((2, *field.shape), np.uint8)
    labels[:, remove_small_holes(bone, max_size=60)] = BONE
    labels[0][air] = BACKGROUND
    labels[1][pieces(eroded(seen.glass, 2) & eroded(field, 2))] = BACKGROUND
    return labels[0], labels[1]


def without_flat(glass: np.ndarray, source: np.ndarray, least: float) -> np.ndarray:
    """Glass without what a reconstruction filled up with one value: measured air has noise.

    Args:
        glass: (H, W), bool.
        source: (H, W), any units.
        least: pixels that must be left; with fewer, the flat part is all the air there is, and stays.

    Returns:
        (H, W), bool.
    """
    measured = glass & ~dilated(glass & is_flat(source), KEEP_OFF_PX + FLAT_PX)
    return measured if measured.sum() >= least else glass


def bone_threshold(tissue: np.ndarray, air: np.ndarray) -> float:
    """Otsu's threshold between bone and the rest of the scan, the screw left out.

    Glass counts where it is no brighter in the scan than half of what is stained: a screw that is not in the section
    (laser-cut H&E, §2.1) leaves glass behind.

    Args:
        tissue: (N,), smoothed grey values of what is stained.
        air: (M,), likewise, of glass.
    """
    if tissue.size == 0:
        return np.inf
    values = np.concatenate([tissue, air[air <= np.median(tissue)]])
    low, high = np.percentile(values, (0.1, 99.9))
    return float(threshold_otsu(np.clip(values, low, high))) if high > low else np.inf


def saturation(source: np.ndarray) -> float:
    """The grey at which a scan's file ends: its type's largest value; infinity for float."""
    return float(np.iinfo(source.dtype).max) if np.issubdtype(source.dtype, np.integer) else np.inf
