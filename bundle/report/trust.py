"""The part of a page that says where a stain is not to be believed, and how well the network knows it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from bundle.common.charts import kept_chart
from bundle.common.html import Chart, small
from bundle.common.verdicts import DOUBTFUL, LIKE, UNKNOWN, UNLIKE
from bundle.evaluation import trust
from bundle.evaluation.error_map import WINDOW
from bundle.report.records import SHOWN_SPLITS, Record
from bundle.report.truth import SPLIT_NAMES

CLEARLY = 0.05  # of AUROC, by which a map must beat what needs no network to be worth having


def trusted(record: Record) -> dict[str, Any]:
    """What the expected error and the verdicts of a run are worth: in words, tables and charts."""
    lines = trust.summarise(record.trust, record.abstention)
    splits = {split: [line for line in lines if line["split"] == split] for split in SHOWN_SPLITS}
    splits = {split: each for split, each in splits.items() if each}
    level = f"{100 * record.evaluation['expected_error']['level']:.0f} %"
    tissues = list(lines[0]["tissues"])
    return {
        "told": [_told(split, each[0], level) for split, each in splits.items()],
        "learnt_there": "validation" in splits,
        "window": WINDOW,
        "level": level,
        "head": [trust.HEAD[1], *trust.HEAD[3:]],
        "groups": [(SPLIT_NAMES[split], list(map(_cells, each))) for split, each in splits.items()],
        "tissue_head": ["error against", *tissues],
        "tissues": [(SPLIT_NAMES[split], _by_tissue(each)) for split, each in splits.items()] if tissues else [],
        "charts": list(_charts(record.abstention)),
    }


def _cells(line: Mapping[str, Any]) -> list[str]:
    """Without the split, which is above them, and the verdicts, which are told in words."""
    _, against, _, *numbers = trust.cells_of(line)
    return [against, *(small(cell, r"\(.*\)") for cell in numbers)]


def _by_tissue(lines: Iterable[Mapping[str, Any]]) -> list[list[str]]:
    return [[line["against"], *map(trust.percent, line["tissues"].values())] for line in lines]


def _told(split: str, line: Mapping[str, Any], level: str) -> str:
    """What a scientist wants to know of a split, held against the real section."""
    counts = line["slides"]
    words = [f"{counts[word]} {word}" for word in (LIKE, DOUBTFUL, UNLIKE) if word in counts]
    words += [f"of {counts[UNKNOWN]} it is {UNKNOWN} whether they are {LIKE}"] if UNKNOWN in counts else []
    number = sum(counts.values())
    sentences = [f"{split.capitalize()}: of {number} slide{'s' * (number != 1)}, {', '.join(words)}."]
    if line["auroc"] is not None:
        sentences.append(_found(line))
    if line["coverage"] is not None:
        covered = trust.percent(line["coverage"])
        sentences.append(f"The error is within the bound in {covered} % of the pixels; {level} is wanted.")
    kept = line["kept"]
    if {*trust.SHARES} <= {*kept}:
        every, most, fewer = (f"{kept[share]:.1f}" for share in trust.SHARES)
        sentences.append(
            f"Who leaves out the tenth of the windows with most expected error has a mean error of {most} levels in "
            f"place of {every}; who leaves out a fifth, {fewer}."
        )
    return " ".join(sentences)


def _found(line: Mapping[str, Any]) -> str:
    """How well the worst windows are found, and whether that takes a network."""
    text = f"The expected error finds the worst tenth of the windows with AUROC {line['auroc']:.2f}"
    if line["auroc_trivial"] is None:
        return f"{text}."
    other = f"{line['trivial']}, which needs no network, with {line['auroc_trivial']:.2f}"
    if line["auroc"] < line["auroc_trivial"] + CLEARLY:
        return f"{text}, not clearly better than the {other}."
    return f"{text}; the {other}."


def _charts(rows: Sequence[Mapping[str, Any]]) -> Iterable[Chart]:
    """A curve of abstention for each split."""
    for split in SHOWN_SPLITS:
        lines = [row for row in rows if row["split"] == split]
        curves = {
            against: {row["kept"]: (row["error"], row["least_error"]) for row in lines if row["against"] == against}
            for against in dict.fromkeys(row["against"] for row in lines)
        }
        if curves:
            windows = f"{lines[0]['windows']:.0f}"
            yield Chart(
                kept_chart(curves, f"kept-{split}"),
                f"{split.capitalize()}: mean error of what is kept of {windows} windows where those with most expected "
                "error are left out. Dashed: the least it could be, if the error itself were known.",
            )
