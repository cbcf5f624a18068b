"""How a run went on the slides of its validation fold, in its report."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from bundle.report.page import chart, grid
from bundle.report.plots import metric_chart
from bundle.report.records import Record
from bundle.tables import HEADINGS, METRICS, best_epoch, means


def validation(record: Record) -> Iterable[str]:
    """Curves of ``validation.csv``; nothing where the run had no validation.

    Args:
        record: of a run's folder.

    Yields:
        HTML.
    """
    rows = record.validation
    charts = []
    for metric in METRICS:
        mean = {epoch: value for epoch, value in means(rows, metric).items() if np.isfinite(value)}
        if not mean:
            continue
        slides = [
            np.array([(row["epoch"], row[metric]) for row in rows if row["slide"] == slide and row["epoch"] in mean]).T
            for slide in dict.fromkeys(row["slide"] for row in rows)
        ]
        best = best_epoch(mean, metric)
        svg = metric_chart(slides, np.array(list(mean.items())).T, best, HEADINGS[metric], f"validation-{metric}")
        charts.append(chart(svg, f"Best after epoch {best} (circle): {mean[best]:.4g}. Grey: each slide. Blue: mean."))
    if charts:
        yield "<h3>On the slides of the validation fold</h3>"
        yield (
            "<p>Whole slides during the run, SSIM and PSNR inside the mask. Windows may be further apart here than in "
            "an evaluation, so its figures can differ a little.</p>"
        )
        yield grid("charts", charts)
