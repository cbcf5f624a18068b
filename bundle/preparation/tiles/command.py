"""Slides of two stains in, an unpaired dataset of tiles out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from bundle.common.atomic import check_writable, whole_folder, write_json
from bundle.common.checks import listed
from bundle.common.command_line import as_bool
from bundle.common.config_text import check_names as check_option_names
from bundle.common.errors import InputError
from bundle.common.ids import SEED, fault_of
from bundle.common.values import is_number
from bundle.data.datalist import DATALIST
from bundle.data.leaks import same_files
from bundle.images.tissue import BOX
from bundle.preparation.tiles.cutting import cut_all, drop_halves, empty_faults
from bundle.preparation.tiles.grid import TESTING, TRAINING, parse_hold_out
from bundle.preparation.tiles.listing import datalist_of, description, record, told, write_table
from bundle.preparation.tiles.plan import Division, Plan, planned
from bundle.preparation.tiles.sides import Asked, Side, checked, pixel_sizes, scale_of
from bundle.preparation.tiles.slides import check_names, find_files, one_of_each

TILES, RECORD = "tiles.csv", "tiling.json"


def tile(
    *unexpected: Any,
    source: Any,
    target: Any,
    source_name: str,
    target_name: str,
    output: str,
    tile: int = 288,
    overlap: int | None = None,
    testing_overlap: int = 0,
    tile_um: float | None = None,
    shrink: float | None = None,
    pixel_um: Any = None,
    testing: Any = None,
    hold_out: str | None = None,
    paired_testing: bool = False,
    specimens: str | None = None,
    seed: int = 0,
    least_tissue: float = 0.2,
    source_range: Any = None,
    target_range: Any = None,
    source_kind: str | None = None,
    target_kind: str | None = None,
    source_threshold: float | None = None,
    target_threshold: float | None = None,
    source_channels: Any = None,
    target_channels: Any = None,
) -> str:
    """Cut slides of two stains into the tiles of an unpaired dataset, whole or not at all.

    Args:
        unexpected: words without an option; an error.
        source: images of the first stain: a folder, a quoted pattern, or files "[a.tif, b.tif]".
        target: images of the second stain, likewise.
        source_name: what reports call the first stain.
        target_name: what reports call the second stain.
        output: the dataset's folder; made, or empty.
        tile: side of a tile, px.
        overlap: what neighbouring training tiles share, px; half a tile if not given.
        testing_overlap: what neighbouring testing tiles share, px.
        tile_um: pixel size of the tiles in µm; finer files are averaged over areas.
        shrink: or, how many pixels of the files one of a tile is long; 2 makes 20× of 40×.
        pixel_um: pixel size of the files in µm, in place of what they state; one number, or "[source, target]".
        testing: slides or specimens to test on, "[s09, s10]", or a share of the specimens, 0.2.
        hold_out: or, a part of every image to test on: right:0.3 (left, right, top, bottom).
        paired_testing: testing slides are consecutive sections on one grid: list source and target of a place together.
        specimens: CSV with the columns slide, specimen; without it each name of a slide is a specimen.
        seed: of the drawing of a share.
        least_tissue: share of a tile that must be tissue.
        source_range: "[lowest, highest]" value; [0, 255] for 8 bits, else it must be given.
        target_range: likewise.
        source_kind: brightfield or fluorescence; by default RGB is brightfield and all else fluorescence.
        target_kind: likewise.
        source_threshold: of tissue: optical density (brightfield), or the sum of channels (fluorescence).
        target_threshold: likewise.
        source_channels: names of the channels "[DAPI, membrane]", or of those to take "{DAPI: 0, membrane: 4}".
        target_channels: likewise.

    Returns:
        What was made, with the number of tiles of each slide.

    Raises:
        InputError: with one line for each fault.
    """
    if unexpected:
        raise InputError(
            f'{unexpected[0]!r} belongs to no option; put patterns in quotes, --source "he/*.tif", so that the shell '
            "leaves them alone."
        )
    folder = Path(str(output))
    paired = as_bool("paired_testing", paired_testing)
    overlaps = {TRAINING: _half(tile) if overlap is None else overlap, TESTING: testing_overlap}
    _check_options(folder, tile, overlaps, least_tissue, testing, hold_out, paired, seed)
    check_option_names({"source_name": str(source_name), "target_name": str(target_name)})
    sizes = pixel_sizes(pixel_um)
    asked = (
        Asked("source", str(source_name), sizes[0], source_range, source_kind, source_threshold, source_channels),
        Asked("target", str(target_name), sizes[1], target_range, target_kind, target_threshold, target_channels),
    )
    notes: list[str] = []
    sides = _checked_sides(asked, (source, target), notes)
    size_um, ratios = scale_of(sides, tile_um, shrink)
    held = None if hold_out is None else parse_hold_out(hold_out)
    division = Division(testing, held, specimens, paired, seed)
    plan = planned(sides, ratios, division, tile, overlaps)
    notes += _scale_notes(plan, size_um)
    if plan.pairs:
        notes.append("pairs: " + listed([f"{one} with {two}" for one, two in plan.pairs.items()]))
    elif alike := _alike(plan):
        notes.append(
            f"testing slides {listed(alike)} have one name in both stains; if they are sections registered to one "
            "grid, --paired_testing true lists them by place"
        )
    print("\n".join(notes))
    check_writable(folder.parent)
    with whole_folder(folder) as partial:
        made, thresholds = cut_all(partial, plan, size_um, tile, least_tissue)
        if paired:
            drop_halves(partial, plan, made)
        faults = empty_faults(plan, made)
        if faults:
            raise InputError("\n".join(faults))
        about = description(plan, division, tile, overlaps, size_um)
        write_json(partial / DATALIST, datalist_of(sides, plan, made, size_um, about, held is not None))
        write_table(partial / TILES, plan, made)
        options: dict[str, Any] = {
            "tile": tile,
            "overlap": overlaps[TRAINING],
            "testing_overlap": testing_overlap,
            "tile_um": size_um,
        }
        options |= {
            "tile_um": size_um,
            "least_tissue": least_tissue,
            **asdict(division),
        }
        write_json(partial / RECORD, {**options, "slides": record(plan, made, thresholds)})
    return told(folder, plan, made)


def _half(tile: Any) -> int:
    """Half of an option that may not be a number yet."""
    return tile // 2 if isinstance(tile, int) else 0


def _check_options(
    folder: Path, tile: Any, overlaps: dict[str, Any], least: Any, testing: Any, hold_out: Any, paired: bool, seed: Any
) -> None:
    faults = list(filter(None, [fault_of("seed", seed, SEED)]))
    if not isinstance(tile, int) or isinstance(tile, bool) or tile < 2 * BOX:
        faults.append(f"tile is {tile!r}; it must be a whole number of pixels, {2 * BOX} or more.")
    for name, overlap in zip(("overlap", "testing_overlap"), overlaps.values(), strict=True):
        if not isinstance(overlap, int) or isinstance(overlap, bool) or overlap < 0:
            faults.append(f"{name} is {overlap!r}; it must be a whole number of pixels, 0 or more.")
        elif isinstance(tile, int) and overlap >= tile:
            faults.append(f"{name} is {overlap} px, but a tile is only {tile} px; it must be smaller.")
    if not is_number(least) or not 0 <= least <= 1:
        faults.append(f"least_tissue is {least!r}; it must be a share from 0 to 1.")
    if testing is not None and hold_out is not None:
        faults.append(
            f"testing is {testing!r} and hold_out is {hold_out!r}; test on whole slides or on a part of each."
        )
    if paired and testing is None and hold_out is None:
        faults.append("paired_testing is true but nothing is for testing; give --testing or --hold_out.")
    if folder.is_file():
        faults.append(f"output {folder} is a file; name a new folder.")
    elif folder.exists() and any(folder.iterdir()):
        faults.append(f"output {folder} is not empty; name a new folder.")
    if faults:
        raise InputError("\n".join(faults))


def _checked_sides(asked: Sequence[Asked], given: Sequence[Any], notes: list[str]) -> list[Side]:
    sides: list[Side] = []
    faults: list[str] = []
    for one, value in zip(asked, given, strict=True):
        try:
            files = one_of_each(one.side, find_files(one.side, value), notes)
            check_names(one.side, files)
            sides.append(checked(one, files, notes))
        except InputError as error:
            faults.append(str(error))
    if faults:
        raise InputError("\n".join(faults))
    every = [facts.path for side in sides for facts in side.slides.values()]
    notes += [f"{path} is the same file as {first}: both stains have its tiles" for first, path in same_files(every)]
    return sides


def _alike(plan: Plan) -> list[str]:
    """Names of testing slides that both stains have."""
    tested = [job.name for job in plan.jobs if any(place.split == TESTING for place in job.places)]
    return [name for name in dict.fromkeys(tested) if tested.count(name) > 1]


def _scale_notes(plan: Plan, size_um: float) -> list[str]:
    """How each stain comes to the pixel size of the tiles."""
    notes = []
    for side in dict.fromkeys(job.side.side for job in plan.jobs):
        ratios = sorted({job.ratio for job in plan.jobs if job.side.side == side})
        found = f"{ratios[0]:.4g}" if len(ratios) == 1 else f"{ratios[0]:.4g} to {ratios[-1]:.4g}"
        how = "the files' own" if ratios == [1] else f"means of {found} px of the files a side"
        notes.append(f"{side}: tiles of {size_um:.6g} µm pixels, {how}")
    return notes
