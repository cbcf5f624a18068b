"""The Ki-67 labelling index: positive nuclei over all nuclei, found by colour deconvolution."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_laplace, zoom
from scipy.stats import binomtest
from skimage.feature import peak_local_max
from skimage.segmentation import find_boundaries, watershed

from bundle.common.errors import InputError
from bundle.common.palette import NEGATIVE, POSITIVE
from bundle.images.stain_vectors import densities

logger = logging.getLogger("bundle")

NUCLEUS_UM = 7.0  # across; a lymphocyte's nucleus, the smallest that is counted
DAB_THRESHOLD = 0.2  # mean optical density of a positive nucleus; QuPath's default for "1+" (Bankhead et al. 2017)
CONTRAST = 0.1  # optical density of hematoxylin + DAB by which a nucleus stands out; ours
WORKING_PX = 6.0  # a nucleus is made so large, by interpolation, before it is looked for
CLEAR_PX, LEAST_PX = 3.0, 2.0  # across: fewer than 3 px is said to be doubtful, fewer than 2 cannot be resolved
FARTHEST = 0.5  # of its diameter, from the centre of a nucleus to its last pixel
RESAMPLINGS = 2000


@dataclass(frozen=True)
class Nuclei:
    """The nuclei of one image.

    Attributes:
        rows: (N,), of the centres, px of the image.
        columns: (N,), likewise.
        dab: (N,), mean optical density of DAB in each.
        hematoxylin: (N,), of hematoxylin.
        labels: (scale·H, scale·W), 0 or 1 + the nucleus's place.
        scale: how many times finer than the image the labels are.
    """

    rows: np.ndarray
    columns: np.ndarray
    dab: np.ndarray
    hematoxylin: np.ndarray
    labels: np.ndarray
    scale: int

    def counts(self, threshold: float, chosen: np.ndarray | None = None) -> tuple[int, int]:
        """Positive nuclei and all nuclei.

        Args:
            threshold: mean DAB density above which a nucleus is positive.
            chosen: (N,), bool, which nuclei count; None counts all.
        """
        dab = self.dab if chosen is None else self.dab[chosen]
        return int((dab > threshold).sum()), len(dab)

    def inside(self, mask: np.ndarray) -> np.ndarray:
        """Which nuclei have their centre in a mask, (H, W) bool → (N,) bool."""
        found: np.ndarray = mask[self.rows, self.columns]
        return found


def resolution_faults(pixel_um: float, nucleus_um: float) -> list[str]:
    """What is wrong with the size of a nucleus for a pixel size, a line each; a doubtful one is warned of."""
    if not nucleus_um > 0:
        return [f"nucleus_um is {nucleus_um!r}; give the diameter of a nucleus in µm."]
    across = nucleus_um / pixel_um
    if across < LEAST_PX:
        return [
            f"a nucleus of {nucleus_um:g} µm (nucleus_um) is {across:.1f} px across at {pixel_um:g} µm a pixel; nuclei "
            f"of less than {LEAST_PX:g} px cannot be told apart: use images of a higher magnification, or "
            "--labelling_index false."
        ]
    return []


def resolution_note(pixel_um: float, nucleus_um: float) -> str:
    """What must be said of an index at this magnification; empty if nothing."""
    across = nucleus_um / pixel_um
    if across >= CLEAR_PX:
        return ""
    return (
        f"A nucleus of {nucleus_um:g} µm is only {across:.1f} px across here: neighbours run into each other, so the "
        "labelling index is a rough one."
    )


def find_nuclei(rgb: np.ndarray, pixel_um: float, nucleus_um: float = NUCLEUS_UM, contrast: float = CONTRAST) -> Nuclei:
    """Find nuclei as blobs of hematoxylin and DAB together, and how much of each they hold.

    The sum of the two densities is filtered by the scale-normalised Laplacian of a Gaussian, −σ²∇²G, of
    σ = d/4. That is less than the d/(2√2) to which a disc of diameter d answers most (Lindeberg 1998), so that
    touching nuclei part; a disc of contrast c answers with 4c/e² in its centre. Maxima above that of ``contrast`` and
    at least d/2 apart are nuclei; each reaches as far as the answer is positive, and d/2 at most, and touching ones are
    divided by a watershed. No threshold is fitted to the image, so real and virtual stain are judged by one rule.

    Args:
        rgb: (3, H, W), uint8, brightfield.
        pixel_um: pixel size in µm.
        nucleus_um: diameter of a nucleus in µm.
        contrast: least optical density by which a nucleus stands out.

    Returns:
        The nuclei, in the order of their rows.

    Raises:
        InputError: if a nucleus is less than two pixels across.
    """
    faults = resolution_faults(pixel_um, nucleus_um)
    if faults:
        raise InputError("\n".join(faults))
    across = nucleus_um / pixel_um
    scale = max(1, math.ceil(WORKING_PX / across))
    stains = densities(rgb)[[0, 2]]
    if scale > 1:
        stains = np.stack([zoom(one, scale, order=1, mode="nearest", grid_mode=True) for one in stains])
    hematoxylin, dab = stains
    diameter = across * scale
    sigma = diameter / 4
    answer = -(sigma**2) * gaussian_laplace(np.maximum(hematoxylin, 0) + np.maximum(dab, 0), sigma, mode="reflect")
    least = contrast * 4 * math.exp(-2)
    peaks = peak_local_max(answer, min_distance=max(1, round(diameter / 2)), threshold_abs=least, exclude_border=False)
    peaks = peaks[np.lexsort(peaks.T[::-1])]
    markers = np.zeros(answer.shape, np.int32)
    markers[tuple(peaks.T)] = np.arange(1, len(peaks) + 1)
    labels = watershed(-answer, markers, mask=answer > 0)
    row, column = np.nonzero(labels)
    centre = peaks[labels[row, column] - 1]
    far = np.hypot(row - centre[:, 0], column - centre[:, 1]) > FARTHEST * diameter
    labels[row[far], column[far]] = 0
    size = np.bincount(labels.ravel(), minlength=len(peaks) + 1)
    means = [np.bincount(labels.ravel(), one.ravel(), len(peaks) + 1)[1:] / size[1:] for one in (hematoxylin, dab)]
    rows, columns = (peaks // scale).T
    return Nuclei(rows, columns, means[1], means[0], labels, scale)


def index(positive: int, nuclei: int) -> float | None:
    """Positive nuclei over all nuclei, 0 to 1; None where there is none."""
    return positive / nuclei if nuclei else None


def wilson(positive: int, nuclei: int) -> tuple[float, float] | None:
    """The 95 % interval of an index as a share of independent nuclei (Wilson 1927), by SciPy; None without nuclei."""
    if not nuclei:
        return None
    interval = binomtest(positive, nuclei).proportion_ci(method="wilson")
    return float(interval.low), float(interval.high)


def difference_interval(
    virtual: Sequence[tuple[int, int]], real: Sequence[tuple[int, int]], seed: int = 0
) -> tuple[float, float] | None:
    """The 95 % interval of index(virtual) − index(real), by drawing whole units again (percentile bootstrap).

    A unit is a specimen or, of one specimen, a region: nuclei of one unit are not independent, and both stains see the
    same units; so units are drawn, with both their counts. Regions say nothing of other specimens.

    Args:
        virtual: positive and all nuclei of each unit.
        real: likewise, the same units in the same order.
        seed: of the draws.

    Returns:
        Lower and upper end; None with fewer than two units, or if no draw has nuclei in both stains.

    Raises:
        ValueError: if there are not as many units of one as of the other.
    """
    if len(virtual) != len(real):
        raise ValueError(f"{len(virtual)} virtual units, {len(real)} real ones; they must be the same")
    number = len(real)
    if number < 2:
        return None
    counts = np.array([virtual, real], float)  # (2, units, 2)
    rng, even = np.random.default_rng(seed), np.full(number, 1 / number)
    # how often each unit is drawn, one resampling after the other: memory stays that of the units
    sums = np.stack([rng.multinomial(number, even) @ counts for _ in range(RESAMPLINGS)], axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        difference = np.subtract(*(sums[..., 0] / sums[..., 1]))
    known = difference[np.isfinite(difference)]
    if not len(known):
        return None
    low, high = np.quantile(known, (0.025, 0.975))
    return float(low), float(high)


def outlined(rgb: np.ndarray, nuclei: Nuclei, threshold: float) -> np.ndarray:
    """The image with every nucleus outlined, positive ones in red and negative ones in green, to be looked at.

    Args:
        rgb: (3, H, W), uint8.
        nuclei: of it.
        threshold: mean DAB density above which a nucleus is positive.

    Returns:
        (3, scale·H, scale·W), uint8.
    """
    picture = rgb.repeat(nuclei.scale, 1).repeat(nuclei.scale, 2)
    edge = find_boundaries(nuclei.labels, mode="inner")
    positive = np.concatenate([[False], nuclei.dab > threshold])[nuclei.labels]
    for where, colour in ((edge & positive, POSITIVE), (edge & ~positive, NEGATIVE)):
        picture[:, where] = np.array(colour, np.uint8)[:, None]
    return picture
