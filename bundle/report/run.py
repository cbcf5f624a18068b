"""The report of a run: one HTML page that holds all of it and needs no network."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from PIL import Image

from bundle.common.atomic import whole_file
from bundle.common.charts import line_chart
from bundle.common.errors import InputError
from bundle.common.html import Chart, Picture, fill, reduced
from bundle.common.places import place
from bundle.data.datalist import DATALIST
from bundle.evaluation.tables import CYCLES, EXPLAINED, HEADINGS, shown
from bundle.images.slides import read_slide
from bundle.report.answer import answers
from bundle.report.measures import boxes, lines_of
from bundle.report.origin import date_in_words, measured, quoted, trained
from bundle.report.records import SHOWN_SPLITS, Record, read_record
from bundle.report.slides import REGION_PX, both_ways, slides
from bundle.report.trust import trusted
from bundle.report.truth import SPLIT_NAMES, judged
from bundle.report.unpaired import unpaired
from bundle.report.validation import validation
from bundle.staining import page
from bundle.staining.job import RECORD

SUM, DISCRIMINATORS = ("loss",), ("d_x", "d_y")  # tags that are no term

MOST_TEXT = 200  # characters of a picture's own text

NO_LOSSES = ("learning_rate", "polarity")


def write(output_dir: str | Path) -> Path:
    """Write ``output_dir/report.html`` from what lies in the folder; what is missing is said to be missing.

    The same folder gives the same page, so it can be made again at any time.

    Args:
        output_dir: a run's folder, or a folder that only an evaluation wrote to.

    Returns:
        The page.
    """
    record = read_record(output_dir)
    path = record.folder / "report.html"
    text = fill("report/templates/run.html", _values(record))
    with whole_file(path) as partial:
        partial.write_text(text, encoding="utf-8")
    return path


def tell(output_dir: str | Path) -> None:
    """Write the page of a run, say what it says first, and where it is; an evaluation ends with it."""
    page = write(output_dir)
    print("\n".join(["", *map(str, answers(read_record(output_dir))), "", str(page)]))


def remake(output_dir: str) -> str:
    """Make the report of a run, or of a stained page, again.

    Args:
        output_dir: the run's folder, or the volume's.

    Returns:
        The page.

    Raises:
        InputError: if the folder holds no run and no evaluation.
    """
    folder = place(str(output_dir))
    if (folder / RECORD).is_file():
        return str(page.remake(folder))
    if not any((folder / name).is_file() for name in ("provenance.json", "evaluation/provenance.json")):
        raise InputError(
            f"{folder} holds no run: it has no provenance.json, evaluation/ or {RECORD}; name a run's output_dir."
        )
    return str(write(folder))


def _values(record: Record) -> dict[str, Any]:
    """What the template names; a section that the record has nothing for gets nothing."""
    return {
        "record": record,
        "title": _title(record),
        "about": _about(record),
        "answers": answers(record),
        "description": record.evaluation.get("description") or record.training.get("description"),
        "trained": trained(record),
        "measured": measured(record),
        "unpaired": unpaired(record) if record.unpaired else None,
        "results": _results(record) if record.slides else None,
        "how_to_measure": _how_to_measure(record),
        "truth": judged(record) if record.truth else None,
        "trust": trusted(record) if record.trust and "expected_error" in record.evaluation else None,
        "training": _training(record),
        "slides": slides(record) if record.slides else None,
        "region_px": REGION_PX,
        "patches": both_ways(record) if record.slides else None,
    }


def _title(record: Record) -> str:
    if "target" in record.evaluation:
        return f"Virtual staining: {record.evaluation['target']} from {record.evaluation['source']}"
    return record.metadata.get("task", "Virtual staining")


def _about(record: Record) -> str:
    dataset = record.training.get("dataset_dir") or record.evaluation.get("dataset_dir")
    began = record.training.get("started") or record.evaluation.get("started")
    method = record.metadata.get("trained_on", {}).get("method", "method not recorded")
    about = [method, f"dataset {Path(dataset).name}" if dataset else "dataset not recorded"]
    about.append(
        f"{'training' if record.training else 'evaluation'} of {date_in_words(began)}" if began else "no date recorded"
    )
    return " · ".join(about)


def _results(record: Record) -> dict[str, Any]:
    splits = [split for split in SHOWN_SPLITS if record.slides_of(split)]
    columns = shown(record.summary)
    return {
        "others": ", ".join(splits[1:]),
        "lpips": None if "lpips" in columns[:1] else record.evaluation.get("lpips"),
        "ids": record.evaluation.get("ids", {}),
        "head": ["image", *(HEADINGS[metric] for metric in columns)],
        "groups": [(_group_heading(record, split), lines_of(record, split, columns)) for split in splits],
        "explained": [(HEADINGS[metric], EXPLAINED[metric]) for metric in columns],
        "charts": list(boxes(record, splits)),
    }


def _how_to_measure(record: Record) -> str:
    dataset = record.training.get("dataset_dir", "DATA")
    command = ["python", "-m", "monai.bundle", "run", "evaluation"]
    command += ["--config_file", _configs(record)]
    command += ["--dataset_dir", dataset, "--output_dir", str(record.folder)]
    for name, default in (("datalist", DATALIST), ("fold", None)):
        if record.config.get(name, default) not in (default, "null"):
            command += [f"--{name}", str(record.config[name])]
    line = " ".join(quoted(word) for word in command)
    return line if _is_unpaired(record) else f"{line}\n# add --eval_patch 128 if an image is smaller than 256 px"


def _is_unpaired(record: Record) -> bool:
    return record.config.get("paired") is False


def _configs(record: Record) -> str:
    """The files to evaluate with; an unpaired evaluation wants the method's, which says that it has no pairs."""
    if not _is_unpaired(record):
        return "['configs/train.json','configs/evaluate.json']"
    words = record.training.get("command", [])
    files = words[words.index("--config_file") + 1] if "--config_file" in words[:-1] else "configs/train.json"
    first, *others = [file.strip(" '\"") for file in files.strip("[] ").split(",")]
    return "[" + ",".join(f"'{file}'" for file in (first, "configs/evaluate_unpaired.json", *others)) + "]"


