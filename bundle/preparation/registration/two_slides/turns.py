"""Starts without a guess: consecutive sections lie on glass any way round, and either side up.

At some 80 px a slide's density has few details, so that a correlation over all shifts, for every 5° and both sides, is
a second's work: normalised over what the two have in common (Padfield, IEEE TIP 21(5) 2706, 2012), by Fourier
transforms.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import fft
from scipy.ndimage import affine_transform, binary_dilation, gaussian_filter
from skimage.filters import threshold_otsu

from bundle.preparation.registration.two_slides.density import shrunk
from bundle.preparation.registration.two_slides.placing import Placing, apart, of_pose

SIDE_PX = 80  # of the longer side of the larger slide; 8 to 12 px of a slide of 1,000 are one of these
STEP_DEG = 5.0
LEAST_COMMON = 0.3  # of the smaller slide that must lie on the other
LEAST_SHOWN = 0.1  # of a slide's variance that the common part must hold; glass on glass correlates by chance
BRIGHTEST = 0.99  # quantile at which density is cut, so that dirt does not decide
APART_PX = 8  # mean distance of the corners at which two starts are two
TISSUE, CLOSED_PX = 0.5, 1  # of Otsu's threshold, so that pale tissue counts; how much around it does
PEAKS = 2  # looked at for each turn


@dataclass(frozen=True)
class Start:
    """One way to lay the source on the target.

    Attributes:
        placing: turn, side and shift.
        weight: atanh(correlation) · √(pixels in common): how unlikely it is by chance.
    """

    placing: Placing
    weight: float


def find_starts(
    source: np.ndarray,
    target: np.ndarray,
    known: tuple[np.ndarray, np.ndarray],
    pixel_um: float,
    keep: int,
) -> list[Start]:
    """The best distinct ways to lay one slide on the other, glass counting as a sight and glass left out.

    Args:
        source: (H, W), density.
        target: (h, w), density, at the same pixel size.
        known: where each may be compared, bool.
        pixel_um: of both.
        keep: how many of each.

    Returns:
        At most 2 ``keep``, the best of each first; none if the two have nothing in common.
    """
    factor = max(*source.shape, *target.shape) / SIDE_PX
    step_um = pixel_um * max(factor, 1.0)
    fixed, moving = (
        np.minimum(small, np.quantile(small, BRIGHTEST)) for small in (shrunk(source, factor), shrunk(target, factor))
    )
    masks = [(shrunk(mask, factor) > 0.5).astype(np.float32) for mask in known]
    size_um = np.array(fixed.shape) * step_um
    kept: list[Start] = []
    for shown in (masks, [mask * tissue_of(image) for mask, image in zip(masks, (fixed, moving), strict=True)]):
        search = _Search(fixed, moving, shown[0], shown[1])
        found = [
            Start(Placing.of_pixels(matrix, step_um), weight)
            for mirrored in (False, True)
            for turn in np.arange(0, 360, STEP_DEG)
            for weight, matrix in search.peaks(of_pose(float(turn), mirrored, np.zeros(2), np.zeros(2)).linear)
        ]
        before = len(kept)
        for start in sorted(found, key=lambda each: -each.weight):
            if len(kept) - before == keep:
                break
            if all(apart(start.placing, other.placing, size_um) > APART_PX * step_um for other in kept):
                kept.append(start)
    return kept


def tissue_of(density: np.ndarray) -> np.ndarray:
    """Where there is tissue and a little around it, (H, W) bool; glass about a torn piece says nothing of the rest."""
    smooth = gaussian_filter(density, 1.0)
    return binary_dilation(smooth > TISSUE * threshold_otsu(smooth), iterations=CLOSED_PX)


class _Search:
    """All shifts of a turned target over a source, by Fourier transforms of both."""

    def __init__(self, fixed: np.ndarray, moving: np.ndarray, mask: np.ndarray, moving_mask: np.ndarray) -> None:
        self.fixed, self.moving, self.mask, self.moving_mask = fixed, moving, mask, moving_mask
        self.side = int(np.ceil(np.hypot(*moving.shape))) + 2
        self.size = [fft.next_fast_len(length + self.side, True) for length in fixed.shape]
        self.spectra = [fft.rfft2(image, self.size) for image in (mask, fixed * mask, fixed**2 * mask)]
        self.least = LEAST_COMMON * min(mask.sum(), moving_mask.sum())

    def peaks(self, linear: np.ndarray) -> list[tuple[float, np.ndarray]]:
        """Weight and matrix (2, 3) of the best shifts of one turn (2, 2)."""
        middle, canvas = (np.array(self.moving.shape) - 1) / 2, np.full(2, (self.side - 1) / 2)
        offset = middle - linear @ canvas
        weights = self._weights(linear, offset)
        found = []
        for _ in range(PEAKS):
            place = np.unravel_index(int(weights.argmax()), weights.shape)
            if weights[place] <= 0:
                break
            shift = np.array(
                [k - n if k >= h else k for k, n, h in zip(place, self.size, self.fixed.shape, strict=True)]
            )
            found.append((float(weights[place]), np.column_stack([linear, offset - linear @ shift])))
            around = [(np.arange(-APART_PX, APART_PX + 1) + k) % n for k, n in zip(place, self.size, strict=True)]
            weights[np.ix_(*around)] = 0
        return found

    def _weights(self, linear: np.ndarray, offset: np.ndarray) -> np.ndarray:
        shape = self.side, self.side
        mask = affine_transform(self.moving_mask, linear, offset, shape, order=0)
        image = affine_transform(self.moving, linear, offset, shape, order=1) * mask
        ones, first, second = (np.conj(fft.rfft2(each, self.size)) for each in (mask, image, image**2))
        count, sums, squares = self.spectra

        def shifted(product: np.ndarray) -> np.ndarray:
            return fft.irfft2(product, self.size)

        n = shifted(count * ones)
        enough = n > self.least
        n = np.maximum(n, 1)
        mean, other = shifted(sums * ones) / n, shifted(count * first) / n
        of_fixed = np.maximum(shifted(squares * ones) / n - mean**2, 1e-9)
        of_moving = np.maximum(shifted(count * second) / n - other**2, 1e-9)
        enough &= (of_fixed > LEAST_SHOWN * self.fixed.var()) & (of_moving > LEAST_SHOWN * self.moving.var())
        both = (shifted(sums * first) / n - mean * other) / np.sqrt(of_fixed * of_moving)
        return np.where(enough, np.arctanh(np.clip(both, 0, 0.99)) * np.sqrt(n), 0)
