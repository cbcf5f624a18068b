"""The first table of a run's page, and its charts: the measures of every image, what tells mush from stain first."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from bundle.common.charts import box_plot
from bundle.common.html import Chart, bold, small
from bundle.evaluation.tables import (
    DIGITS,
    HEADINGS,
    METRICS,
    NOT,
    QUANTILES,
    ROWS,
    TRUTHS,
    best_shown,
    better,
    name_of,
)
from bundle.report.records import Record


def lines_of(record: Record, split: str, columns: Sequence[str]) -> list[list[str]]:
    """A line for each image: its name, and the median and quartiles of each measure."""
    lines = {line["row"]: line for line in record.summary if line["split"] == split}
    best = {metric: _best(lines.values(), metric) for metric in columns}
    return [[row, *(_cell(lines[row], metric, best[metric]) for metric in columns)] for row in ROWS if row in lines]


def _best(lines: Iterable[dict[str, str]], metric: str) -> str | None:
    """The best median of a metric as the table shows it; more than one row may show it."""
    best = best_shown(metric, values_of(lines, f"{metric}_median"))
    return None if best is None else best.replace("-", "−")


def _cell(line: dict[str, str], metric: str, best: str | None) -> str:
    values = [line.get(f"{metric}_{name}", NOT) for name in QUANTILES]
    if NOT in values:
        return "–" if metric in TRUTHS else NOT
    median, low, high = (_number(float(value), metric) for value in values)
    return small((bold(median) if median == best else median) + f" [{low}, {high}]")


def _number(value: float, metric: str) -> str:
    return f"{value:.{DIGITS[metric]}f}".replace("-", "−")


def boxes(record: Record, splits: Sequence[str]) -> Iterable[Chart]:
    """A chart for each measure of patches, or why there is none (Fig. 7)."""
    for metric in METRICS:
        values: dict[str, dict[str, np.ndarray]] = {}
        for split in splits:
            for row in ROWS:
                scores = [
                    float(line[metric])
                    for line in record.patches
                    if (line["split"], line["row"]) == (split, row) and line.get(metric, NOT) != NOT
                ]
                finite = np.array(scores)[np.isfinite(scores)]  # PSNR of equal patches is infinite
                if len(finite):
                    values.setdefault(split, {})[row] = finite
        if not values:
            if metric != "lpips" or "lpips" not in record.evaluation:  # else it is said beside the table
                yield Chart(None, f"{HEADINGS[metric]}: not computed, so there is no chart.")
            continue
        yield Chart(
            box_plot(values, HEADINGS[metric], f"box-{metric}"),
            f"{HEADINGS[metric][0].upper()}{name_of(metric)[1:]} of the patches; {better(metric)}. "
            "Boxes: quartiles and median. Whiskers: 5th to 95th percentile.",
        )


def values_of(lines: Iterable[dict[str, str]], name: str) -> list[float]:
    """The figures of a column; there may be nothing of the kind on a slide."""
    return [float(line[name]) for line in lines if line.get(name, NOT) != NOT]
