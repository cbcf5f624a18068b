"""What is to be cut from each slide: its specimen, its split, the places of its tiles."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from bundle.common.checks import listed
from bundle.common.errors import InputError
from bundle.images.channel_slides import Facts, shape_at
from bundle.preparation.tiles.grid import TESTING, TRAINING, Area, HoldOut, Place, places
from bundle.preparation.tiles.sides import Side
from bundle.preparation.tiles.slides import pair_up, read_specimens, testing_specimens


@dataclass(frozen=True)
class Job:
    """One slide to cut.

    Attributes:
        side: its stain.
        name: of the slide.
        specimen: what must not be divided.
        ratio: length of a tile's pixel in pixels of the slide.
        places: where its tiles lie, ascending.
    """

    side: Side
    name: str
    specimen: str
    ratio: float
    places: list[Place]

    @property
    def facts(self) -> Facts:
        """Of its file."""
        return self.side.slides[self.name]


@dataclass(frozen=True)
class Division:
    """How slides are divided.

    Attributes:
        testing: names of slides or specimens, or a share of the specimens; None for none.
        hold_out: a part of every slide; None for none.
        specimens: CSV file; None if each slide is its own.
        paired: whether testing slides are sections of one place on one grid.
        seed: of the drawing.
    """

    testing: Any = None
    hold_out: HoldOut | None = None
    specimens: str | None = None
    paired: bool = False
    seed: int = 0


@dataclass(frozen=True)
class Plan:
    """All that is to be cut.

    Attributes:
        jobs: a slide each, sources first.
        pairs: the target slide beside each source slide; empty if testing is not paired.
    """

    jobs: list[Job]
    pairs: dict[str, str]


def planned(
    sides: Sequence[Side],
    ratios: dict[tuple[str, str], float],
    division: Division,
    tile: int,
    overlaps: dict[str, int],
) -> Plan:
    """Divide slides and lay tiles over them.

    Args:
        sides: source and target.
        ratios: of each slide, by side and name.
        division: how they are divided.
        tile: the side of a tile, px.
        overlaps: by split, px.

    Raises:
        InputError: with a line for each fault: specimens, names, an image or a part of one smaller than a tile, a
            testing slide without its pair or of another size.
    """
    source, target = sides
    pairs = pair_up(list(source.slides), list(target.slides)) if division.paired else {}
    names = list(dict.fromkeys([*source.slides, *target.slides]))
    if division.specimens is None:
        partners = {other: name for name, other in pairs.items()}
        specimens = {name: name if name in source.slides else partners.get(name, name) for name in names}
    else:
        specimens = read_specimens(division.specimens, names)
    tested: set[str] = set()
    if division.testing is not None:
        tested = testing_specimens(division.testing, specimens, division.seed)
    sizes = {(side.side, name): shape_at(facts.shape, ratios[side.side, name]) for side, name, facts in _all(sides)}
    splits = {name: TESTING if specimens[name] in tested else TRAINING for name in names}
    faults = [
        f"testing: every {side.side} ({listed(side.slides)}) would be for testing; leave some to train on, "
        "or test on a part of each: --hold_out right:0.3."
        for side in sides
        if not division.hold_out and all(splits[name] == TESTING for name in side.slides)
    ]
    if division.paired:
        held = names if division.hold_out else [name for name in names if splits[name] == TESTING]
        faults += _pair_faults(sides, pairs, specimens, sizes, held)
    jobs: list[Job] = []
    for side, name, facts in _all(sides):
        areas = _areas(sizes[side.side, name], splits[name], division.hold_out)
        for split, area in areas.items():
            height, width = area.bottom - area.top, area.right - area.left
            if min(height, width) < tile:
                part = f"{split} part of {facts.path}" if division.hold_out else str(facts.path)
                faults.append(
                    f"the {part} is {height}×{width} px at the tiles' pixel size, smaller than a tile of {tile} px; "
                    "use a smaller --tile or a finer --tile_um, or leave it out."
                )
        where = places(areas, tile, overlaps)
        jobs.append(Job(side, name, specimens[name], ratios[side.side, name], where))
    if faults:
        raise InputError("\n".join(faults))
    return Plan(jobs, pairs)


def _all(sides: Sequence[Side]) -> list[tuple[Side, str, Facts]]:
    return [(side, name, facts) for side in sides for name, facts in side.slides.items()]


def _areas(size: tuple[int, int], split: str, hold_out: HoldOut | None) -> dict[str, Area]:
    return hold_out.areas(size) if hold_out else {split: Area(0, 0, *size)}


def _pair_faults(
    sides: Sequence[Side],
    pairs: dict[str, str],
    specimens: dict[str, str],
    sizes: dict[tuple[str, str], tuple[int, int]],
    tested: Sequence[str],
) -> list[str]:
    """A line for each testing slide that has no pair, or one of another size or specimen."""
    source, target = sides
    faults = [
        f"paired_testing: {side.side} {name!r} is for testing but has no {other.side} of that name; add it or test "
        "on others."
        for side, other, known in ((source, target, pairs.keys()), (target, source, pairs.values()))
        for name in side.slides
        if name in tested and name not in known
    ]
    for name, partner in pairs.items():
        if name not in tested and partner not in tested:
            continue
        one, two = sizes["source", name], sizes["target", partner]
        if one != two:
            faults.append(
                f"paired_testing: source {name!r} is {one[0]}×{one[1]} px but target {partner!r} is {two[0]}×{two[1]} "
                "px at the tiles' pixel size; register them to one grid, or leave --paired_testing out."
            )
        if specimens[name] != specimens[partner]:
            faults.append(
                f"paired_testing: source {name!r} is of specimen {specimens[name]!r} but target {partner!r} of "
                f"{specimens[partner]!r}; correct the table of --specimens."
            )
    return faults
