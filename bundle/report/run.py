"""The report of a run: one HTML page that holds all of it and needs no network."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape
from pathlib import Path

from bundle.common.atomic import whole_file
from bundle.common.charts import line_chart
from bundle.common.errors import InputError
from bundle.common.html import RESEARCH, chart, definitions, grid, missing, reduced, section, sheet, table
from bundle.data.datalist import DATALIST
from bundle.evaluation.tables import EXPLAINED, HEADINGS, shown
from bundle.images.slides import read_slide
from bundle.report.measures import CAPTION, boxes, lines_of
from bundle.report.origin import date_in_words, measured, provenance, quoted
from bundle.report.records import SHOWN_SPLITS, Record, read_record
from bundle.report.slides import both_ways, slides
from bundle.report.truth import SPLIT_NAMES, _truth
from bundle.report.unpaired import images, unpaired
from bundle.report.validation import validation
from bundle.staining import page
from bundle.staining.job import RECORD

ROWS_EXPLAINED = (
    "“Network” is what was trained. The other rows need no network: a colour table (each grey value becomes the mean "
    "colour it has in the training pairs), one mean colour, the negative of the slice, and the slice itself. A network "
    "that does not beat them has learnt nothing worth having."
)

SUM, DISCRIMINATORS = ("loss",), ("d_x", "d_y")  # tags that are no term

NO_LOSSES = ("learning_rate", "polarity")

UNPAIRED_COLUMNS = "source, generated stain, source given back; real stain, generated source, stain given back"


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
    text = sheet(_title(record), _body(record))
    with whole_file(path) as partial:
        partial.write_text(text, encoding="utf-8")
    return path


def tell(output_dir: str | Path) -> None:
    """Write the page of a run and print where it is; an evaluation ends with it."""
    print(write(output_dir))


def remake(output_dir: str) -> str:
    """Make the report of a run, or of a stained page, again.

    Args:
        output_dir: the run's folder, or the volume's.

    Returns:
        The page.

    Raises:
        InputError: if the folder holds no run and no evaluation.
    """
    folder = Path(str(output_dir))
    if (folder / RECORD).is_file():
        return str(page.remake(folder))
    if not any((folder / name).is_file() for name in ("provenance.json", "evaluation/provenance.json")):
        raise InputError(
            f"{folder} holds no run: it has no provenance.json, evaluation/ or {RECORD}; name a run's output_dir."
        )
    return str(write(folder))


def _body(record: Record) -> Iterable[str]:
    yield _header(record)
    yield section("provenance", "Where this comes from", provenance(record), measured(record))
    if record.unpaired:
        yield section("results", "What was measured", *unpaired(record))
    else:
        yield section("results", "How alike generated and real stain are", *_results(record))
    if record.truth:
        yield section("truth", "Is the stain right", _truth(record))
    yield section("training", "Training", *_training(record))
    if record.slides:
        yield section("slides", "Slides", *slides(record))
        yield section("patches", "Patches in both directions", *both_ways(record))
    if record.unpaired:
        yield section("images", "Images", *images(record))
    yield f"<footer><p>{RESEARCH}</p></footer>"


def _title(record: Record) -> str:
    if "target" in record.evaluation:
        return f"Virtual staining: {record.evaluation['target']} from {record.evaluation['source']}"
    return record.metadata.get("task", "Virtual staining")


def _header(record: Record) -> str:
    dataset = record.training.get("dataset_dir") or record.evaluation.get("dataset_dir")
    began = record.training.get("started") or record.evaluation.get("started")
    method = record.metadata.get("trained_on", {}).get("method", "method not recorded")
    about = [method, f"dataset {Path(dataset).name}" if dataset else "dataset not recorded"]
    about.append(
        f"{'training' if record.training else 'evaluation'} of {date_in_words(began)}" if began else "no date recorded"
    )
    parts = [f"<header><h1>{escape(_title(record))}</h1>", f'<p class="about">{escape(" · ".join(about))}</p>']
    description = record.evaluation.get("description") or record.training.get("description")
    if description:
        parts.append(f"<p>{escape(description)}</p>")
    parts.append(f'<p class="research">{RESEARCH}</p>')
    if record.caveat:
        parts.append(f'<p class="caveat" role="note">{escape(record.caveat)}</p>')
    links = {"provenance": "Origin", "results": "Results"}
    links |= {"truth": "Is it right"} if record.truth else {}
    links |= {"training": "Training"}
    links |= {"slides": "Slides", "patches": "Patches"} if record.slides else {}
    links |= {"images": "Images"} if record.unpaired else {}
    items = "".join(f'<li><a href="#{anchor}">{name}</a></li>' for anchor, name in links.items())
    return "\n".join([*parts, f'<nav aria-label="Contents"><ul>{items}</ul></nav></header>'])


def _results(record: Record) -> list[str]:
    if not record.slides:
        return [missing("Not measured yet. This command measures it:"), f"<pre>{escape(_how_to_measure(record))}</pre>"]
    parts = []
    measured = record.evaluation.get("model_sha256")
    if measured and record.model_sha256 not in (None, measured):
        parts.append(
            missing("The model has changed since it was measured: these figures and slides are of an earlier state.")
        )
    ids = record.evaluation.get("ids", {})
    if ids:
        share = f"{100 * ids['eval_overlap']:g} %"
        parts.append(
            f"<p>Patches of {ids['eval_patch']:g} px every {ids['eval_stride']:g} px with at least {share} of their "
            "pixels in the mask; outside the mask every image has the same background (§2.8, §2.10).</p>"
        )
    splits = [split for split in SHOWN_SPLITS if record.slides_of(split)]
    columns = shown(record.summary)
    groups = [(_group_heading(record, split), lines_of(record, split, columns)) for split in splits]
    parts.append(f"<p>{ROWS_EXPLAINED}</p>")
    parts.append(table(CAPTION, ["image", *(HEADINGS[metric] for metric in columns)], groups, words=1))
    parts.append(definitions((HEADINGS[metric], escape(EXPLAINED[metric])) for metric in columns))
    parts.append(grid("charts", boxes(record, splits)))
    return parts


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


def _training(record: Record) -> list[str]:
    parts = []
    charts = []
    terms = terms_of(record.losses)
    charted = {"weighted sum of the terms": SUM, "terms before weighting": terms, "discriminators": DISCRIMINATORS}
    for number, (heading, tags) in enumerate(charted.items()):
        curves = {tag: record.losses[tag] for tag in tags if tag in record.losses}
        if curves:
            charts.append(chart(line_chart(curves, heading, f"loss-{number}"), f"{heading.capitalize()}."))
    if charts:
        steps = max(int(curve[0, -1]) for curve in record.losses.values())
        weights = [f"{tag} {record.config[f'lambda_{tag}']}" for tag in terms if f"lambda_{tag}" in record.config]
        text = f"{steps} steps are recorded; a point of a curve is the mean of the steps since the point before."
        text += f" Weights of the terms: {', '.join(weights)}." if weights else ""
        parts.append(f"<p>{escape(text)}</p>")
        parts.append(grid("charts", charts))
    else:
        parts.append(missing("No loss curves: this folder has no TensorBoard events (tensorboard/)."))
    parts += validation(record)
    if not record.sample:
        return [*parts, missing("No sample pictures: this folder has none (samples/).")]
    epoch = f"epoch {int(record.sample.stem.split('_')[1])} of {record.config.get('epochs', 'an unrecorded number')}"
    columns = (
        UNPAIRED_COLUMNS if _is_unpaired(record) else "source, generated stain, mask, real stain, generated source"
    )
    caption = f"Training patches after {epoch}, a row each: {columns}."
    picture = reduced(read_slide(record.sample).pixels, "Training patches", caption)
    return [*parts, f'<div class="sample">{picture}</div>']
