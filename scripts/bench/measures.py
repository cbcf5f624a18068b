"""Which measure tells mush from stain: ``python -m scripts.bench.measures DATA --trained BUNDLE --seven BUNDLE``."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from scipy.ndimage import gaussian_filter

from bundle.common.command_line import command
from bundle.data.datalist import Datalist
from bundle.data.load import load_datalist
from bundle.data.patches import load_pair
from bundle.evaluation.baselines import ColourTable
from bundle.evaluation.scoring import score_patches
from bundle.evaluation.similarity import Lpips, find_lpips, patch_corners
from bundle.evaluation.slide_scores import in_8bit, labelled
from bundle.evaluation.tables import COLUMNS, DIGITS, HEADINGS, TRUTHS
from bundle.evaluation.truth import TissueColours, measure
from bundle.images.slides import read_labels
from bundle.staining.model import load_model, on_background

Stain = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""Makes an image (3, H, W) uint8 of a source (C, H, W), as the dataset has it, and the real section, uint8."""


def blurred(sigma_px: float) -> Stain:
    """The real section through a Gaussian: all of it in its place, nothing of it sharp."""
    return lambda source, real: np.rint(gaussian_filter(real.astype(float), (0, sigma_px, sigma_px))).astype(np.uint8)


def shifted(px: int) -> Stain:
    """The real section, moved to the right: as sharp as it is, a little out of place."""
    return lambda source, real: np.roll(real, px, 2)


def without_network(data: Datalist) -> dict[str, Stain]:
    """What a network must be told from, by name, and the section itself."""
    table = ColourTable(in_8bit(data, load_pair(pair)) for pair in data.training)
    grey = lambda source: np.clip((source - data.source.low) / (data.source.high - data.source.low) * 255, 0, 255)
    return {
        "blurred section, 3 px": blurred(3),
        "mean colour": lambda source, real: table.mean_colour(source),
        "colour table": lambda source, real: table(np.rint(grey(source)).astype(np.uint8)),
        "real section": lambda source, real: real,
    }


def scores(
    data: Datalist, stains: Mapping[str, Stain], lpips: Lpips | None, patch: int
) -> dict[str, dict[str, float | None]]:
    """Medians over the patches of the test slides, of truth over the slides.

    Args:
        data: with labels; the training pairs teach the tissues' colours.
        stains: by name.
        lpips: None leaves it out.
        patch: side of a patch, px; half of it apart, at least half in the mask.

    Returns:
        By name and measure; None where nothing is defined.
    """
    colours = TissueColours(labelled(data), data.tissues)
    found: dict[str, dict[str, list[float]]] = {name: {measure: [] for measure in COLUMNS} for name in stains}
    for pair in data.testing:
        images = load_pair(pair)
        _, target, mask = in_8bit(data, images)
        real = on_background(target, mask, data.background_rgb)
        corners = [
            (top, left)
            for top, left in patch_corners(*mask.shape, patch, patch // 2)
            if mask[top : top + patch, left : left + patch].mean() >= 0.5
        ]
        labels = None if pair.labels is None else read_labels(pair.labels)
        for name, stain in stains.items():
            image = on_background(stain(images["source"], target), mask, data.background_rgb)
            rows = score_patches({}, {name: image}, real, mask, corners, patch, lpips)
            rows.append({key: measure(image, real, mask, labels, colours, data.pixel_um)[key] for key in TRUTHS})
            for row in rows:
                for key in {*row} & {*COLUMNS}:
                    found[name][key] += [] if row[key] is None else [row[key]]
    return {
        name: {key: float(np.median(values)) if values else None for key, values in by.items()}
        for name, by in found.items()
    }


def main(
    dataset_dir: str, trained: str, seven: str, lpips_weights: str | None = None, patch: int = 128, more: bool = False
) -> str:
    """Print the measures of two networks and of what needs none, a line each.

    Args:
        dataset_dir: a dataset with labels; its test slides are measured.
        trained: bundle of a trained network.
        seven: bundle of one that had seven steps.
        lpips_weights: torchvision's SqueezeNet 1.1; without, those in the torch hub cache, or no LPIPS.
        patch: side of a patch, px.
        more: also other blurs and shifts of the section.
    """
    data = load_datalist(dataset_dir)
    models = {"trained": load_model(trained), "seven steps": load_model(seven)}
    stains: dict[str, Stain] = {name: lambda source, real, model=model: model(source) for name, model in models.items()}
    stains |= without_network(data)
    if more:
        stains |= {f"blurred section, {px} px": blurred(px) for px in (1, 2, 5)}
        stains |= {f"section moved by {px} px": shifted(px) for px in (1, 2)}
    return table(scores(data, stains, find_lpips(lpips_weights), patch))


def table(found: Mapping[str, Mapping[str, float | None]]) -> str:
    """The same as Markdown; a dash where nothing is defined."""
    columns: Sequence[str] = [key for key in COLUMNS if any(by[key] is not None for by in found.values())]
    lines = ["| image | " + " | ".join(HEADINGS[key] for key in columns) + " |", "|---" * (1 + len(columns)) + "|"]
    for name, by in found.items():
        cells = ["–" if by[key] is None else f"{by[key]:.{DIGITS[key]}f}" for key in columns]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    command(main)
