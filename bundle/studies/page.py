"""The page of a study, and its tables as files (Irvine et al. Table 1, Figs. 6 and 7)."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup

from bundle.common.atomic import whole_file
from bundle.common.charts import MOST_BOXES, box_plot, point_chart
from bundle.common.html import Chart, Picture, fill, reduced, small
from bundle.evaluation import truth
from bundle.evaluation.tables import DIGITS, HEADINGS, INDICES, name_of, write_csv
from bundle.images.slides import read_slide
from bundle.report.records import SHOWN_SPLITS
from bundle.report.unpaired import heat
from bundle.studies.results import COLOUR_TABLE, Line, Results, curves, half_gain, read_results, summary
from bundle.studies.tables import caption_of, cells_of, columns, latex, markdown, metrics_of

BOLD = Markup("<b>"), Markup("</b>")


def write_study(folder: str | Path) -> Path:
    """Write ``table.csv``, ``table.md``, ``table.tex`` and ``report.html`` from the cells that are done.

    Args:
        folder: a study.

    Returns:
        The page.
    """
    folder = Path(folder)
    results = read_results(folder)
    every = list(dict.fromkeys(image for images in results.tables.values() for image in images))
    write_csv(folder / "table.csv", columns(results.metrics), summary(results, every))
    tables = {heading: summary(results, images) for heading, images in results.tables.items()}
    for name, text in (("table.md", markdown(tables, results.caveat)), ("table.tex", latex(tables, results.caveat))):
        with whole_file(folder / name) as partial:
            partial.write_text("\n".join(text) + "\n", encoding="utf-8")
    page = folder / "report.html"
    with whole_file(page) as partial:
        partial.write_text(fill("studies/templates/study.html", _values(folder, results, tables)), encoding="utf-8")
    return page


def _values(folder: Path, results: Results, tables: Mapping[str, Sequence[Line]]) -> dict[str, Any]:
    """What the template names."""
    plan = results.plan
    axes = dict.fromkeys(point["axis"] for shown in plan["variants"].values() for point in shown["curves"])
    curves = [(axis, list(_curves(results, axis, number))) for number, axis in enumerate(axes)]
    told = [
        (name, f"{' + '.join(cell['overlays']) or 'train.json'}; {json.dumps(cell['ids'])}; {_minutes(results, name)}")
        for name, cell in plan["cells"].items()
    ]
    return {
        "title": "Virtual staining: a comparison",
        "results": results,
        "tables": [_table(folder, results, *each, number) for number, each in enumerate(tables.items())],
        "axes": [
            {"heading": f"By {axis}", "name": axis, "charts": charts, "halves": _halves(results, axis)}
            for axis, charts in curves
            if charts
        ],
        "trainings": [("dataset", plan["dataset_dir"]), *told],
    }


def _table(folder: Path, results: Results, heading: str, lines: Sequence[Line], number: int) -> dict[str, Any]:
    images = results.tables[heading]
    return {
        "heading": heading[:1].upper() + heading[1:] or "Results",
        "figures": _figures(lines),
        "charts": list(_boxes(results, images, number)),
        "truth": _truth(results, images),
        "pictures": [*_pictures(folder, results, images), *_cycles(folder, results, images)],
    }


def _figures(lines: Sequence[Line]) -> dict[str, Any]:
    groups = []
    metrics = metrics_of(lines)
    for split in dict.fromkeys(line["split"] for line in lines):
        chosen = [line for line in lines if line["split"] == split]
        groups.append((split, [[x["image"], *map(small, cells_of(lines, x, metrics, BOLD))] for x in chosen]))
    head = ["image", "minutes", *(HEADINGS[metric] for metric in metrics)]
    return {"caption": caption_of(metrics), "head": head, "groups": groups}


def _minutes(results: Results, name: str) -> str:
    done = results.done.get(name)
    return f"{done['training']:.1f} min of training" if done else "not done"


def _boxes(results: Results, images: Sequence[str], number: int) -> Iterable[Chart]:
    """Fig. 7; nothing where there would be too many boxes to tell apart."""
    if len(images) > MOST_BOXES:
        return
    for metric in (name for name in results.metrics if name not in INDICES):
        values: dict[str, dict[str, np.ndarray]] = {}
        for split in SHOWN_SPLITS:
            for image in images:
                cells = results.scores.get((split, image), {})
                pooled = [value for cell in cells.values() for value in cell.get(metric, []) if np.isfinite(value)]
                if pooled:
                    values.setdefault(split, {})[image] = np.array(pooled)
        if values:
            caption = "Patches, or images, of all cells. Boxes: quartiles and median. Whiskers: 5th to 95th percentile."
            yield Chart(box_plot(values, HEADINGS[metric], f"box-{metric}-{number}"), caption)
        else:
            yield Chart(None, f"{HEADINGS[metric]}: not computed.")


def _truth(results: Results, images: Sequence[str]) -> dict[str, Any]:
    """The measures of truth, in the order of the images; the section itself and the perfect stain last."""
    chosen = {place: values for place, values in results.truths.items() if place[1] in {*images, *truth.JUDGED_TOO}}
    known = [name for name in truth.MEASURES if any(name in values for values in chosen.values())]
    groups = []
    for split in SHOWN_SPLITS:
        rows = []
        for image in (*images, *truth.JUDGED_TOO):
            values = chosen.get((split, image), {})
            told = {name: f"{np.median(found):.{truth.DIGITS.get(name, 2)}f}" for name, found in values.items()}
            if told:
                rows.append([image, *(told.get(name, "–") for name in known)])
        groups += [(split, rows)] if rows else []
    return {"head": ["image", *(truth.HEADINGS[name] for name in known)], "groups": groups}


def _pictures(folder: Path, results: Results, images: Sequence[str]) -> Iterable[list[Picture]]:
    """Fig. 6: the first slide of testing and of validation, by every variant's first cell that has it."""
    for split in SHOWN_SPLITS[:2]:
        chosen: dict[str, Path] = {}
        for name, done in results.done.items():
            slides = sorted((folder / "cells" / name / "evaluation" / "slides").glob(f"{split}_*"))
            if slides and done["variant"] in images:
                chosen.setdefault(done["variant"], slides[0])
        if not chosen:
            continue
        first = next(iter(chosen.values()))
        panels = [(f"{split}: {first.name}, source", first / "source.png"), ("real", first / "real.png")]
        panels += [(image, chosen[image] / "generated.png") for image in images if image in chosen]
        yield list(_shown(panels))


