"""Normalisation of µCT and stain by regions of bone and background (§2.5), as pure functions."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bundle.common.errors import InputError

BONE_INTENSITY, BACKGROUND_INTENSITY = 30000.0, 10000.0  # §2.5
SOURCE_MAX, TARGET_MAX = 65535, 255
LOWEST_BOUND = 10.0  # §2.5: f_min is clamped to 10
C, C_PRIME = 10.0, 5.0  # grey levels; §2.5 has c and c′ but no values, so these are ours
LEAST_CONTRAST = 2.0  # standard deviations of the background between it and bone; less is noise (ours)


@dataclass(frozen=True)
class SourceScale:
    """Where bone and background of one scan lie.

    Attributes:
        bone: mean of the bone region, the scan's own grey values.
        background: mean of the background region, likewise.
    """

    bone: float
    background: float

    @property
    def gain(self) -> float:
        """Normalised grey levels for each grey level of the scan."""
        return (BONE_INTENSITY - BACKGROUND_INTENSITY) / (self.bone - self.background)


@dataclass(frozen=True)
class StainScale:
    """White balance and stretch of one section.

    Attributes:
        gains: (red, green, blue), factors that make the background grey.
        low: f_min, the white-balanced value that becomes 0.
        high: f_max, the one that becomes 255.
    """

    gains: tuple[float, float, float]
    low: float
    high: float


def source_scale(bone: np.ndarray, background: np.ndarray) -> SourceScale:
    """Take the means of the two regions of a scan.

    Args:
        bone: (N,), grey values of the bone region.
        background: (M,), of the background region.

    Returns:
        Their means.

    Raises:
        InputError: if a region is empty, the means are equal, bone is darker than background, or the two differ by
            less than the background's noise.
    """
    _check_filled(bone.size, background.size)
    found = SourceScale(float(bone.mean(dtype=np.float64)), float(background.mean(dtype=np.float64)))
    if found.bone == found.background:
        raise InputError(
            f"bone and background both have mean {found.bone:g}, so no scale can be set; draw bone on bone and "
            "background beside the sample."
        )
    if found.bone < found.background:
        raise InputError(
            f"bone has mean {found.bone:g} and background {found.background:g}, but bone must be the brighter; the "
            "two regions may be swapped (bone is 1, background 2)."
        )
    noise = float(background.std(dtype=np.float64))
    if found.bone - found.background < LEAST_CONTRAST * noise:
        raise InputError(
            f"bone (mean {found.bone:g}) cannot be told from background (mean {found.background:g}, standard "
            f"deviation {noise:g}); draw bone on bone and background beside the sample."
        )
    return found


def normalise_source(source: np.ndarray, scale: SourceScale) -> np.ndarray:
    """Scale a scan so that bone has mean 30000 and background 10000 (§2.5).

    out = 10000 + 20000 (v − background) / (bone − background), rounded and clipped to 0–65535.

    Args:
        source: any shape, the scan's own grey values.
        scale: its two means.

    Returns:
        uint16 of the same shape.
    """
    scaled = BACKGROUND_INTENSITY + (source.astype(np.float64) - scale.background) * scale.gain
    return np.clip(np.rint(scaled), 0, SOURCE_MAX).astype(np.uint16)


def source_clipped(source: np.ndarray, scale: SourceScale) -> float:
    """Share of the pixels of a scan that :func:`normalise_source` clips, 0 to 1."""
    scaled = BACKGROUND_INTENSITY + (source.astype(np.float64) - scale.background) * scale.gain
    return float(((np.rint(scaled) < 0) | (np.rint(scaled) > SOURCE_MAX)).mean())


def white_balance(background: np.ndarray) -> tuple[float, float, float]:
    """Factors that give the background's three channels one mean, that of all three (§2.5; which one is ours).

    Args:
        background: (3, N), RGB of the background region.

    Returns:
        One factor a channel.

    Raises:
        InputError: if a channel is black.
    """
    means = background.mean(axis=1, dtype=np.float64)
    if not means.all():
        raise InputError(
            f"background has mean RGB {rounded(means)}: a black channel cannot be balanced; draw it on glass."
        )
    red, green, blue = (means.mean() / means).tolist()
    return red, green, blue


def stain_scale(bone: np.ndarray, background: np.ndarray, c: float = C, c_prime: float = C_PRIME) -> StainScale:
    """Find white balance and stretch of a section from its two regions (§2.5).

    f_min = max(10, min over RGB of bone's 1st percentile − c), f_max = min(255, max over RGB of the background's 99th
    percentile + c′), both of white-balanced values.

    Args:
        bone: (3, N), RGB of the bone region, 0–255.
        background: (3, M), RGB of the background region, 0–255.
        c: grey levels below bone that are kept.
        c_prime: grey levels above background that are kept.

    Returns:
        The constants of the section.

    Raises:
        InputError: if a region is empty, the background's mean is no brighter than bone's, or nothing is left
            between the two bounds.
    """
    _check_filled(bone.shape[1], background.shape[1])
    if bone.mean() >= background.mean():
        raise InputError(
            f"bone has mean RGB {rounded(bone.mean(1))} and background {rounded(background.mean(1))}, but background "
            "must be the brighter; the two regions may be swapped (bone is 1, background 2)."
        )
    gains = white_balance(background)
    factors = np.asarray(gains)[:, None]
    low = max(LOWEST_BOUND, float(np.percentile(bone * factors, 1, axis=1).min()) - c)
    high = min(float(TARGET_MAX), float(np.percentile(background * factors, 99, axis=1).max()) + c_prime)
    if high <= low:
        raise InputError(
            f"the stretch would go from {low:g} to {high:g}; lower c ({c:g}) or raise c_prime ({c_prime:g})."
        )
    return StainScale(gains, low, high)


def normalise_stain(target: np.ndarray, scale: StainScale) -> np.ndarray:
    """White-balance and stretch a section (§2.5).

    out = 255 (gain · v − f_min) / (f_max − f_min), rounded and clipped; nothing is clipped between the two steps.
    One stretch for all channels: ratios of channel *differences* stay, ratios of channels shift, because f_min is
    subtracted (:func:`colour_ratios` tells by how much).

    Args:
        target: (3, H, W), 0–255.
        scale: the section's constants.

    Returns:
        uint8 of the same shape.
    """
    return np.clip(np.rint(_stretched(target, scale)), 0, TARGET_MAX).astype(np.uint8)


def stain_clipped(target: np.ndarray, scale: StainScale) -> float:
    """Share of the pixels of which :func:`normalise_stain` clips at least one channel, 0 to 1.

    Args:
        target: (3, …), 0–255.
        scale: the section's constants.
    """
    stretched = np.rint(_stretched(target, scale))
    return float(((stretched < 0) | (stretched > TARGET_MAX)).any(axis=0).mean())


def balanced(target: np.ndarray, scale: StainScale) -> np.ndarray:
    """White-balanced values before the stretch, (3, …) float64."""
    return target.astype(np.float64) * np.asarray(scale.gains).reshape(3, *[1] * (target.ndim - 1))


def colour_ratios(bone: np.ndarray) -> tuple[float, float]:
    """Mean red over mean green, and mean blue over mean green, of (3, N) values."""
    red, green, blue = bone.mean(axis=1, dtype=np.float64)
    return float(red / green) if green else float("inf"), float(blue / green) if green else float("inf")


def rounded(values: np.ndarray) -> list[float]:
    """Values for a message, to one digit."""
    return [round(float(value), 1) for value in values]


def _stretched(target: np.ndarray, scale: StainScale) -> np.ndarray:
    return TARGET_MAX * (balanced(target, scale) - scale.low) / (scale.high - scale.low)


def _check_filled(bone: int, background: int) -> None:
    empty = [name for name, count in (("bone", bone), ("background", background)) if not count]
    if empty:
        raise InputError(f"the region of {' and of '.join(empty)} is empty; draw it (docs/your-data.md, step 2).")
