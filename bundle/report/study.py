"""The tables, charts and page of a study (Irvine et al. Table 1, Figs. 6 and 7)."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

import numpy as np

from bundle import truth
from bundle.atomic import whole_file
from bundle.image_io import read_slide
from bundle.report.page import RESEARCH, chart, definitions, grid, missing, reduced, section, sheet, table
from bundle.report.plots import box_plot
from bundle.report.records import SHOWN_SPLITS
from bundle.tables import DIGITS, HEADINGS, METRICS, ROWS, write_csv

BASELINES = ROWS[1:]
CAPTION = (
    "Median over the patches of all cells [lowest, highest median of a cell]; the best of each split is bold. A cell "
    "is one training: a variant on a fold with a seed."
)
COLUMNS = ("split", "image", "cells", *(f"{metric}_{part}" for metric in METRICS for part in ("median", "low", "high")))


@dataclass(frozen=True)
class Results:
    """What the finished cells of a study measured.

    Attributes:
        plan: ``study.json``.
        done: by cell, ``done.json``.
        scores: by (split, image), by cell, by metric: the patches' values. Images are variants and baselines.
        truths: by (split, image), by measure: the slides' values.
    """

    plan: dict[str, Any]
    done: dict[str, dict[str, Any]]
    scores: dict[tuple[str, str], dict[str, dict[str, list[float]]]]
    truths: dict[tuple[str, str], dict[str, list[float]]]

    @property
    def images(self) -> list[str]:
        """Variants in the order of the plan, then the rows without a network."""
        variants = dict.fromkeys(done["variant"] for done in self.done.values())
        return [*variants, *BASELINES]


def read_results(folder: Path) -> Results:
    """Read the finished cells of a study.

    A baseline is the same in every variant, so it is taken once for each fold and seed.
    """
    plan = json.loads((folder / "study.json").read_text(encoding="utf-8"))
    done: dict[str, dict[str, Any]] = {}
    scores: dict[tuple[str, str], dict[str, dict[str, list[float]]]] = {}
    truths: dict[tuple[str, str], dict[str, list[float]]] = {}
    seen: set[tuple[Any, Any]] = set()
    for name in plan["cells"]:
        path = folder / "cells" / name
        if not (path / "done.json").is_file():
            continue
        done[name] = json.loads((path / "done.json").read_text(encoding="utf-8"))
        first = (done[name]["fold"], done[name]["seed"]) not in seen
        seen.add((done[name]["fold"], done[name]["seed"]))
        for line in _read(path / "evaluation" / "patches.csv"):
            image = done[name]["variant"] if line["row"] == ROWS[0] else line["row"]
            if image in BASELINES and not first:
                continue
            cell = scores.setdefault((line["split"], image), {}).setdefault(name, {})
            for metric in METRICS:
                if line[metric] != "not computed":
                    cell.setdefault(metric, []).append(float(line[metric]))
        for line in _read(path / "evaluation" / "truth.csv"):
            image = done[name]["variant"] if line["row"] == ROWS[0] else line["row"]
            if image != done[name]["variant"] and not first:
                continue
            slide = truths.setdefault((line["split"], image), {})
            for measure in truth.MEASURES:
                if line.get(measure, "not computed") != "not computed":
                    slide.setdefault(measure, []).append(float(line[measure]))
    return Results(plan, done, scores, truths)


def _read(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def summary(results: Results) -> list[dict[str, Any]]:
    """A line for each split and image: the median of all patches, the lowest and highest median of a cell."""
    lines = []
    for split in SHOWN_SPLITS:
        for image in results.images:
            cells = results.scores.get((split, image), {})
            if not cells:
                continue
            line: dict[str, Any] = {"split": split, "image": image, "cells": len(cells)}
            for metric in METRICS:
                values = [cell[metric] for cell in cells.values() if metric in cell]
                medians = [float(np.median(value)) for value in values]
                pooled = float(np.median(np.concatenate(values))) if values else None
                line |= {f"{metric}_median": pooled}
                line |= {f"{metric}_low": min(medians, default=None), f"{metric}_high": max(medians, default=None)}
            lines.append(line)
    return lines


def best_of(lines: Sequence[Mapping[str, Any]], split: str, metric: str) -> float | None:
    """The best median of a split."""
    medians = [line[f"{metric}_median"] for line in lines if line["split"] == split]
    known = [value for value in medians if value is not None]
    return None if not known else min(known) if metric == "lpips" else max(known)


def cells_of(lines: Sequence[Mapping[str, Any]], line: Mapping[str, Any], bold: tuple[str, str]) -> list[str]:
    """The figures of one line, the best between the two marks of ``bold``."""
    texts = []
    for metric in METRICS:
        values = [line[f"{metric}_{part}"] for part in ("median", "low", "high")]
        if values[0] is None:
            texts.append("not computed")
            continue
        median, low, high = (f"{value:.{DIGITS[metric]}f}" for value in values)
        if values[0] == best_of(lines, line["split"], metric):
            median = bold[0] + median + bold[1]
        texts.append(f"{median} [{low}, {high}]" if line["cells"] > 1 else median)
    return texts


def markdown(lines: Sequence[Mapping[str, Any]]) -> list[str]:
    """The table as Markdown."""
    text = ["| split | image | cells | " + " | ".join(HEADINGS[metric] for metric in METRICS) + " |"]
    text.append("|---" * (3 + len(METRICS)) + "|")
    for line in lines:
        words = [line["split"], line["image"], str(line["cells"]), *cells_of(lines, line, ("**", "**"))]
        text.append(f"| {' | '.join(words)} |")
    return text


def latex(lines: Sequence[Mapping[str, Any]]) -> list[str]:
    """The table as LaTeX, for the package ``booktabs``."""
    heads = [HEADINGS[metric].replace("↑", r"$\uparrow$").replace("↓", r"$\downarrow$") for metric in METRICS]
    text = [r"\begin{tabular}{ll" + "r" * len(METRICS) + "}", r"\toprule"]
    text += ["split & image & " + " & ".join(heads) + r" \\"]
    for split in dict.fromkeys(line["split"] for line in lines):
        text.append(r"\midrule")
        for line in (line for line in lines if line["split"] == split):
            image = line["image"].replace("_", r"\_")
            text.append(" & ".join([split, image, *cells_of(lines, line, (r"\textbf{", "}"))]) + r" \\")
    return [*text, r"\bottomrule", r"\end{tabular}"]


def write_study(folder: str | Path) -> Path:
    """Write ``table.csv``, ``table.md``, ``table.tex`` and ``report.html`` from the cells that are done.

    Args:
        folder: a study.

    Returns:
        The page.
    """
    folder = Path(folder)
    results = read_results(folder)
    lines = summary(results)
    write_csv(folder / "table.csv", COLUMNS, lines)
    for name, text in (("table.md", markdown(lines)), ("table.tex", latex(lines))):
        with whole_file(folder / name) as partial:
            partial.write_text("\n".join(text) + "\n", encoding="utf-8")
    page = folder / "report.html"
    with whole_file(page) as partial:
        partial.write_text(sheet("Virtual staining: a comparison", _body(folder, results, lines)), encoding="utf-8")
    return page


def _body(folder: Path, results: Results, lines: list[dict[str, Any]]) -> Iterable[str]:
    plan = results.plan
    yield "<header><h1>Virtual staining: a comparison</h1>"
    yield f'<p class="about">{len(results.done)} of {len(plan["cells"])} trainings are done.</p>'
    yield f'<p class="research">{RESEARCH}</p></header>'
    groups = []
    for split in dict.fromkeys(line["split"] for line in lines):
        chosen = [line for line in lines if line["split"] == split]
        rows = [[escape(x["image"]), *map(_small, cells_of(lines, x, ("<b>", "</b>")))] for x in chosen]
        groups.append((split, rows))
    parts = [table(CAPTION, ["image", *(HEADINGS[metric] for metric in METRICS)], groups, 1)] if groups else []
    yield section("results", "How alike generated and real stain are", *parts, grid("charts", _boxes(results)))
    if results.truths:
        yield section("truth", "Is the stain right", _truth(results))
    yield section("pictures", "Pictures", *_pictures(folder, results))
    told = [("dataset", escape(plan["dataset_dir"]))]
    told += [
        (
            name,
            escape(
                f"{' + '.join(cell['overlays']) or 'train.json'}; {json.dumps(cell['ids'])}; {_minutes(results, name)}"
            ),
        )
        for name, cell in plan["cells"].items()
    ]
    yield section("cells", "The trainings", definitions(told))


def _small(cell: str) -> str:
    """The spread of a figure in small print."""
    return cell.replace("[", "<small>[").replace("]", "]</small>")


def _minutes(results: Results, name: str) -> str:
    done = results.done.get(name)
    return f"{done['training']:.1f} min of training" if done else "not done"


def _boxes(results: Results) -> Iterable[str]:
    for metric in METRICS:
        values: dict[str, dict[str, np.ndarray]] = {}
        for split in SHOWN_SPLITS:
            for image in results.images:
                cells = results.scores.get((split, image), {})
                pooled = [value for cell in cells.values() for value in cell.get(metric, []) if np.isfinite(value)]
                if pooled:
                    values.setdefault(split, {})[image] = np.array(pooled)
        if values:
            caption = "Patches of all cells. Boxes: quartiles and median. Whiskers: 5th to 95th percentile."
            yield chart(box_plot(values, HEADINGS[metric], f"box-{metric}"), caption)
        else:
            yield missing(f"{HEADINGS[metric]}: not computed.")


def _truth(results: Results) -> str:
    known = [name for name in truth.MEASURES if any(name in values for values in results.truths.values())]
    groups = []
    for split in SHOWN_SPLITS:
        there = [image for place, image in results.truths if place == split]
        images = [image for image in results.images if image in there]
        images += [image for image in there if image not in images]
        rows = []
        for image in images:
            values = results.truths[(split, image)]
            told = {name: f"{np.median(found):.{truth.DIGITS.get(name, 2)}f}" for name, found in values.items()}
            rows.append([escape(image), *(told.get(name, "–") for name in known)])
        groups += [(split, rows)] if rows else []
    head = ["image", *(truth.HEADINGS[name] for name in known)]
    return table("Medians over the slides of all cells; docs/phantom.md defines the measures.", head, groups, 1)


def _pictures(folder: Path, results: Results) -> Iterable[str]:
    """Fig. 6: the first slide of testing and of validation, by every variant's first cell that has it."""
    for split in SHOWN_SPLITS[:2]:
        chosen: dict[str, Path] = {}
        for name, done in results.done.items():
            slides = sorted((folder / "cells" / name / "evaluation" / "slides").glob(f"{split}_*"))
            if slides and done["variant"] not in chosen:
                chosen[done["variant"]] = slides[0]
        if not chosen:
            yield missing(f"No {split} slide.")
            continue
        first = next(iter(chosen.values()))
        panels = [(f"{split}: {first.name}, source", first / "source.png"), ("real", first / "real.png")]
        panels += [(variant, path / "generated.png") for variant, path in chosen.items()]
        yield grid(
            "slides",
            (reduced(read_slide(path).pixels, title, title) for title, path in panels if path.is_file()),
        )
