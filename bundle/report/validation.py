"""How a run went on the slides of its validation fold, in its report."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from bundle.common.charts import metric_chart
from bundle.common.html import Chart
from bundle.evaluation.tables import HEADINGS, best_epoch, means
from bundle.report.records import Record


def validation(record: Record) -> Iterable[Chart]:
    """Curves of ``validation.csv``; nothing where the run had no validation."""
    rows = record.validation
    for metric in (name for name in HEADINGS if any(name in row for row in rows)):
        mean = {epoch: value for epoch, value in means(rows, metric).items() if np.isfinite(value)}
        if not mean:
            continue
        scored = [row for row in rows if metric in row and row["epoch"] in mean]
        slides = [
            np.array([(row["epoch"], row[metric]) for row in scored if row["slide"] == slide]).T
            for slide in dict.fromkeys(row["slide"] for row in scored)
        ]
        best = best_epoch(mean, metric)
        svg = metric_chart(slides, np.array(list(mean.items())).T, best, HEADINGS[metric], f"validation-{metric}")
        yield Chart(svg, f"Best after epoch {best} (circle): {mean[best]:.4g}. Grey: each slide. Blue: mean.")