def _group_heading(record: Record, split: str) -> str:
    patches = {line["patches"] for line in record.summary if line["split"] == split}
    slides_of = len(record.slides_of(split))
    counted = f"{', '.join(sorted(patches))} patches" if patches else "no patch has enough of its pixels in the mask"
    return f"{SPLIT_NAMES[split]} ({slides_of} slide{'s' * (slides_of != 1)}, {counted})"


def terms_of(losses: Iterable[str]) -> list[str]:
    """The terms of the objective among what a run logged, in the order in which it began to: a user's own too."""
    others = (*SUM, *DISCRIMINATORS, *NO_LOSSES)
    return [tag for tag in losses if tag not in others and "/" not in tag]


def _training(record: Record) -> dict[str, Any]:
    terms = terms_of(record.losses)
    charted = {"weighted sum of the terms": SUM, "terms before weighting": terms, "discriminators": DISCRIMINATORS}
    charts = []
    for number, (heading, tags) in enumerate(charted.items()):
        curves = {tag: record.losses[tag] for tag in tags if tag in record.losses}
        if curves:
            charts.append(Chart(line_chart(curves, heading, f"loss-{number}"), f"{heading.capitalize()}."))
    return {
        "charts": charts,
        "steps": max((int(curve[0, -1]) for curve in record.losses.values()), default=0),
        "weights": [f"{tag} {record.config[f'lambda_{tag}']}" for tag in terms if f"lambda_{tag}" in record.config],
        "validation": list(validation(record)),
        "cycles": any(name in row for row in record.validation for name in CYCLES),
        "sample": _sample(record, record.sample) if record.sample else None,
    }


def _sample(record: Record, path: Path) -> Picture:
    epoch = f"epoch {int(path.stem.split('_')[1])} of {record.config.get('epochs', 'an unrecorded number')}"
    with Image.open(path) as picture:
        columns = str(picture.info.get("columns", ""))[:MOST_TEXT]  # which the picture itself shows too
    if not columns:  # of an earlier version
        columns = (
            "source, generated stain, source given back; real stain, generated source, stain given back"
            if _is_unpaired(record)
            else "source, generated stain, mask, real stain, and generated source where the method makes it"
        )
    caption = f"Training patches after {epoch}, a row each: {columns}."
    return reduced(read_slide(path).pixels, "Training patches", caption)