def _cycles(folder: Path, results: Results, images: Sequence[str]) -> Iterable[list[Picture]]:
    """Liu et al. Figs. 4 and 5: the first kept source image by every variant's first cell, and what comes back."""
    for split in SHOWN_SPLITS:
        chosen: dict[str, Path] = {}
        for name, done in results.done.items():
            kept = sorted((folder / "cells" / name / "evaluation" / "images").glob(f"{split}_source_*"))
            if kept and done["variant"] in images:
                chosen.setdefault(done["variant"], kept[0])
        if not chosen:
            continue
        first = next(iter(chosen.values()))
        panels = [(f"{split}: {first.name}", first / "image.png"), ("real, consecutive section", first / "real.png")]
        panels += [(f"{image}: virtual", chosen[image] / "translated.png") for image in images if image in chosen]
        yield list(_shown(panels))
        for image in (image for image in images if image in chosen):
            names = {"image": "image", "reconstruction": "given back", "residual": "residual"}
            yield list(_shown([(f"{image}: {word}", chosen[image] / f"{name}.png") for name, word in names.items()]))


def _shown(panels: Sequence[tuple[str, Path]]) -> Iterable[Picture]:
    for title, path in panels:
        if path.is_file():
            pixels = read_slide(path).pixels
            yield reduced(heat(pixels) if path.stem == "residual" else pixels, title, title)


def _curves(results: Results, axis: str, number: int) -> Iterable[Chart]:
    for metric in results.metrics:
        found = curves(results, axis, metric)
        if any(len(points) > 1 for points in found.values()):
            picture = point_chart(found, axis, HEADINGS[metric], f"curve-{metric}-{number}")
            yield Chart(picture, "Medians over the patches of the folds and seeds that every point of a curve has.")


def _halves(results: Results, axis: str) -> dict[str, Any]:
    """Where each method has lost half its gain, along an axis that begins at no spoiling at all."""
    rows: dict[str, dict[str, str]] = {}
    metrics = [metric for metric in results.metrics if metric not in INDICES]
    for metric in metrics:
        found = curves(results, axis, metric)
        reference = found.pop(COLOUR_TABLE, {})
        for name, points in found.items():
            if 0 in points and 0 in reference and len(points) > 1:
                gain, where = half_gain(points, reference, metric)
                told = small(f"{where} (gain at 0: {gain:.{DIGITS[metric]}f})", r"\(gain.*\)")
                rows.setdefault(name, {})[metric] = told
    lines = [[name, *(told.get(metric, "not computed") for metric in metrics)] for name, told in rows.items()]
    return {"head": ["method", *(name_of(metric) for metric in metrics)], "lines": lines}
