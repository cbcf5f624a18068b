"""How a run went on the slides of its validation fold, in its report."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from bundle.common.charts import metric_chart
from bundle.common.html import chart, grid
from bundle.evaluation.tables import CYCLES, HEADINGS, best_epoch, means
from bundle.report.records import Record

STAINED = "Whole slides during the run, all but LPIPS inside the mask."
GIVEN_BACK = (
    "Images during the run, translated and translated back, against themselves (Liu et al. Fig. 3). It says how much "
    "of an image survives both networks, and nothing of whether the image in between is right."
)
WINDOWS = "Windows may be further apart here than in an evaluation, so its figures can differ a little."


def validation(record: Record) -> Iterable[str]:
    """Curves of ``validation.csv``; nothing where the run had no validation.

    Args:
        record: of a run's folder.

    Yields:
        HTML.
    """
    rows = record.validation
    charts = []
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
        charts.append(chart(svg, f"Best after epoch {best} (circle): {mean[best]:.4g}. Grey: each slide. Blue: mean."))
    if charts:
        cycles = any(name in row for row in rows for name in CYCLES)
        yield f"<h3>On the {'images' if cycles else 'slides'} of the validation fold</h3>"
        yield f"<p>{GIVEN_BACK if cycles else STAINED} {WINDOWS}</p>"
        yield grid("charts", charts)
