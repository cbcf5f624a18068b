"""Tables of an evaluation: medians by split and image, as CSV and Markdown; of a run's validations, means by epoch."""

from __future__ import annotations

import csv
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bundle.common.atomic import whole_file
from bundle.data.datalist import SIDES, SPLITS
from bundle.evaluation import truth

ROWS = ("network", "colour table", "mean colour", "inverted source", "raw source")
METRICS = ("lpips", "detail", "gradient_correlation", "ssim", "psnr")  # of patches and of slides
TRUTHS = ("lacunae_above_chance", "new_bone_precision", "new_bone_recall")  # of slides with labels
COLUMNS = (*METRICS[:3], *TRUTHS, *METRICS[3:])  # what mush loses first, then the paper's SSIM and PSNR
CYCLES = tuple(f"{side}_{measure}" for side in SIDES for measure in ("ssim", "ms_ssim", "psnr", "mae"))
HASHES = ("hash", "hash_correlation")
INDICES = ("index_real", "index_virtual", "index_difference")
HEADINGS = {
    "lpips": "LPIPS ↓",
    "detail": "detail (1 = as real)",
    "gradient_correlation": "gradient correlation ↑",
    **{name: truth.HEADINGS[name] for name in TRUTHS},
    "ssim": "SSIM ↑",
    "psnr": "PSNR ↑ (dB)",
    **{
        f"{side}_{measure}": f"{name} of the {side} given back {arrow}"
        for side in SIDES
        for measure, (name, arrow) in {
            "ssim": ("SSIM", "↑"),
            "ms_ssim": ("MS-SSIM", "↑"),
            "psnr": ("PSNR", "↑ (dB)"),
            "mae": ("MAE", "↓ (of 255)"),
        }.items()
    },
    "hash": "perceptual hash ↑",
    "hash_correlation": "correlation of the hashed features ↑",
    "index_real": "labelling index, real (%)",
    "index_virtual": "labelling index, virtual (%)",
    "index_difference": "labelling index, virtual − real (%)",
}
EXPLAINED = {
    "lpips": "perceptual distance; the best single measure here: a blurred picture and noise are far from a section",
    "detail": "fine structure, over the section’s: a blurred picture has far less, noise perhaps as much: see next",
    "gradient_correlation": "whether edges lie where the section’s do: noise loses, a blurred section keeps much",
    **{name: truth.EXPLAINED[name] for name in TRUTHS},
    "ssim": "structural similarity, as the papers have it: gives a blurred picture more than its due",
    "psnr": "peak signal-to-noise ratio: likewise",
}
DIGITS = {
    **{**dict.fromkeys(COLUMNS, 2), "psnr": 1},
    **{name: {"ssim": 3, "ms_ssim": 3, "psnr": 1, "mae": 1}[name.partition("_")[2]] for name in CYCLES},
    "hash": 4,
    "hash_correlation": 3,
    **dict.fromkeys(INDICES, 1),
}
LOWER = ("lpips", *(f"{side}_mae" for side in SIDES))  # is better
RATIOS = ("detail",)  # best at 1
QUANTILES = {"median": 0.5, "q1": 0.25, "q3": 0.75}
SUMMARY_COLUMNS = ("split", "row", "patches", *(f"{metric}_{name}" for metric in COLUMNS for name in QUANTILES))
NOT = "not computed"
VALIDATION = "validation.csv"  # in a run's folder


def summarise(patches: Sequence[dict[str, Any]], slides: Sequence[dict[str, Any]] = ()) -> list[dict[str, Any]]:
    """Median and quartiles of each measure, by split and row.

    Args:
        patches: with the measures of :data:`METRICS`.
        slides: with those of :data:`TRUTHS`.

    Returns:
        A line with :data:`SUMMARY_COLUMNS` for each split and row with a patch; None where no patch or slide has a
        value.
    """
    summary = []
    for split in SPLITS:
        for row in ROWS:
            of = lambda lines: [line for line in lines if (line["split"], line["row"]) == (split, row)]  # noqa: B023
            chosen = of(patches)
            if not chosen:
                continue
            line: dict[str, Any] = {"split": split, "row": row, "patches": len(chosen)}
            judged = of(slides)
            for metric in COLUMNS:
                lines = judged if metric in TRUTHS else chosen
                values = [each[metric] for each in lines if each[metric] is not None]
                line |= {
                    f"{metric}_{name}": float(np.quantile(values, share)) if values else None
                    for name, share in QUANTILES.items()
                }
            summary.append(line)
    return summary


