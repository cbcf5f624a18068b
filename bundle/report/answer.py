"""What a run's page says first: is the stain right, in sentences with the numbers behind them.

Each sentence has a rule, and its thresholds are named here with the reason for each. Where a number was not measured
there is no sentence about it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from bundle.common.html import Answer
from bundle.common.values import is_number
from bundle.common.verdicts import DOUBTFUL, LIKE, UNLIKE
from bundle.evaluation.tables import DIGITS, LOWER, NOT, ROWS, merit, name_of
from bundle.report.measures import values_of
from bundle.report.records import SHOWN_SPLITS, Record

NETWORK, COLOUR_TABLE = ROWS[:2]
SECTION = "real section"  # a row of truth.csv
# Lacunae above chance. The colour table, which makes none, reaches 0.04 on a test slide of `make demo`, a section
# blurred by a pixel 0.05 (docs/results.md, "Which measure tells mush from stain").
NO_CELLS = 0.05
FEW_CELLS = 0.5  # of what the section itself has above chance; ours: half of the cells are not most of them
# Detail (its inverse where above 1) times gradient correlation. A section blurred by 3 px has 0.18, the colour table
# 0.15, a network after seven steps 0.08; one after 2,400 steps 0.42, a section moved by 2 px 0.71 (same place).
OUT_OF_PLACE, IN_PLACE = 0.2, 0.3
MUSH = 0.5  # of the section's detail: seven steps have 0.42, a trained network 0.84 (same place)
# By which the network must beat the colour table: the most by which three seeds of one method differ on the test
# slides of phantoms (docs/results.md, `firm` and `field`).
CLEARLY = {"lpips": 0.03, "gradient_correlation": 0.06, "ssim": 0.03, "psnr": 0.9}
ON = {
    "testing": "training never saw them",
    "validation": "the fold left out of training",
    "training": "the network has learnt from them, so this says nothing of new ones",
}
SHORT = {"testing": "test", "validation": "validation", "training": "training"}
NO_PAIRS = "Whether each place is right is not known"


def answers(record: Record) -> list[Answer]:
    """What is known of a run, the most wanted first; of the best split that was measured (testing, if there is one).

    Args:
        record: a run.

    Returns:
        Sentences; of a run that was not evaluated, that it was not, and how it was trained.
    """
    unknown = Answer("Not evaluated yet", "nothing here says how good the stain is", "bad")
    return [*(_measured(record) or [unknown]), *_trained(record)]


def judged_split(record: Record) -> str | None:
    """The split that is spoken of; None if no slide was measured."""
    return next((split for split in SHOWN_SPLITS if record.slides_of(split)), None)


def _measured(record: Record) -> list[Answer]:
    if record.unpaired:
        return list(_indices(record.unpaired.get("labelling", [])))
    split = judged_split(record)
    if split is None:
        return []
    measured = record.evaluation.get("model_sha256")
    found: list[Answer] = []
    if measured and record.model_sha256 not in (None, measured):
        found.append(Answer("The model has changed since it was measured", "what follows is of an earlier one", "bad"))
    summary = {line["row"]: line for line in record.summary if line["split"] == split}
    found += cells([line for line in record.truth if line["split"] == split])
    found += against_colour_table(summary)
    found += against_the_rest(summary)
    found += detail_in_place(summary.get(NETWORK, {}))
    found += like_training([line for line in record.trust if line["split"] == split], split)
    number = len(record.slides_of(split))
    return [*found, Answer(f"Measured on {number} {SHORT[split]} slide{'s' * (number != 1)}", _on(split, record))]


def _on(split: str, record: Record) -> str:
    patches = next((x["patches"] for x in record.summary if (x["split"], x["row"]) == (split, NETWORK)), None)
    counted = f" of {patches} patches" if patches else " of slides"
    return f"{ON[split]}; medians{counted}"


def cells(truth: Iterable[Mapping[str, str]]) -> Iterator[Answer]:
    """Whether lacunae show.

    Args:
        truth: lines of ``truth.csv`` of one split.
    """
    lines = {row: [line for line in truth if line["row"] == row] for row in (NETWORK, SECTION)}
    above, recall, chance = (
        _median(lines[NETWORK], f"lacunae_{name}") for name in ("above_chance", "recall", "chance")
    )
    if above is None or recall is None or chance is None:
        return
    section = _median(lines[SECTION], "lacunae_above_chance")
    numbers = f"recall {recall:.2f} where chance gives {chance:.2f}"
    best = _median(lines[SECTION], "lacunae_recall")
    if best is not None and above >= NO_CELLS:
        numbers += f"; the real section itself has {best:.2f}"
    if above < NO_CELLS:
        yield Answer("No cells found", numbers, "bad")
    elif section is None:
        yield Answer("Some cells found", numbers)
    elif above < FEW_CELLS * section:
        yield Answer("Few cells found", numbers, "bad")
    else:
        yield Answer("Cells found", numbers, "good")


def against_colour_table(summary: Mapping[str, Mapping[str, str]]) -> Iterator[Answer]:
    """Whether the network is worth having: a table from grey to colour needs none.

    Args:
        summary: lines of ``summary.csv`` of one split, by row.
    """
    told: dict[bool, list[str]] = {True: [], False: []}
    for metric, clearly in CLEARLY.items():
        network, table = (_number(summary.get(row, {}), f"{metric}_median") for row in (NETWORK, COLOUR_TABLE))
        if network is None or table is None:
            continue
        beats = merit(metric, network) - merit(metric, table) > clearly
        unit = " dB" if metric == "psnr" else ""
        network_told, table_told = (_signed(value, DIGITS[metric]) for value in (network, table))
        lower = ", lower is better" if metric in LOWER else ""
        told[beats].append(f"{name_of(metric)} {network_told} against {table_told}{unit}{lower}")
    if told[True] and not told[False]:
        yield Answer("It beats the colour table, which needs no network", "; ".join(told[True]), "good")
    elif told[False] and not told[True]:
        yield Answer("It does not beat the colour table, which needs no network", "; ".join(told[False]), "bad")
    elif told[True]:
        numbers = f"{'; '.join(told[True])}. Not clearly in {'; '.join(told[False])}"
        yield Answer("It beats the colour table, which needs no network, in part", numbers)


def against_the_rest(summary: Mapping[str, Mapping[str, str]]) -> Iterator[Answer]:
    """What of the other rows without a network does better than it: even one colour can, after a few steps.

    Args:
        summary: as of :func:`against_colour_table`.
    """
    better: dict[str, list[str]] = {}
    for metric in CLEARLY:
        network = _number(summary.get(NETWORK, {}), f"{metric}_median")
        for row in ROWS[2:]:
            other = _number(summary.get(row, {}), f"{metric}_median")
            if network is not None and other is not None and merit(metric, other) > merit(metric, network):
                told, own = (_signed(value, DIGITS[metric]) for value in (other, network))
                better.setdefault(row, []).append(f"{name_of(metric)} {told} against {own}")
    if better:
        numbers = "; ".join(f"{row} in {', '.join(metrics)}" for row, metrics in better.items())
        yield Answer("Rows that need no network do better", numbers, "bad")


def detail_in_place(line: Mapping[str, str]) -> Iterator[Answer]:
    """Whether fine structure is there, and where the section has it.

    Args:
        line: the network's of ``summary.csv``.
    """
    detail, gradient = (_number(line, f"{metric}_median") for metric in ("detail", "gradient_correlation"))
    if detail is None or gradient is None:
        return
    product = min(detail, 1 / detail if detail > 0 else 0.0) * gradient
    numbers = f"{detail:.2f} of the section’s detail, gradient correlation {_signed(gradient, 2)} (1 is perfect)"
    if product >= IN_PLACE:
        yield Answer("Detail is in place", numbers, "good")
    elif product >= OUT_OF_PLACE:
        yield Answer("Detail is only partly in place", numbers)
    elif detail < MUSH:
        yield Answer("Detail is missing, the stain is a blurred picture", numbers, "bad")
    else:
        yield Answer("Detail is there but not in place", numbers, "bad")


def like_training(trust: Iterable[Mapping[str, Any]], split: str) -> Iterator[Answer]:
    """Whether the sources that were stained look like what the network learnt from.

    Args:
        trust: lines of ``trust.csv`` of that split.
        split: of :data:`SHORT`.
    """
    words = list({line["slide"]: line["verdict"] for line in trust}.values())
    if not words or not {*words} & {LIKE, DOUBTFUL, UNLIKE}:
        return
    kind = f"{SHORT[split]} slide{'s' * (len(words) != 1)}"
    wrong = [f"{words.count(word)} {word}" for word in (UNLIKE, DOUBTFUL) if word in words]
    if wrong:
        told = f"of {len(words)} {kind} {' and '.join(wrong)}; the stain may be wrong there"
        yield Answer("Not all slides are like the training data", told, "bad")
    elif {*words} == {LIKE}:
        many = f"all {len(words)}" if len(words) > 1 else "the"
        yield Answer("The slides are like the training data", f"{many} {kind}", "good")


def _indices(labelling: Iterable[Mapping[str, Any]]) -> Iterator[Answer]:
    """Of images that are no pairs: whether real and virtual stain have the same labelling index."""
    lines = {line["split"]: line for line in labelling}
    for line in (lines[split] for split in SHOWN_SPLITS if split in lines):
        difference, low, high = (line.get(f"index_difference{end}") for end in ("", "_low", "_high"))
        if difference is None or not all(
            map(is_number, (difference, line.get("index_real"), line.get("index_virtual")))
        ):
            continue
        numbers = f"real {line['index_real']:.1f} %, virtual {line['index_virtual']:.1f} % ({line['split']})"
        if low is None or high is None or not is_number(low + high):
            yield Answer("Labelling index", numbers)
            return
        numbers += f"; difference {_signed(difference, 1)}, 95 % interval {_signed(low, 1)} to {_signed(high, 1)}"
        if low <= 0 <= high:
            yield Answer("The labelling indices of real and virtual stain are not told apart", numbers)
        else:
            yield Answer("The virtual stain has another labelling index than the real one", numbers, "bad")
        return
    yield Answer(NO_PAIRS, "the images are no pairs, so figures compare whole images and regions only")


def _trained(record: Record) -> Iterator[Answer]:
    """Pairs and steps of the training."""
    trained_on = record.metadata.get("trained_on", {})
    pairs, images = trained_on.get("pairs"), trained_on.get("images")
    seen = f"{pairs} pair{'s' * (pairs != 1)}" if isinstance(pairs, int) else images
    steps = max((int(curve[0, -1]) for curve in record.losses.values()), default=0)
    count = f"{steps:,} step{'s' * (steps != 1)}" if steps else ""
    if seen:
        yield Answer(f"Trained on {seen}", count)
    elif count:
        yield Answer(f"Trained for {count}")
    if record.training.get("complete") is False:
        yield Answer("The training was stopped before its end", "its command with --resume true goes on", "bad")


def _median(lines: Iterable[Mapping[str, str]], name: str) -> float | None:
    values = [value for value in values_of(lines, name) if is_number(value)]  # type: ignore[arg-type]
    return float(np.median(values)) if values else None


def _number(line: Mapping[str, str], name: str) -> float | None:
    text = line.get(name)
    number = None if text in (None, "", NOT) else float(text)  # type: ignore[arg-type]
    return number if is_number(number) else None


def _signed(value: float, digits: int) -> str:
    return f"{value:.{digits}f}".replace("-", "−")
