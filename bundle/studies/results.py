"""What the finished cells of a study measured: medians or means, curves, and where a gain is half lost."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from bundle.common.run_folder import read_record
from bundle.data.datalist import DATALIST
from bundle.evaluation import truth
from bundle.evaluation.tables import COLUMNS, CYCLES, HASHES, HEADINGS, INDICES, METRICS, NOT, ROWS, TRUTHS, merit
from bundle.report.records import SHOWN_SPLITS

BASELINES = ROWS[1:]
COLOUR_TABLE = BASELINES[0]
Line = Mapping[str, Any]


@dataclass
class Results:
    """What the finished cells of a study measured.

    Attributes:
        plan: ``study.json``.
        done: by cell, ``done.json``.
        scores: by (split, image), by cell, by metric: the values of patches or, unpaired, of images and tiles; of an
            index the one of all regions. Images are variants and, named by
            :func:`baseline`, the rows without a network.
        intervals: by (split, image), by cell, by metric: lower and upper end, where the cell itself has one.
        truths: by (split, image), by measure: the slides' values.
        caveat: what every report on this dataset repeats; empty if there is nothing to say.
    """

    plan: dict[str, Any]
    done: dict[str, dict[str, Any]] = field(default_factory=dict)
    scores: dict[tuple[str, str], dict[str, dict[str, list[float]]]] = field(default_factory=dict)
    intervals: dict[tuple[str, str], dict[str, dict[str, tuple[float, float]]]] = field(default_factory=dict)
    truths: dict[tuple[str, str], dict[str, list[float]]] = field(default_factory=dict)
    caveat: str = ""

    @property
    def variants(self) -> dict[str, str]:
        """Those with a finished cell, in the order of the plan, and the datalist of each."""
        datalists = {done["variant"]: done["datalist"] for done in self.done.values()}
        return {variant: datalists[variant] for variant in self.plan["variants"] if variant in datalists}

    @property
    def metrics(self) -> list[str]:
        """What its cells measured: those of an evaluation against pairs always, others where there is a value."""
        found = {metric for cells in self.scores.values() for cell in cells.values() for metric in cell}
        wanted = found if found & {*CYCLES, *HASHES, *INDICES} else {*METRICS, *found}
        return [metric for metric in HEADINGS if metric in wanted]

    @property
    def tables(self) -> dict[str, list[str]]:
        """The images of each table of the plan: its variants, then what they must beat.

        Of another datalist than ``datalist.json``, that is the colour table alone.
        """
        members: dict[str, list[str]] = {}
        rest = "other variants" if any(shown["tables"] for shown in self.plan["variants"].values()) else ""
        for variant in self.variants:
            for heading in self.plan["variants"][variant]["tables"] or [rest]:
                members.setdefault(heading, []).append(variant)
        for images in members.values():
            for datalist in dict.fromkeys(self.variants[variant] for variant in images):
                rows = BASELINES if datalist == DATALIST else (COLOUR_TABLE,)
                images += [baseline(row, datalist) for row in rows]
        return members

    def cells_of(self, variant: str) -> set[tuple[Any, Any]]:
        """Fold and seed of its finished cells."""
        return {(done["fold"], done["seed"]) for done in self.done.values() if done["variant"] == variant}


def baseline(row: str, datalist: str) -> str:
    """What a row without a network is called: with the datalist, if it is not ``datalist.json``."""
    version = Path(datalist).stem.removeprefix(Path(DATALIST).stem).strip("_-")
    return f"{row}, {version}" if version else row


def read_results(folder: Path) -> Results:
    """Read the finished cells of a study.

    What needs no network is the same in every variant, so it is taken once for each datalist and fold.
    """
    results = Results(read_record(folder / "study.json"))
    seen: dict[tuple[str, Any], str] = {}  # the cell whose rows without a network count
    for name in results.plan["cells"]:
        path = folder / "cells" / name
        if not (path / "done.json").is_file():
            continue
        done = results.done[name] = read_record(path / "done.json")
        origin = read_record(path / "evaluation" / "provenance.json")
        results.caveat = results.caveat or origin["caveat"]
        if (path / "evaluation" / "reconstruction.csv").is_file():
            _add_unpaired(results, name, path / "evaluation")
            continue
        for file in ("patches", "truth"):
            for line in _read(path / "evaluation" / f"{file}.csv"):
                if line["row"] == ROWS[0]:
                    image = done["variant"]
                elif seen.setdefault((done["datalist"], done["fold"]), name) == name:
                    image = baseline(line["row"], done["datalist"])
                else:
                    continue
                scores = results.scores.setdefault((line["split"], image), {}).setdefault(name, {})
                _add(scores, line, METRICS if file == "patches" else TRUTHS)
                if file == "truth":
                    _add(results.truths.setdefault((line["split"], image), {}), line, truth.MEASURES)
    return results


def _add_unpaired(results: Results, name: str, folder: Path) -> None:
    """Add what an unpaired evaluation of a cell measured."""
    variant = results.done[name]["variant"]
    of = lambda split: results.scores.setdefault((split, variant), {}).setdefault(name, {})
    for line in _read(folder / "reconstruction.csv"):
        side = line["side"]
        _add(of(line["split"]), {f"{side}_{measure}": value for measure, value in line.items()}, CYCLES)
    if (folder / "hash.csv").is_file():
        for line in _read(folder / "hash.csv"):
            _add(of(line["split"]), line, HASHES)
    for counted in read_record(folder / "summary.json")["labelling"]:
        for index in INDICES:
            if counted[index] is not None:
                of(counted["split"])[index] = [counted[index]]
                ends = counted[f"{index}_low"], counted[f"{index}_high"]
                if None not in ends:
                    results.intervals.setdefault((counted["split"], variant), {}).setdefault(name, {})[index] = ends


def _read(path: Path) -> Iterator[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        yield from csv.DictReader(file)


def _add(values: dict[str, list[float]], line: dict[str, str], names: Sequence[str]) -> None:
    for name in names:
        if line.get(name, NOT) != NOT:
            values.setdefault(name, []).append(float(line[name]))


def centre_of(metric: str) -> str:
    """What a table gives of many values: the median of patches or slides, the mean of the others, as their papers."""
    return "median" if metric in COLUMNS else "mean"


def centre(metric: str, values: Sequence[float]) -> float:
    """That of some values."""
    return float(np.median(values) if metric in COLUMNS else np.mean(values))


def summary(results: Results, images: Sequence[str]) -> list[dict[str, Any]]:
    """A line for each split and image: the centre of all values, the lowest and highest centre of a cell."""
    lines = []
    for split in SHOWN_SPLITS:
        for image in images:
            cells = results.scores.get((split, image), {})
            if not cells:
                continue
            minutes = [results.done[name]["training"] for name in cells] if image in results.variants else []
            line: dict[str, Any] = {"split": split, "image": image, "cells": len(cells)}
            line["minutes"] = float(np.median(minutes)) if minutes else None
            for metric in results.metrics:
                values = [cell[metric] for cell in cells.values() if metric in cell]
                centres = [centre(metric, value) for value in values]
                pooled = np.concatenate(values) if values else np.empty(0)
                line[f"{metric}_{centre_of(metric)}"] = centre(metric, pooled.tolist()) if values else None
                line |= {f"{metric}_low": min(centres, default=None), f"{metric}_high": max(centres, default=None)}
                if metric in HASHES:
                    line[f"{metric}_sd"] = float(pooled.std(ddof=1)) if len(pooled) > 1 else None
                own = [each[metric] for each in results.intervals.get((split, image), {}).values() if metric in each]
                if len(cells) == 1 and own:
                    line |= dict(zip((f"{metric}_low", f"{metric}_high"), own[0], strict=True))
            lines.append(line)
    return lines


def curves(results: Results, axis: str, metric: str) -> dict[str, dict[float, float]]:
    """How a metric changes along an axis of the plan.

    Every point of a curve is the median over the patches of the same folds and seeds: those that all its points have.

    Args:
        results: of the study.
        axis: as named in the plan.
        metric: of ``results.metrics``.

    Returns:
        By curve, the median at each x, ascending; the colour table last, if what it is learnt from changes along
        the axis.
    """
    points: dict[str, dict[float, str]] = {}
    for variant in results.variants:
        for told in results.plan["variants"][variant]["curves"]:
            if told["axis"] == axis:
                points.setdefault(told["curve"], {})[told["x"]] = variant
    split = next((split for split in SHOWN_SPLITS if any(place == split for place, _ in results.scores)), "")
    made: dict[str, dict[float, float]] = {}
    table: dict[float, float] = {}
    for curve, variants in points.items():
        common = set.intersection(*(results.cells_of(variant) for variant in variants.values()))
        for x, variant in sorted(variants.items()):
            value = _median(results, split, variant, metric, common)
            if value is not None:
                made.setdefault(curve, {})[x] = value
            below = _median(results, split, baseline(COLOUR_TABLE, results.variants[variant]), metric, common)
            if below is not None:
                table[x] = below
    changes = {results.variants[variant] for variants in points.values() for variant in variants.values()}
    return {**made, COLOUR_TABLE: dict(sorted(table.items()))} if table and len(changes) > 1 else made


def _median(results: Results, split: str, image: str, metric: str, common: set[tuple[Any, Any]]) -> float | None:
    """Of the patches of the cells with these folds and seeds; the seed means nothing where no network is."""
    folds = {fold for fold, _ in common}
    values = [
        cell.get(metric, [])
        for name, cell in results.scores.get((split, image), {}).items()
        if (results.done[name]["fold"], results.done[name]["seed"]) in common
        or (image not in results.variants and results.done[name]["fold"] in folds)
    ]
    pooled = [value for part in values for value in part]
    return centre(metric, pooled) if pooled else None


def half_gain(curve: Mapping[float, float], table: Mapping[float, float], metric: str) -> tuple[float, str]:
    """Where a method has lost half of its gain over the colour table learnt from the same pairs.

    Args:
        curve: of the method, from x = 0.
        table: of the colour table, at the same x.
        metric: says what is better.

    Returns:
        The gain at 0, in :func:`bundle.evaluation.tables.merit`, and in words the x at which half of it is left,
        between two points by a straight line.
    """
    places = sorted(x for x in curve if x in table)
    gains = [merit(metric, curve[x]) - merit(metric, table[x]) for x in places]
    if gains[0] <= 0:
        return gains[0], "no gain to lose"
    for before, after, high, low in zip(places, places[1:], gains, gains[1:], strict=False):
        if low < gains[0] / 2:
            return gains[0], f"{before + (after - before) * (high - gains[0] / 2) / (high - low):.0f}"
    return gains[0], f"more than {places[-1]:g}"
