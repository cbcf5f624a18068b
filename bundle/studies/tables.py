"""The tables of a study as text: Markdown, LaTeX, and the cells that its page shows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from bundle.evaluation.tables import COLUMNS, DIGITS, HASHES, HEADINGS, INDICES, METRICS, NOT, TRUTHS, best_shown
from bundle.evaluation.unpaired.tables import PAPER_SAYS
from bundle.studies.results import Line, centre_of

ACELL = "A cell is one training: a variant on a fold with a seed. Minutes: of a training, median."
CAPTION = (
    "Median over the patches (lacunae and new bone: over the slides) of all cells [lowest, highest median of a cell]; "
    "the best of each split is bold, of detail the nearest to 1 as a ratio. " + ACELL
)
CAPTION_UNPAIRED = (
    "Mean over the images of all cells [lowest, highest mean of a cell], of the perceptual hash ± standard deviation "
    "over tiles; the best of each split is bold. Labelling indices are of all regions together; brackets beside those "
    "of a single cell are 95 % intervals (docs/stains.md). " + ACELL
)


def columns(metrics: Sequence[str]) -> list[str]:
    """Of ``table.csv``."""
    parts = [
        f"{metric}_{part}"
        for metric in metrics
        for part in (centre_of(metric), *(["sd"] if metric in HASHES else []), "low", "high")
    ]
    return ["split", "image", "cells", "minutes", *parts]


def metrics_of(lines: Sequence[Line]) -> list[str]:
    """The metrics that lines of :func:`summary` have; those without a value come last, of truth not at all."""
    present = [metric for metric in HEADINGS if any(f"{metric}_low" in line for line in lines)]
    known = [metric for metric in present if any(line.get(f"{metric}_low") is not None for line in lines)]
    return [*known, *(metric for metric in present if metric not in {*known, *TRUTHS})]


def best_of(lines: Sequence[Line], split: str, metric: str) -> str | None:
    """The best figure of a split as it is shown; None where none stands out, or neither more nor less is better."""
    known = [line[f"{metric}_{centre_of(metric)}"] for line in lines if line["split"] == split]
    return None if metric in INDICES else best_shown(metric, [value for value in known if value is not None])


def cells_of(lines: Sequence[Line], line: Line, metrics: Sequence[str], bold: tuple[str, str]) -> list[str]:
    """Minutes and figures of one line, the best between the two marks of ``bold``; Markup if these are."""
    texts = ["" if line["minutes"] is None else f"{line['minutes']:.1f}"]
    for metric in metrics:
        values = [line[f"{metric}_{part}"] for part in (centre_of(metric), "low", "high")]
        if values[0] is None:
            texts.append("–" if metric in TRUTHS else NOT)
            continue
        middle, low, high = (f"{value:.{DIGITS[metric]}f}" for value in values)
        if middle == best_of(lines, line["split"], metric):
            middle = bold[0] + middle + bold[1]
        if line.get(f"{metric}_sd") is not None:
            middle += f" ± {line[f'{metric}_sd']:.{DIGITS[metric]}f}"
        texts.append(middle + f" [{low}, {high}]" if line["cells"] > 1 or values[1] != values[2] else middle)
    return texts


def caption_of(metrics: Sequence[str]) -> str:
    """What the figures of a table are."""
    said = CAPTION if set(metrics) <= {*COLUMNS} else CAPTION_UNPAIRED
    return f"{said} {PAPER_SAYS}." if "hash" in metrics else said


def markdown(tables: Mapping[str, Sequence[Line]], caveat: str = "") -> list[str]:
    """The tables as Markdown, under their headings."""
    metrics = metrics_of([line for lines in tables.values() for line in lines]) or METRICS
    text = [f"{caption_of(metrics)} {caveat}".strip(), ""]
    for heading, lines in tables.items():
        text += [f"### {heading}", ""] if heading else []
        text.append("| split | image | cells | minutes | " + " | ".join(HEADINGS[metric] for metric in metrics) + " |")
        text.append("|---" * (4 + len(metrics)) + "|")
        for line in lines:
            words = [line["split"], line["image"], str(line["cells"]), *cells_of(lines, line, metrics, ("**", "**"))]
            text.append(f"| {' | '.join(words)} |")
        text.append("")
    return text[:-1]


def latex(tables: Mapping[str, Sequence[Line]], caveat: str = "") -> list[str]:
    """The tables as LaTeX, for the package ``booktabs``."""
    metrics = metrics_of([line for lines in tables.values() for line in lines]) or METRICS
    heads = [HEADINGS[metric].replace("↑", r"$\uparrow$").replace("↓", r"$\downarrow$") for metric in metrics]
    heads = [head.replace("%", r"\%").replace("−", "$-$") for head in heads]
    text = [f"% {caveat}"] if caveat else []
    for heading, lines in tables.items():
        text += [f"% {heading}"] if heading else []
        text += [r"\begin{tabular}{llr" + "r" * len(metrics) + "}", r"\toprule"]
        text += ["split & image & minutes & " + " & ".join(heads) + r" \\"]
        for split in dict.fromkeys(line["split"] for line in lines):
            text.append(r"\midrule")
            for line in (line for line in lines if line["split"] == split):
                image = line["image"].replace("_", r"\_").replace("λ", r"$\lambda$").replace("×", r"$\times$")
                cells = cells_of(lines, line, metrics, (r"\textbf{", "}"))
                text.append(" & ".join([split, image, *_in_latex(cells)]) + r" \\")
        text += [r"\bottomrule", r"\end{tabular}", ""]
    return text[:-1]


def _in_latex(cells: Sequence[str]) -> list[str]:
    return [cell.replace("±", r"$\pm$") for cell in cells]
