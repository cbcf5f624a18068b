"""Pairs that are unlike the others, by robust z-scores."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

LEAST_PAIRS = 5  # with fewer, what is usual cannot be told
LARGEST_Z = 3.5  # Iglewicz and Hoaglin's limit for the modified z-score
CONSISTENT = 0.6745  # makes MAD an estimate of the standard deviation of a normal distribution


@dataclass(frozen=True)
class Measure:
    """A number that every pair has.

    Attributes:
        heading: what a page calls it.
        floor: the smallest MAD to divide by, so that pairs all but equal do not flag each other (ours).
        digits: after the point.
    """

    heading: str
    floor: float
    digits: int


MEASURES = {
    "mutual_information": Measure("mutual information", 0.01, 3),
    "shear": Measure("residual shear", 0.001, 4),
    "contrast_to_noise": Measure("µCT contrast to noise", 0.5, 1),
    "bone_red": Measure("bone’s mean red", 3.0, 0),
    "bone_green": Measure("bone’s mean green", 3.0, 0),
    "bone_blue": Measure("bone’s mean blue", 3.0, 0),
    "f_min": Measure("f_min", 3.0, 0),
    "f_max": Measure("f_max", 3.0, 0),
}


def robust_z(values: np.ndarray, floor: float) -> np.ndarray:
    """Modified z-scores, 0.6745 (v − median) / max(MAD, floor).

    Args:
        values: (N,).
        floor: of the median absolute deviation, in the units of ``values``.

    Returns:
        (N,).
    """
    away = values - np.median(values)
    return CONSISTENT * away / max(float(np.median(np.abs(away))), floor)


def outliers(pairs: Mapping[str, Mapping[str, float]]) -> list[str]:
    """Say which pairs are unlike the others, and in what.

    Args:
        pairs: by pair, its values by names of :data:`MEASURES`; a pair may lack some.

    Returns:
        A sentence for each, or one that says that outliers cannot be told.
    """
    if len(pairs) < LEAST_PAIRS:
        return [f"Outliers cannot be told among {len(pairs)} pairs; that takes {LEAST_PAIRS}."]
    found = []
    for name, measure in MEASURES.items():
        values = {pair: numbers[name] for pair, numbers in pairs.items() if name in numbers}
        if len(values) < LEAST_PAIRS:
            if values:
                found.append(f"{measure.heading}: stated for {len(values)} pairs only, so outliers cannot be told.")
            continue
        scores = robust_z(np.array(list(values.values())), measure.floor)
        usual = [value for value, z in zip(values.values(), scores, strict=True) if abs(z) <= LARGEST_Z]
        for (pair, value), z in zip(values.items(), scores, strict=True):
            if abs(z) > LARGEST_Z:
                low, high = (f"{end:.{measure.digits}f}" for end in (min(usual), max(usual)))
                found.append(f"{pair}: {measure.heading} {value:.{measure.digits}f}, others {low} to {high}.")
    return found or ["No pair is unlike the others."]
