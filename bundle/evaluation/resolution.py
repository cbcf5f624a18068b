"""Resolution and detail of an image: Fourier ring correlation, and energy against a reference."""

from __future__ import annotations

import numpy as np
from scipy.ndimage import gaussian_filter, gaussian_filter1d

from bundle.common.errors import InputError

RESOLUTION_THRESHOLD = 1 / 7

EVEN = 1e-3  # grey levels; a standard deviation up to this is rounding

DETAIL_SIGMA_PX = 2.0  # keeps lacunae and borders, takes off the stretch of tissues


def ring_correlation(image: np.ndarray, other: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Fourier ring correlation of two images (van Heel 1987; Nieuwenhuizen et al. 2013).

    FRC(q) = Re Σ F₁ F₂* / √(Σ |F₁|² Σ |F₂|²), summed over the ring of frequency q, after taking off the mean and a
    Hann window.

    Args:
        image: (H, W), any units.
        other: (H, W), likewise.

    Returns:
        Frequencies in cycles/px up to 0.5, and the correlation at each, −1 to 1; NaN where a ring has no power.

    Raises:
        ValueError: if the images are not of one shape.
    """
    if image.shape != other.shape:
        raise ValueError(f"ring correlation needs images of one shape, got {image.shape} and {other.shape}")
    window = np.outer(*(np.hanning(size + 2)[1:-1] for size in image.shape))
    spectra = [np.fft.fft2((one - one.mean()) * window) for one in (image.astype(float), other.astype(float))]
    radius = np.hypot(np.fft.fftfreq(image.shape[0])[:, None], np.fft.fftfreq(image.shape[1])[None, :])
    rings = min(image.shape) // 2
    ring = np.rint(radius * min(image.shape)).astype(int).ravel()
    sums = [
        np.bincount(ring, weights=values.ravel(), minlength=rings + 1)[1 : rings + 1]
        for values in ((spectra[0] * spectra[1].conj()).real, np.abs(spectra[0]) ** 2, np.abs(spectra[1]) ** 2)
    ]
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.arange(1, rings + 1) / min(image.shape), sums[0] / np.sqrt(sums[1] * sums[2])


def split_counts(image: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Two images with independent noise from one, by a coin for each count (Rieger et al. 2024).

    Args:
        image: (H, W), counts: whole numbers of at least 0, whose variance is their mean.
        rng: the coin.

    Returns:
        Two (H, W) images of half the counts, which add up to ``image``.

    Raises:
        ValueError: if a value is negative.
    """
    counts = np.rint(image).astype(np.int64)
    if counts.min() < 0:
        raise ValueError(f"counts are at least 0, got {counts.min()}; take off the camera's offset first")
    half = rng.binomial(counts, 0.5)
    return half, counts - half


def flat_gain(image: np.ndarray, top: int, left: int, height: int, width: int, offset: float = 0.0) -> float:
    """The value of one count, from a uniform part of an image: its variance over its mean above the offset.

    Args:
        image: (H, W).
        top: of the part, px; then ``left``, ``height`` and ``width``.
        left: likewise.
        height: likewise.
        width: likewise.
        offset: value of no count.

    Returns:
        In the units of the image.

    Raises:
        InputError: if the part is not inside the image, or has no noise or nothing above the offset.
    """
    part = image[max(top, 0) : top + height, max(left, 0) : left + width].astype(np.float64) - offset
    if part.shape != (height, width) or part.size < 2:
        raise InputError(
            f"flat is rows {top} to {top + height}, columns {left} to {left + width}; the image is "
            f"{image.shape[0]}×{image.shape[1]} px."
        )
    if part.mean() <= 0 or part.var() == 0:
        raise InputError(
            f"flat has mean {part.mean():g} above the offset and variance {part.var():g}; choose a part with noise, "
            "above --offset."
        )
    return float(part.var() / part.mean())


def resolution_px(
    frequency: np.ndarray, correlation: np.ndarray, threshold: float = RESOLUTION_THRESHOLD, smoothing: float = 1.0
) -> float:
    """The period at which a ring correlation first falls below a threshold.

    Args:
        frequency: (N,), cycles/px, ascending.
        correlation: (N,).
        threshold: 1/7 (Nieuwenhuizen et al. 2013) or another.
        smoothing: σ of the Gaussian smoothing of the curve, rings.

    Returns:
        px; inf if the curve begins below, 2 (the sampling limit) if it never falls so low.
    """
    curve = gaussian_filter1d(np.nan_to_num(correlation), smoothing, mode="nearest")
    below = np.flatnonzero(curve < threshold)
    if not below.size:
        return 2.0
    last = below[0]
    if last == 0:
        return float("inf")
    share = (curve[last - 1] - threshold) / (curve[last - 1] - curve[last])
    return float(1 / (frequency[last - 1] + share * (frequency[last] - frequency[last - 1])))


def detail_ratio(image: np.ndarray, reference: np.ndarray, mask: np.ndarray) -> float | None:
    """How much fine detail an image has, over that of a reference: below 1 it is blurred.

    The ratio of the standard deviations of L − G ∗ L inside the mask, G a Gaussian of σ = 2 px. A ring correlation
    cannot tell blur, which dims a frequency and leaves its phase. This cannot tell detail that is there from noise
    or stripes, which raise it: see :func:`gradient_correlation`.

    Args:
        image: (H, W), luminance.
        reference: (H, W), likewise.
        mask: (H, W), bool.

    Returns:
        At least 0; None if the reference is even, or the mask empty.
    """
    if not mask.any():
        return None
    fine = [(one - gaussian_filter(one, DETAIL_SIGMA_PX))[mask].std() for one in (image, reference)]
    return float(fine[0] / fine[1]) if fine[1] > EVEN else None
