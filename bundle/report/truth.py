"""The part of a page that holds stains against the truth of a phantom."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from bundle.evaluation import truth
from bundle.report.measures import values_of
from bundle.report.records import SHOWN_SPLITS, Record

SPLIT_NAMES = {
    "testing": "testing: slides that training never saw",
    "validation": "validation: the fold left out of training",
    "training": "training: slides the network has learnt from",
}


def judged(record: Record) -> dict[str, Any]:
    """Medians over the slides of every measure that is known of any."""
    known = [name for name in truth.MEASURES if any(values_of([line], name) for line in record.truth)]
    groups = []
    for split in SHOWN_SPLITS:
        lines = [line for line in record.truth if line["split"] == split]
        rows = [[row, *(_median(lines, row, name) for name in known)] for row in dict.fromkeys(x["row"] for x in lines)]
        groups += [(SPLIT_NAMES[split], rows)] if rows else []
    return {
        "head": ["image", *(truth.HEADINGS[name] for name in known)],
        "groups": groups,
        "explained": [(truth.HEADINGS[name], truth.EXPLAINED[name]) for name in known],
    }


def _median(lines: Iterable[dict[str, str]], row: str, name: str) -> str:
    values = values_of((line for line in lines if line["row"] == row), name)
    return f"{np.median(values):.{truth.DIGITS.get(name, 2)}f}".replace("-", "−") if values else "–"
