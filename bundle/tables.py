"""Tables of an evaluation: medians by split and image, as CSV and Markdown; of a run's validations, means by epoch."""

from __future__ import annotations

import csv
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bundle.atomic import whole_file
from bundle.datalist import SIDES, SPLITS

ROWS = ("network", "colour table", "mean colour", "inverted source", "raw source")
METRICS = ("ssim", "psnr", "lpips")
CYCLES = tuple(f"{side}_{measure}" for side in SIDES for measure in ("ssim", "ms_ssim", "psnr", "mae"))
HASHES = ("hash", "hash_correlation")
INDICES = ("index_real", "index_virtual", "index_difference")
HEADINGS = {
    "ssim": "SSIM ↑",
    "psnr": "PSNR ↑ (dB)",
    "lpips": "LPIPS ↓",
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
DIGITS = {
    "ssim": 2,
    "psnr": 1,
    "lpips": 2,
    **{name: {"ssim": 3, "ms_ssim": 3, "psnr": 1, "mae": 1}[name.partition("_")[2]] for name in CYCLES},
    "hash": 4,
    "hash_correlation": 3,
    **dict.fromkeys(INDICES, 1),
}
LOWER = ("lpips", *(f"{side}_mae" for side in SIDES))  # is better
SUMMARY_COLUMNS = ("split", "row", "patches", *(f"{metric}_{q}" for metric in METRICS for q in ("median", "q1", "q3")))
VALIDATION = "validation.csv"  # in a run's folder


def summarise(patches: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Median and quartiles of each metric, by split and row."""
    summary = []
    for split in SPLITS:
        for row in ROWS:
            chosen = [patch for patch in patches if patch["split"] == split and patch["row"] == row]
            if not chosen:
                continue
            line: dict[str, Any] = {"split": split, "row": row, "patches": len(chosen)}
            for metric in METRICS:
                values = [patch[metric] for patch in chosen]
                quantiles = [None] * 3 if None in values else np.quantile(values, (0.5, 0.25, 0.75)).tolist()
                line |= {
                    f"{metric}_{name}": value for name, value in zip(("median", "q1", "q3"), quantiles, strict=True)
                }
            summary.append(line)
    return summary


def markdown(summary: Sequence[dict[str, Any]], notes: Sequence[str], patch: int, stride: int) -> str:
    """The summary as a table: medians, quartiles in brackets; notes below."""
    headings = [HEADINGS[metric] for metric in METRICS]
    lines = [f"Median [quartiles] over patches of {patch} px every {stride} px (§2.10).", ""]
    lines += ["| split | image | patches | " + " | ".join(headings) + " |", "|---|---|---|---|---|---|"]
    for line in summary:
        cells = [_cell(line, metric, DIGITS[metric]) for metric in METRICS]
        lines.append(f"| {line['split']} | {line['row']} | {line['patches']} | " + " | ".join(cells) + " |")
    return "\n".join([*lines, "", *notes]).rstrip() + "\n"


def _cell(line: dict[str, Any], metric: str, digits: int) -> str:
    median, low, high = (line[f"{metric}_{name}"] for name in ("median", "q1", "q3"))
    if median is None:
        return "not computed"
    show: Callable[[float], str] = lambda value: f"{value:.{digits}f}"  # noqa: E731
    return f"{show(median)} [{show(low)}–{show(high)}]"


def write_csv(path: Path, columns: Sequence[str], rows: Sequence[dict[str, Any]]) -> None:
    """Write a table, whole or not at all; None becomes "not computed"."""
    with whole_file(path) as partial, partial.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        for row in rows:
            writer.writerow({key: "not computed" if value is None else value for key, value in row.items()})


def sign_of(metric: str) -> int:
    """1 if a metric is better when greater, −1 when less, 0 where neither is better."""
    return 0 if metric in INDICES else -1 if metric in LOWER else 1


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
    """The first epoch with the best mean of a metric: the least LPIPS and MAE, the greatest of the others."""
    return max(by_epoch, key=lambda epoch: (sign_of(metric) * by_epoch[epoch], -epoch))
