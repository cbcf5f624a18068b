"""The page of a study, and its tables as files (Irvine et al. Table 1, Figs. 6 and 7)."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from pathlib import Path

import numpy as np

from bundle.common.atomic import whole_file
from bundle.common.charts import MOST_BOXES, box_plot, point_chart
from bundle.common.html import RESEARCH, chart, definitions, grid, missing, reduced, section, sheet, table
from bundle.evaluation import truth
from bundle.evaluation.tables import DIGITS, HEADINGS, INDICES, name_of, write_csv
from bundle.images.slides import read_slide
from bundle.report.records import SHOWN_SPLITS
from bundle.report.unpaired import heat
from bundle.studies.results import COLOUR_TABLE, Line, Results, curves, half_gain, read_results, summary
from bundle.studies.tables import caption_of, cells_of, columns, latex, markdown, metrics_of

TITLE = "Virtual staining: a comparison"


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
        partial.write_text(sheet(TITLE, _body(folder, results, tables)), encoding="utf-8")
    return page


def _body(folder: Path, results: Results, tables: Mapping[str, Sequence[Line]]) -> Iterable[str]:
    plan = results.plan
    parts: list[tuple[str, list[str]]] = []
    for number, (heading, lines) in enumerate(tables.items()):
        images = results.tables[heading]
        figures = [_figures(lines), *_boxes(results, images, number), _truth(results, images)]
        parts.append(
            (heading or "results", [*figures, *_pictures(folder, results, images), *_cycles(folder, results, images)])
        )
    axes = dict.fromkeys(point["axis"] for shown in plan["variants"].values() for point in shown["curves"])
    for number, axis in enumerate(axes):
        charts = list(_curves(results, axis, number))
        if charts:
            parts.append((f"by {axis}", [grid("charts", charts), _halves(results, axis)]))
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
    parts.append(("the trainings", [definitions(told)]))
    yield f"<header><h1>{TITLE}</h1>"
    yield f'<p class="about">{len(results.done)} of {len(plan["cells"])} trainings are done.</p>'
    yield f'<p class="research">{RESEARCH}</p>'
    if results.caveat:
        yield f'<p class="caveat" role="note">{escape(results.caveat)}</p>'
    links = [
        f'<li><a href="#part-{number}">{escape(_capital(name))}</a></li>' for number, (name, _) in enumerate(parts)
    ]
    yield f'<nav aria-label="Contents"><ul>{"".join(links)}</ul></nav></header>'
    for number, (name, texts) in enumerate(parts):
        yield section(f"part-{number}", _capital(name), *texts)


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _figures(lines: Sequence[Line]) -> str:
    groups = []
    metrics = metrics_of(lines)
    for split in dict.fromkeys(line["split"] for line in lines):
        chosen = [line for line in lines if line["split"] == split]
        rows = [[escape(x["image"]), *map(_small, cells_of(lines, x, metrics, ("<b>", "</b>")))] for x in chosen]
        groups.append((split, rows))
    head = ["image", "minutes", *(HEADINGS[metric] for metric in metrics)]
    return table(escape(caption_of(metrics)), head, groups, 1)


def _small(cell: str) -> str:
    """The spread of a figure in small print."""
    return cell.replace("[", "<small>[").replace("]", "]</small>")


def _minutes(results: Results, name: str) -> str:
    done = results.done.get(name)
    return f"{done['training']:.1f} min of training" if done else "not done"


def _boxes(results: Results, images: Sequence[str], number: int) -> Iterable[str]:
    """Fig. 7; nothing where there would be too many boxes to tell apart."""
    if len(images) > MOST_BOXES:
        return
    charts = []
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
            charts.append(chart(box_plot(values, HEADINGS[metric], f"box-{metric}-{number}"), caption))
        else:
            charts.append(missing(f"{HEADINGS[metric]}: not computed."))
    yield grid("charts", charts)


def _truth(results: Results, images: Sequence[str]) -> str:
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
                rows.append([escape(image), *(told.get(name, "–") for name in known)])
        groups += [(split, rows)] if rows else []
    if not groups:
        return ""
    head = ["image", *(truth.HEADINGS[name] for name in known)]
    caption = "Is the stain right: medians over the slides of all cells; docs/phantom.md defines the measures."
    return table(caption, head, groups, 1)


def _pictures(folder: Path, results: Results, images: Sequence[str]) -> Iterable[str]:
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
        yield grid(
            "slides",
            (reduced(read_slide(path).pixels, title, title) for title, path in panels if path.is_file()),
        )


def _cycles(folder: Path, results: Results, images: Sequence[str]) -> Iterable[str]:
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
        yield grid("slides", _shown(panels))
        for image in (image for image in images if image in chosen):
            names = {"image": "image", "reconstruction": "given back", "residual": "residual"}
            yield grid(
                "slides", _shown([(f"{image}: {word}", chosen[image] / f"{name}.png") for name, word in names.items()])
            )


def _shown(panels: Sequence[tuple[str, Path]]) -> Iterable[str]:
    for title, path in panels:
        if path.is_file():
            pixels = read_slide(path).pixels
            yield reduced(heat(pixels) if path.stem == "residual" else pixels, title, title)


def _curves(results: Results, axis: str, number: int) -> Iterable[str]:
    for metric in results.metrics:
        found = curves(results, axis, metric)
        if any(len(points) > 1 for points in found.values()):
            picture = point_chart(found, axis, HEADINGS[metric], f"curve-{metric}-{number}")
            yield chart(picture, "Medians over the patches of the folds and seeds that every point of a curve has.")


def _halves(results: Results, axis: str) -> str:
    """Where each method has lost half its gain, along an axis that begins at no spoiling at all."""
    rows: dict[str, dict[str, str]] = {}
    metrics = [metric for metric in results.metrics if metric not in INDICES]
    for metric in metrics:
        found = curves(results, axis, metric)
        reference = found.pop(COLOUR_TABLE, {})
        for name, points in found.items():
            if 0 in points and 0 in reference and len(points) > 1:
                gain, where = half_gain(points, reference, metric)
                told = f"{where} <small>(gain at 0: {gain:.{DIGITS[metric]}f})</small>"
                rows.setdefault(name, {})[metric] = told
    if not rows:
        return ""
    caption = f"Where half of the gain over the colour table of the same pairs is lost: {escape(axis)}."
    head = ["method", *(name_of(metric) for metric in metrics)]
    lines = [[escape(name), *(told.get(metric, "not computed") for metric in metrics)] for name, told in rows.items()]
    return table(caption, head, [("", lines)], 1)
