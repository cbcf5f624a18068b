"""Resolution of µCT, section and generated stains by Fourier ring correlation, beside what is really there (§S3).

For test slides whose perfect stain is known (phantoms), it prints the median over the slides, in µm at 1/7: of each
image alone, with several gains, and of its correlation with the perfect stain.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from scipy.ndimage import binary_erosion, uniform_filter

from bundle.common.command_line import command
from bundle.common.errors import InputError
from bundle.data.datalist import Pair
from bundle.data.load import load_datalist
from bundle.evaluation.resolution import flat_gain, resolution_px, ring_correlation, split_counts
from bundle.images.slides import read_labels, read_slide

FLAT_PX = 8  # side of the most even part of bone, on which the µCT's gain is measured
STAIN_GAINS = (1.0, 0.1)  # 8-bit levels a count: as if each level were one, and ten times as many counts


def main(dataset_dir: str, *runs: str) -> None:
    """Print a line for each image.

    Args:
        dataset_dir: phantoms.
        runs: evaluated runs on them, folders with evaluation/.
    """
    data = load_datalist(dataset_dir)
    rows: dict[str, list[list[float]]] = {}
    for number, pair in enumerate(data.testing):
        perfect = _grey(pair.perfect)
        source = _grey(pair.source)
        gain = _gain(source, pair, data.tissues["bone"])
        print(f"{pair.specimen}: µCT gain {gain:.0f}, measured in bone")
        rows.setdefault("µCT, its own gain", []).append([_alone(source, gain), np.nan, _between(source, perfect)])
        stains = {"real section": _grey(pair.target), "perfect stain": perfect}
        for run in runs:
            slides = sorted((Path(run) / "evaluation" / "slides").glob("testing_*"))
            stains[Path(run).name] = _grey(slides[number] / "unmasked.png")
        for name, stain in stains.items():
            alone = [_alone(stain, gain) for gain in STAIN_GAINS]
            rows.setdefault(name, []).append([*alone, _between(stain, perfect)])
    print(f"| image | alone, gain {STAIN_GAINS[0]:g} | alone, gain {STAIN_GAINS[1]:g} | with the perfect stain |")
    print("|---|---|---|---|")
    for name, values in rows.items():
        medians = np.median(np.array(values), axis=0) * data.pixel_um
        print(f"| {name} | " + " | ".join("–" if np.isnan(value) else f"{value:.1f}" for value in medians) + " |")


def _grey(path: Path | None) -> np.ndarray:
    if path is None:
        raise InputError("this needs the perfect stain of every test pair: a phantom dataset.")
    return read_slide(path).pixels.astype(np.float64).mean(0)


def _gain(source: np.ndarray, pair: Pair, bone: list[int]) -> float:
    """The gain in the most even square of bone."""
    labels = read_labels(pair.labels)
    inside = binary_erosion(np.isin(labels, bone), np.ones((FLAT_PX, FLAT_PX)))
    variance = uniform_filter(source**2, FLAT_PX) - uniform_filter(source, FLAT_PX) ** 2
    row, column = np.unravel_index(np.where(inside, variance, np.inf).argmin(), source.shape)
    return flat_gain(source, int(row) - FLAT_PX // 2, int(column) - FLAT_PX // 2, FLAT_PX, FLAT_PX)


def _alone(image: np.ndarray, gain: float) -> float:
    halves = split_counts(image / gain, np.random.default_rng(0))
    return resolution_px(*ring_correlation(*halves))


def _between(image: np.ndarray, other: np.ndarray) -> float:
    frequency, correlation = ring_correlation(image, other)
    return resolution_px(frequency, np.abs(correlation))


if __name__ == "__main__":
    command(main)
