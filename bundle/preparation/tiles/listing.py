"""What is said of tiles: the datalist, the table, the record, and the lines for the user."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bundle.preparation.tiles.cutting import Tile, partners
from bundle.preparation.tiles.grid import TESTING, TRAINING
from bundle.preparation.tiles.plan import Division, Plan
from bundle.preparation.tiles.sides import Side

LEFT_OUT = "left out"


def datalist_of(
    sides: Sequence[Side], plan: Plan, made: list[list[Tile]], size_um: float, about: str, divided: bool
) -> dict[str, Any]:
    """The content of ``datalist.json``.

    Args:
        sides: source and target.
        plan: what was cut.
        made: the tiles of each of its jobs.
        size_um: pixel size of the tiles, in µm.
        about: the description.
        divided: whether training and testing share specimens.
    """
    splits: dict[str, list[dict[str, str]]] = {TRAINING: [], TESTING: []}
    beside: dict[str, str] = {}
    for source, target in partners(plan, made):
        there = {each.place: each.file for each in target if each.file and each.place.split == TESTING}
        beside |= {each.file: there[each.place] for each in source if each.file and each.place in there}
    taken = set(beside.values())
    for job, tiles in zip(plan.jobs, made, strict=True):
        for each in tiles:
            if each.file is None or each.file in taken:
                continue
            entry = {job.side.side: each.file}
            partner = beside.get(each.file)
            entry |= {"target": partner} if partner else {}
            splits[each.place.split].append({**entry, "specimen": job.specimen})
    same = {"allow_same_specimen": True} if divided else {}
    declared = {side.side: side.declared() for side in sides}
    return {"pixel_um": size_um, "description": about, **same, **declared, **splits}


def description(plan: Plan, division: Division, tile: int, overlaps: dict[str, int], size_um: float) -> str:
    """The description of the dataset."""
    sides = {job.side.side: job.side.name for job in plan.jobs}
    slides = [f"{sum(job.side.side == side for job in plan.jobs)} of {name}" for side, name in sides.items()]
    text = f"Tiles of {tile} px of {size_um:.6g} µm, overlapping by {overlaps[TRAINING]} px, from images: "
    text += f"{', '.join(slides)}."
    if division.hold_out:
        text += f" Testing tiles are the {division.hold_out} of the same images."
    if division.paired:
        text += " Testing entries are one place of consecutive sections."
    return text


def write_table(path: Path, plan: Plan, made: list[list[Tile]]) -> None:
    """Write a line for each place: where in its slide's own pixels, how much tissue, and where it went."""
    with path.open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(("side", "slide", "specimen", "row", "column", "top", "left", "tissue", "split", "file"))
        for job, tiles in zip(plan.jobs, made, strict=True):
            for each in tiles:
                place = each.place
                corner = [f"{at * job.ratio:.10g}" for at in (place.top, place.left)]
                split = place.split if each.file else LEFT_OUT
                row = (job.side.side, job.name, job.specimen, place.row, place.column, *corner)
                table.writerow((*row, f"{each.tissue:.4f}", split, each.file or ""))


def record(plan: Plan, made: list[list[Tile]], thresholds: list[float]) -> list[dict[str, Any]]:
    """What each slide is and gave."""
    return [
        {
            "side": job.side.side,
            "slide": job.name,
            "path": str(job.facts.path),
            "size": list(job.facts.shape),
            "pixel_um": job.side.pixel_um[job.name],
            "kind": job.side.kind_name,
            "threshold": threshold,
            **_counts(tiles),
        }
        for job, tiles, threshold in zip(plan.jobs, made, thresholds, strict=True)
    ]


def _counts(tiles: list[Tile]) -> dict[str, int]:
    kept = {
        split: sum(each.place.split == split and bool(each.file) for each in tiles) for split in (TRAINING, TESTING)
    }
    return {**kept, LEFT_OUT: len(tiles) - sum(kept.values())}


def told(folder: Path, plan: Plan, made: list[list[Tile]]) -> str:
    """For the user: a line for each slide, and the sums."""
    heads = ["stain", "slide", TRAINING, TESTING, LEFT_OUT]
    rows = [
        [job.side.name, job.name, *map(str, _counts(tiles).values())]
        for job, tiles in zip(plan.jobs, made, strict=True)
    ]
    widths = [max(map(len, column)) for column in zip(heads, *rows, strict=True)]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in [heads, *rows]]
    kept = sum(bool(each.file) for tiles in made for each in tiles)
    tested = any(each.file and each.place.split == TESTING for tiles in made for each in tiles)
    hint = "" if tested else " Nothing is for testing (--testing, --hold_out)."
    return "\n".join([*(line.rstrip() for line in lines), f"{kept} tiles in {folder}.{hint}"])
