"""Pictures of results."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from bundle.atomic import whole_file

TITLES = {"network": "generated", "colour table": "colour table (no network)"}
WIDTH_INCHES = 12.0


def comparison(source: np.ndarray, made: Mapping[str, np.ndarray], real: np.ndarray) -> Figure:
    """One slide: source, generated stain, what a colour table makes, real stain, and the mean difference of channels.

    Args:
        source: (1 or 3, H, W), uint8.
        made: generated images by row, (3, H, W) uint8; ``network`` and ``colour table`` are shown.
        real: (3, H, W), uint8.

    Returns:
        The figure.
    """
    difference = np.abs(made["network"].astype(int) - real.astype(int)).mean(0)
    panels = [("source", source.mean(0)), *((TITLES[row], made[row].transpose(1, 2, 0)) for row in TITLES)]
    panels += [("real", real.transpose(1, 2, 0)), ("|generated − real|", difference)]
    height, width = source.shape[1:]
    columns = 1 if width > 2 * height else len(panels)
    rows = -(-len(panels) // columns)
    figure = Figure(
        figsize=(WIDTH_INCHES, (WIDTH_INCHES / columns * height / width + 0.3) * rows), layout="constrained"
    )
    for place, (title, image) in enumerate(panels, start=1):
        axes = figure.add_subplot(rows, columns, place)
        grey = "magma" if image is difference else "gray"
        axes.imshow(image, cmap=matplotlib.colormaps[grey], vmin=0, vmax=255, interpolation="nearest")
        axes.set_title(title, fontsize=10)
        axes.set_axis_off()
    return figure


def save_picture(figure: Figure, path: Path) -> None:
    """Write a figure as PNG, whole or not at all."""
    with whole_file(path) as partial:
        figure.savefig(partial, dpi=100, format="png")
