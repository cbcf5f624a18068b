"""The part of a page that holds stains against the truth of a phantom."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape

import numpy as np

from bundle.common.html import definitions, table
from bundle.evaluation import truth
from bundle.report.measures import values_of
from bundle.report.records import SHOWN_SPLITS, Record

SPLIT_NAMES = {
    "testing": "testing: slides that training never saw",
    "validation": "validation: the fold left out of training",
    "training": "training: slides the network has learnt from",
}

TRUTH_EXPLAINED = (
    "Measures that pixel metrics miss. Most need labels of what is truly there, as a phantom has them. The real "
    "section is judged too, which is spoiled and thicker than the source; and so is the perfect stain, where it is "
    "known: no measure can get further. Slides where there is nothing of the kind do not count; a dash: none has it."
)


def _truth(record: Record) -> str:
    known = [name for name in truth.MEASURES if any(values_of([line], name) for line in record.truth)]
    groups = []
    for split in SHOWN_SPLITS:
        lines = [line for line in record.truth if line["split"] == split]
        rows = [[row, *(_median(lines, row, name) for name in known)] for row in dict.fromkeys(x["row"] for x in lines)]
        groups += [(SPLIT_NAMES[split], rows)] if rows else []
    head = ["image", *(truth.HEADINGS[name] for name in known)]
    told = definitions((truth.HEADINGS[name], escape(truth.EXPLAINED[name])) for name in known)
    caption = "Medians over the slides."
    return f"<p>{TRUTH_EXPLAINED}</p>{table(caption, head, groups, 1)}{told}"


def _median(lines: Iterable[dict[str, str]], row: str, name: str) -> str:
    values = values_of((line for line in lines if line["row"] == row), name)
    return f"{np.median(values):.{truth.DIGITS.get(name, 2)}f}".replace("-", "−") if values else "–"
