"""What the figures of an unpaired evaluation come to: means by split, indices of all regions together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from bundle.data.datalist import SIDES, SPLITS
from bundle.evaluation.tables import HASHES
from bundle.evaluation.unpaired import consecutive
from bundle.evaluation.unpaired.reconstruction import LEAST_PX, MEASURES
from bundle.evaluation.unpaired.tables import CARRIED

MOST_NUCLEI = 1.5  # times as many in one stain as in the other

Row = dict[str, Any]


@dataclass
class Tables:
    """The rows of each table."""

    reconstruction: list[Row] = field(default_factory=list)
    hash: list[Row] = field(default_factory=list)
    labelling: list[Row] = field(default_factory=list)
    channels: list[Row] = field(default_factory=list)


def summarise(tables: Tables, names: dict[str, str], settings: Row, notes: Sequence[str]) -> Row:
    """What ``summary.json`` says: figures by split, and the notes.

    Args:
        tables: of the evaluation.
        names: of ``source`` and ``target``.
        settings: what the index was counted with: ``dab_threshold``, ``nucleus_um``, ``region_um``, ``seed``.
        notes: what is not computed or must be read with care.

    Returns:
        Names, settings and ``notes``; ``reconstruction`` and ``hash``: split, (side,) metric, number, mean and standard
        deviation (of the sample; None of one); ``channels``: split, side, channel and mean correlations;
        ``labelling``: split and what :func:`bundle.evaluation.unpaired.consecutive.pooled` gives.
    """
    notes = list(notes)
    if any(row["ms_ssim"] is None for row in tables.reconstruction):
        notes.append(f"MS-SSIM not computed of images smaller than {LEAST_PX[1]} px: they have no two scales.")
    if tables.hash or tables.labelling:
        notes.insert(0, consecutive.NO_PIXELS)
    given_back = [
        {"split": split, "side": side, **_moments(rows, metric)}
        for split in SPLITS
        for side in SIDES
        for rows in [[row for row in tables.reconstruction if (row["split"], row["side"]) == (split, side)]]
        for metric in MEASURES
        if rows
    ]
    alike = [
        {"split": split, **_moments(rows, metric)}
        for split, rows in _by_split(tables.hash).items()
        for metric in HASHES
    ]
    counted = [
        {"split": split, **consecutive.pooled(rows, settings["seed"])}
        for split, rows in _by_split(tables.labelling).items()
    ]
    for row in counted:
        notes += [row_note for row_note in [count_note(row)] if row_note]
    carriers = [
        {
            "split": split,
            "side": side,
            "channel": channel,
            **{stain: _mean(rows, stain) for stain in CARRIED},
        }
        for split, every in _by_split(tables.channels).items()
        for side in SIDES
        for channel in dict.fromkeys(row["channel"] for row in every)
        for rows in [[row for row in every if (row["side"], row["channel"]) == (side, channel)]]
        if rows
    ]
    return {
        **names,
        **settings,
        "notes": notes,
        "reconstruction": given_back,
        "hash": alike,
        "labelling": counted,
        "channels": carriers,
    }


def count_note(row: Row) -> str:
    """What must be said where the two stains do not show nearly as many nuclei; empty if they do."""
    real, virtual = row["real_nuclei"], row["virtual_nuclei"]
    if real and 1 / MOST_NUCLEI <= virtual / real <= MOST_NUCLEI:
        return ""
    return (
        f"{row['split']}: {virtual} nuclei are found in the virtual stain and {real} in the real one. Sections of one "
        "place hold about as many, so look at the outlines (evaluation/images) before you believe the indices."
    )


def _by_split(rows: Sequence[Row]) -> dict[str, list[Row]]:
    chosen = {split: [row for row in rows if row["split"] == split] for split in SPLITS}
    return {split: found for split, found in chosen.items() if found}


def _mean(rows: Sequence[Row], name: str) -> float | None:
    known = [row[name] for row in rows if row[name] is not None]
    return float(np.mean(known)) if known else None


def _moments(rows: Sequence[Row], metric: str) -> Row:
    """Number, mean and standard deviation of a column; equal images have an infinite PSNR and count as they are."""
    known = [row[metric] for row in rows if row[metric] is not None]
    spread_of = float(np.std(known, ddof=1)) if len(known) > 1 and np.isfinite(known).all() else None
    return {"metric": metric, "number": len(known), "mean": _mean(rows, metric), "sd": spread_of}
