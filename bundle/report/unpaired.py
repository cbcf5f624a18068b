"""An unpaired evaluation in its run's report: tables, residual maps, indices by region."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from markupsafe import Markup
from matplotlib.figure import Figure

from bundle.common import palette
from bundle.common.charts import STYLE, WIDTH_INCHES, as_svg
from bundle.common.html import Chart, Picture, reduced, scale_bar, small
from bundle.evaluation.unpaired import tables as told
from bundle.images.slides import read_slide
from bundle.report.records import SHOWN_SPLITS, Record

RESIDUAL_MAX = 64  # grey levels at the bright end; residuals are smaller than differences of two stains
HEAT = matplotlib.colormaps[palette.HEAT]
OUTLINES = "red: positive nuclei, green: negative"


def unpaired(record: Record) -> dict[str, Any]:
    """Tables, charts and kept images of an evaluation, of a run's folder with ``evaluation/summary.json``."""
    found = record.unpaired
    return {
        "notes": found["notes"],
        "cycle": _cells(told.reconstruction_rows(found)),
        "hash": _cells(told.hash_rows(found)),
        "labelling": _cells(told.labelling_rows(found)),
        "channels": _cells(told.channel_rows(found)),
        "counted": told.counted(found),
        "told": told,
        "indices": list(_indices(record.regions)),
        "residual_max": RESIDUAL_MAX,
        "images": dict(_images(record)),
    }


def _cells(rows: Iterable[Sequence[str]]) -> list[list[str]]:
    """Rows with what stands beside a figure, its deviation or interval, in small print."""
    return [[row[0], *(small(cell, r"± .*|\[[^\]]*\]") for cell in row[1:])] for row in rows]


def _images(record: Record) -> Iterable[tuple[str, list[Picture]]]:
    """Kept images with their translation, reconstruction and residual map (Liu et al. Fig. 4)."""
    folders = [path for path in sorted((record.folder / "evaluation" / "images").glob("*")) if path.is_dir()]
    for split in SHOWN_SPLITS:
        for side in ("source", "target"):
            for folder in (path for path in folders if path.name.startswith(f"{split}_{side}_")):
                yield folder.name, list(_pictures(record, folder, side))


def _pictures(record: Record, folder: Path, side: str) -> Iterable[Picture]:
    names = (record.unpaired["source"], record.unpaired["target"])
    own, other = names if side == "source" else names[::-1]
    captions = {
        "image": own,
        "translated": f"virtual {other}",
        "reconstruction": f"{own}, given back",
        "residual": "residual",
        "real": f"real {other}, consecutive section",
        "nuclei_real": f"real {other}, nuclei ({OUTLINES})",
        "nuclei_virtual": f"virtual {other}, nuclei",
    }
    for name, caption in captions.items():
        path = folder / f"{name}.png"
        if not path.is_file():
            continue
        slide = read_slide(path)
        pixels = heat(slide.pixels) if name == "residual" else slide.pixels
        scale = scale_bar(pixels.shape[2], slide.pixel_um) if slide.pixel_um and name == "image" else None
        yield reduced(pixels, f"{folder.name}: {caption}", caption, scale)


def heat(residual: np.ndarray) -> np.ndarray:
    """(1, H, W) → (3, H, W), uint8, on a scale that is the same for every image."""
    levels = np.minimum(np.arange(256) / RESIDUAL_MAX, 1)
    colours = np.rint(255 * np.asarray(HEAT(levels))[:, :3]).astype(np.uint8)
    return colours[residual[0]].transpose(2, 0, 1)


def _indices(regions: Sequence[dict[str, str]]) -> Iterable[Chart]:
    for number, split in enumerate(split for split in SHOWN_SPLITS if any(row["split"] == split for row in regions)):
        rows = [row for row in regions if row["split"] == split]
        both = [row for row in rows if "not computed" not in (row["index_real"], row["index_virtual"])]
        if not both:
            yield Chart(None, f"{split}: no region has nuclei in both stains, so there is no chart.")
            continue
        left = f" {len(rows) - len(both)} regions without nuclei in one of the stains are left out." * (both != rows)
        caption = (
            f"{split}: a point a region, its bars 95 % intervals (Wilson); on the line the two indices agree.{left}"
        )
        yield Chart(index_chart(both, f"index-{number}"), caption)


def index_chart(rows: Sequence[dict[str, Any]], name: str) -> Markup:
    """The index of the virtual stain against that of the real one.

    Args:
        rows: of ``labelling.csv``, with an index in both.
        name: see :func:`bundle.common.charts.as_svg`.

    Returns:
        SVG.
    """
    value = lambda column: np.array([float(row[column]) for row in rows])
    points = {stain: value(f"index_{stain}") for stain in ("real", "virtual")}
    bars = {
        stain: np.maximum([at - value(f"index_{stain}_low"), value(f"index_{stain}_high") - at], 0)
        for stain, at in points.items()
    }
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH_INCHES, 3.4), layout="constrained")
        axes = figure.add_subplot()
        most = 1.05 * max(float((at + bars[stain][1]).max()) for stain, at in points.items())
        axes.plot([0, most], [0, most], color=palette.DIAGONAL, linewidth=0.8, linestyle="--")
        style: dict[str, Any] = {
            "fmt": "o",
            "color": palette.SERIES[0],
            "markersize": 3,
            "linewidth": 0.6,
            "alpha": 0.8,
        }
        axes.errorbar(points["real"], points["virtual"], yerr=bars["virtual"], xerr=bars["real"], **style)
        axes.set_xlabel("labelling index, real stain (%)")
        axes.set_ylabel("labelling index, virtual stain (%)")
        axes.set_xlim(0, most)
        axes.set_ylim(0, most)
        axes.set_aspect("equal")
        axes.grid(linewidth=0.4, alpha=0.5)
        return as_svg(figure, name, f"Labelling index of virtual against real stain in {len(rows)} regions.")
