"""Tiles cut from every slide of a plan, kept where there is tissue."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

from bundle.common.errors import InputError
from bundle.common.threads import in_order
from bundle.images.channel_slides import opened
from bundle.images.slides import write_slide
from bundle.images.tissue import tissue_share
from bundle.preparation.tiles.grid import TESTING, TRAINING, Place, cut
from bundle.preparation.tiles.plan import Job, Plan

ROUNDING = 1e-5  # of the range: an average in float32 may leave it by less


@dataclass
class Tile:
    """A place of a slide that was looked at.

    Attributes:
        place: where it is.
        tissue: its share of tissue, 0 to 1.
        file: in the dataset; None if it was left out.
    """

    place: Place
    tissue: float
    file: str | None


def cut_all(folder: Path, plan: Plan, size_um: float, tile: int, least: float) -> tuple[list[list[Tile]], list[float]]:
    """Cut every slide; the tiles and the threshold of each.

    Raises:
        InputError: with a line for each slide that fails.
    """
    made: list[list[Tile]] = []
    thresholds: list[float] = []
    faults: list[str] = []
    with tqdm(total=sum(len(job.places) for job in plan.jobs), desc="tiles", unit="tile", dynamic_ncols=True) as bar:
        for job in plan.jobs:
            bar.set_postfix_str(f"{job.side.side} {job.name}")
            try:
                tiles, threshold = _cut_one(folder, job, size_um, tile, least, bar)
            except InputError as error:
                faults += str(error).splitlines()
                continue
            made.append(tiles)
            thresholds.append(threshold)
            if not any(each.file for each in tiles):
                most = max(each.tissue for each in tiles)
                faults.append(
                    f"{job.facts.path} has no tile with {least:.0%} of tissue (the most is {most:.0%}); lower "
                    f"--least_tissue or --{job.side.side}_threshold (it was {threshold:.4g}), or leave it out."
                )
    if faults:
        raise InputError("\n".join(faults))
    return made, thresholds


def _cut_one(folder: Path, job: Job, size_um: float, tile: int, least: float, bar: tqdm) -> tuple[list[Tile], float]:
    side = job.side
    with opened(job.facts, job.ratio, side.chosen) as scan:
        way = f"--{side.side}_threshold; below its darkest value, every tile is tissue"
        given = side.threshold
        threshold = side.kind.threshold(scan, side.limits, way) if given is None else float(given)

        def looked_at(found: tuple[Place, np.ndarray]) -> Tile:
            place, pixels = found
            share = tissue_share(pixels, side.kind, threshold, side.limits)
            file = _written(folder, job, place, pixels, size_um) if share >= least else None
            return Tile(place, share, file)

        # a copy, as a view would keep the whole row of tiles
        cut_out = ((place, pixels.copy()) for place, pixels in cut(scan.rows(), job.places, tile))
        tiles = []
        for each in in_order(looked_at, cut_out):
            tiles.append(each)
            bar.update()
    return tiles, threshold


def _written(folder: Path, job: Job, place: Place, pixels: np.ndarray, size_um: float) -> str:
    """Write a tile; its name in the dataset.

    Raises:
        InputError: if it has values outside the declared range.
    """
    side, low, high = job.side, *job.side.limits
    slack = ROUNDING * (high - low)
    if not (pixels.min() >= low - slack and pixels.max() <= high + slack):
        raise InputError(
            f"{job.facts.path} has values from {pixels.min():g} to {pixels.max():g}, outside the range "
            f"[{low:g}, {high:g}] of {side.name}; declare its range with --{side.side}_range."
        )
    file = f"{side.side}/{job.name}/y{place.top:05d}_x{place.left:05d}{side.suffix}"
    write_slide(folder / file, _stored(np.clip(pixels, low, high), job.facts.dtype), size_um)
    return file


def _stored(pixels: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """(H, W, C) → (C, H, W) of the file's type, whole numbers rounded; a view, as the file's pixels lie so."""
    rounded = np.rint(pixels) if np.issubdtype(dtype, np.integer) and pixels.dtype != dtype else pixels
    return rounded.astype(dtype, copy=False).transpose(2, 0, 1)


def drop_halves(folder: Path, plan: Plan, made: list[list[Tile]]) -> None:
    """Leave out testing tiles whose other stain was left out."""
    for one, other in partners(plan, made):
        both = {each.place for each in one if each.file} & {each.place for each in other if each.file}
        for each in (*one, *other):
            if each.file and each.place.split == TESTING and each.place not in both:
                (folder / each.file).unlink()
                each.file = None


def partners(plan: Plan, made: list[list[Tile]]) -> Iterator[tuple[list[Tile], list[Tile]]]:
    """The tiles of a source and of the target beside it."""
    by_slide = {(job.side.side, job.name): tiles for job, tiles in zip(plan.jobs, made, strict=True)}
    for source, target in plan.pairs.items():
        yield by_slide["source", source], by_slide["target", target]


def empty_faults(plan: Plan, made: list[list[Tile]]) -> list[str]:
    """A line for each split of a stain that was asked for and got no tile."""
    faults = []
    for side in ("source", "target"):
        found = [each for job, tiles in zip(plan.jobs, made, strict=True) if job.side.side == side for each in tiles]
        wanted = {TRAINING, *(each.place.split for each in found)}
        for split in sorted(wanted - {each.place.split for each in found if each.file}):
            faults.append(f"{side}: no tile of {split} has enough tissue" + (" in both stains" if plan.pairs else ""))
    return faults