def shown(summary: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    """The measures that a table of a summary has: what was computed comes first, then what should have been.

    Args:
        summary: lines as made or as read from CSV, of this version or an older one.

    Returns:
        Of :data:`COLUMNS`; those of truth only where something has them.
    """
    known = [name for name in COLUMNS if any(line.get(f"{name}_median") not in (None, NOT) for line in summary)]
    return (*known, *(name for name in METRICS if name not in known))


def markdown(summary: Sequence[dict[str, Any]], notes: Sequence[str], patch: int, stride: int) -> str:
    """The summary as a table: medians, quartiles in brackets; notes below."""
    columns = shown(summary)
    of = f"over patches of {patch} px every {stride} px (§2.10)"
    of += "; of lacunae and new bone over slides" if {*TRUTHS} & {*columns} else ""
    lines = [f"Median [quartiles] {of}. Of detail, 1 is best.", ""]
    lines.append("| split | image | patches | " + " | ".join(HEADINGS[metric] for metric in columns) + " |")
    lines.append("|---" * (3 + len(columns)) + "|")
    for line in summary:
        cells = [_cell(line, metric, DIGITS[metric]) for metric in columns]
        lines.append(f"| {line['split']} | {line['row']} | {line['patches']} | " + " | ".join(cells) + " |")
    return "\n".join([*lines, "", *notes]).rstrip() + "\n"


def _cell(line: dict[str, Any], metric: str, digits: int) -> str:
    median, low, high = (line[f"{metric}_{name}"] for name in QUANTILES)
    if median is None:
        return "–" if metric in TRUTHS else NOT
    show: Callable[[float], str] = lambda value: f"{value:.{digits}f}"  # noqa: E731
    return f"{show(median)} [{show(low)}–{show(high)}]"


def write_csv(path: Path, columns: Sequence[str], rows: Sequence[dict[str, Any]]) -> None:
    """Write a table, whole or not at all; None becomes "not computed"."""
    with whole_file(path) as partial, partial.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        for row in rows:
            writer.writerow({key: NOT if value is None else value for key, value in row.items()})


def name_of(metric: str) -> str:
    """A measure without arrow and unit."""
    return HEADINGS[metric].partition(" ↑")[0].partition(" ↓")[0].partition(" (")[0]


def better(metric: str) -> str:
    """``lower is better``, ``higher is better`` or ``1 is best``."""
    return "1 is best" if metric in RATIOS else f"{'lower' if metric in LOWER else 'higher'} is better"


def merit(metric: str, value: float) -> float:
    """What ranks the values of a measure: greater is better.

    Args:
        metric: not of :data:`INDICES`, where neither more nor less is better.
        value: at least 0 for a ratio.

    Returns:
        The value, or its negative where less is better; of a ratio −|ln value|, as half is as wrong as twice.
    """
    if metric in RATIOS:
        return -abs(math.log(value)) if value > 0 else -math.inf
    return -value if metric in LOWER else value


def best_shown(metric: str, values: Sequence[float]) -> str | None:
    """The best of some values as a table shows it, which may be bold.

    Args:
        metric: see :func:`merit`.
        values: all that stand under each other.

    Returns:
        The figure; None where none stands out: all look alike, or the best is a 0 of what should be high.
    """
    if not values:
        return None
    shown_as = lambda value: f"{value:.{DIGITS[metric]}f}"  # noqa: E731
    best = shown_as(max(values, key=lambda value: merit(metric, value)))
    alike = len(values) > 1 and {*map(shown_as, values)} == {best}
    return None if alike or (float(best) == 0 and metric not in LOWER) else best


def means(rows: Sequence[Mapping[str, Any]], metric: str) -> dict[int, float]:
    """The mean of a metric over the validation slides, by epoch.

    Args:
        rows: of ``validation.csv``.
        metric: a column; a slide that it does not concern has no such key.

    Returns:
        In the order of the rows; an epoch at which a slide has no value (None) is left out.
    """
    values: dict[int, list[Any]] = {}
    for row in rows:
        if metric in row:
            values.setdefault(row["epoch"], []).append(row[metric])
    return {epoch: float(np.mean(each)) for epoch, each in values.items() if None not in each}


def best_epoch(by_epoch: Mapping[int, float], metric: str) -> int:
    """The first epoch with the best mean of a metric, by :func:`merit`."""
    return max(by_epoch, key=lambda epoch: (merit(metric, by_epoch[epoch]), -epoch))
