"""Registered pairs in, a dataset in the data contract out: normalised (§2.5), masked (§2.8), divided."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from bundle.common.atomic import check_writable, whole_file, whole_folder, write_json
from bundle.common.checks import listed, place_faults
from bundle.common.command_line import as_bool
from bundle.common.config_text import check_names
from bundle.common.errors import InputError, PausedError
from bundle.common.run_folder import read_record
from bundle.common.values import is_number
from bundle.data.datalist import DATALIST
from bundle.images.parts import MARGIN_PX
from bundle.images.slides import write_slide
from bundle.preparation.pairs.normalisation import (
    BACKGROUND_INTENSITY,
    BONE_INTENSITY,
    C_PRIME,
    SOURCE_MAX,
    TARGET_MAX,
    C,
)
from bundle.preparation.pairs.page import dataset_page, pair_section, roi_section, rois_page
from bundle.preparation.pairs.prepared import Constants, constants_of, prepare_pair
from bundle.preparation.pairs.regions import PROPOSAL, regions_of, was_shown
from bundle.preparation.pairs.registered import Registration, list_pairs, read_images
from bundle.preparation.pairs.rois import Rois
from bundle.preparation.pairs.slide_pairs import DATASET_PAGE, OWN_PAIRS, RECORD, all_slides, write_slide_pairs
from bundle.preparation.pairs.table import Row, read_table, splits_of, without_table

ROIS_PAGE = "rois.html"
WIDEST_PX = 1000  # of a mask's margin


def prepare(
    pairs: str,
    output: str,
    approve: bool = False,
    table: str | None = None,
    keep: Sequence[str] | None = None,
    source_name: str | None = None,
    target_name: str = "stain",
    c: float = C,
    c_prime: float = C_PRIME,
    margin_px: float = MARGIN_PX,
    replace: bool = False,
) -> str:
    """Make a dataset of registered pairs, whole or not at all.

    Pairs of two slides go in as they are: no regions, nothing normalised. Of the others,
    without ``--approve true`` it stops after proposing regions of bone and background for pairs whose user drew none;
    PAIRS/rois.html shows them.

    Args:
        pairs: the folder that ``python -m scripts.register`` wrote, one folder a pair.
        output: the dataset's folder; made, or empty.
        approve: use the regions that rois.html shows for pairs whose region of interest nobody drew.
        table: CSV with the columns pair, specimen, group, split, fold; without it each pair is a specimen of its own,
            for training, and folds are left to the loader.
        keep: names of pairs to take although their registration was not accepted, ``"[04, 07]"``.
        source_name: what reports call the sources; none for µCT, or for slides "source stain".
        target_name: what reports call the stain.
        c: grey levels kept below bone in the stretch of the stain (§2.5; the value is ours).
        c_prime: grey levels kept above background, likewise.
        margin_px: background kept around bone and screw in the masks, px (§2.8; the value is ours).
        replace: replace a dataset that stands in ``output``.

    Returns:
        What was made.

    Raises:
        InputError: with one line for each fault.
        PausedError: if there are none, but proposals to approve.
    """
    root, folder = Path(str(pairs)), Path(str(output))
    approved = as_bool("approve", approve)
    _check_options(root, folder, as_bool("replace", replace), c, c_prime, margin_px)
    check_names({"source_name": str(source_name), "target_name": str(target_name)})
    found, ignored = list_pairs(root)
    kept, left_out = _accepted(found, ignored, keep)
    slides = all_slides(root, kept)
    source_name = ("source stain" if slides else "µCT") if source_name is None else str(source_name)
    names = [pair.name for pair in kept]
    rows = without_table(names) if table is None else read_table(table, names, left_out)
    if slides:
        check_writable(folder.parent)
        with whole_folder(folder) as partial:
            names_of = {"source": source_name, "target": str(target_name)}
            write_slide_pairs(partial, folder.name, kept, rows, names_of, left_out)
        return _told(kept, folder, left_out)
    rois, constants = _settle_regions(root, kept, approved, c, c_prime, left_out)
    modalities = {
        "source": {
            "name": source_name,
            "channels": 1,
            "range": [0, SOURCE_MAX],
            "bone_intensity": BONE_INTENSITY,
            "background_intensity": BACKGROUND_INTENSITY,
        },
        "target": {"name": str(target_name), "channels": 3, "range": [0, TARGET_MAX]},
    }
    check_writable(folder.parent)
    with whole_folder(folder) as partial:
        facts, sections = _write_pairs(partial, kept, rows, rois, constants, margin_px)
        record = {"c": c, "c_prime": c_prime, "margin_px": margin_px, "left_out": left_out, "pairs": facts}
        write_json(partial / RECORD, record)
        write_json(
            partial / DATALIST, {"pixel_um": kept[0].voxel_um, **modalities, **splits_of(rows, ("ct", "stain", "mask"))}
        )
        page = dataset_page(folder.name, record, {name: asdict(row) for name, row in rows.items()}, sections)
        (partial / DATASET_PAGE).write_text(page, encoding="utf-8")
    return _told(kept, folder, left_out)


def _told(kept: list[Registration], folder: Path, left_out: Mapping[str, str]) -> str:
    apart = f" Left out: {listed(left_out)}." if left_out else ""
    return f"{len(kept)} pairs in {folder}.{apart} Look at {folder / DATASET_PAGE}."


def _check_options(root: Path, folder: Path, replace: bool, c: float, c_prime: float, margin_px: float) -> None:
    faults = [
        f"{name} is {value!r}; it must be a number, 0 or more."
        for name, value in (("c", c), ("c_prime", c_prime), ("margin_px", margin_px))
        if not is_number(value) or value < 0
    ]
    if not faults:
        levels = (("c", c), ("c_prime", c_prime))
        faults += [f"{name} is {value!r}; it must be at most 255 grey levels." for name, value in levels if value > 255]
    if not faults and margin_px > WIDEST_PX:
        faults.append(f"margin_px is {margin_px!r}; it must be at most {WIDEST_PX}.")
    if folder.resolve() == root.resolve() or root.resolve() in folder.resolve().parents:
        faults.append(f"output {folder} lies in pairs {root}, where each folder is a pair; name one elsewhere.")
    else:
        faults += place_faults(folder, replace, _is_own, f"{RECORD} of its own")
    if faults:
        raise InputError("\n".join(faults))


def _is_own(folder: Path) -> bool:
    return (folder / RECORD).is_file() and read_record(folder / RECORD).get("kind") != OWN_PAIRS


def _accepted(
    found: list[Registration], ignored: dict[str, str], keep: Sequence[str] | None
) -> tuple[list[Registration], dict[str, str]]:
    """Pairs to take, and those left out with the reason."""
    listing = keep.strip("[] ").split(",") if isinstance(keep, str) else keep  # fire leaves [02] a word
    words = [listing] if isinstance(listing, int) else listing or []
    wanted = [word.strip(" '\"") if isinstance(word, str) else word for word in words]
    names = [pair.name for pair in found]
    matches = {str(word): [name for name in names if _is_named(name, word)] for word in wanted}
    unknown = [word for word, pairs in matches.items() if not pairs]
    if unknown:
        raise InputError(f"keep names {listed(unknown)}; the pairs are {listed(names)}.")
    chosen = {name for pairs in matches.values() for name in pairs}
    kept = [pair for pair in found if pair.accepted or pair.name in chosen]
    reason = "its registration was not accepted (--keep takes it all the same)"
    left_out = {**ignored, **{pair.name: reason for pair in found if pair not in kept}}
    if not kept:
        raise InputError(f"no pair is left: {listed(names)} were not accepted in registration; --keep names some.")
    return kept, left_out


def _is_named(name: str, word: str | int) -> bool:
    """Whether an option means a pair; fire reads 07 as the number 7."""
    return name == str(word) or (isinstance(word, int) and name.isdecimal() and int(name) == word)


def _settle_regions(
    root: Path, kept: list[Registration], approved: bool, c: float, c_prime: float, left_out: Mapping[str, str]
) -> tuple[dict[str, dict[str, Rois]], dict[str, Constants]]:
    """Regions and constants of every pair, and the page that shows them.

    Raises:
        InputError: with all faults of all pairs.
        PausedError: if there are none, but proposals to approve.
    """
    page = root / ROIS_PAGE
    faults: list[str] = []
    rois: dict[str, dict[str, Rois]] = {}
    constants: dict[str, Constants] = {}
    sections: list[dict[str, Any]] = []
    unseen: list[str] = []
    proposed: list[str] = []
    for pair in tqdm(kept, desc="regions", unit="pair", dynamic_ncols=True):
        seen, before = was_shown(pair.folder, page), len(faults)
        try:
            images = read_images(pair.folder)
            found = regions_of(pair.folder, images, pair.voxel_um, faults)
            sections.append(roi_section(pair.name, images, found, pair.voxel_um))
            if len(faults) == before:
                constants[pair.name] = constants_of(pair.name, images, found, c, c_prime)
        except InputError as error:
            faults += [line if pair.name in line else f"{pair.name}: {line}" for line in str(error).splitlines()]
            continue
        rois[pair.name] = found
        if any(region.origin == PROPOSAL for region in found.values()):
            proposed.append(pair.name)
            unseen += [] if seen else [pair.name]
    with whole_file(page) as partial:
        partial.write_text(rois_page(root.name, sections, faults), encoding="utf-8")
    if proposed and (unseen or not approved):
        wrong = bool(faults)
        new = f" New since the page was last written: {listed(unseen)}." if approved else ""
        faults.append(
            f"{len(proposed)} of {len(kept)} pairs have proposed regions ({listed(proposed)}).{new} Look at {page}; "
            "draw your own where it is wrong (rois.json or rois.png in the pair's folder); then run again with "
            "--approve true." + (f" Left out: {listed(left_out)}; dataset.html will say why." if left_out else "")
        )
        if not wrong:
            raise PausedError(faults[0])
    if faults:
        raise InputError("\n".join(faults))
    return rois, constants


def _write_pairs(
    folder: Path,
    kept: list[Registration],
    rows: dict[str, Row],
    rois: dict[str, dict[str, Rois]],
    constants: dict[str, Constants],
    margin_px: float,
) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    """Write the images of every pair; returns what is known of each, and its part of the page."""
    faults: list[str] = []
    facts: dict[str, Any] = {}
    sections: dict[str, dict[str, Any]] = {}
    for pair in tqdm(kept, desc="pairs", unit="pair", dynamic_ncols=True):
        images = read_images(pair.folder)
        try:
            made = prepare_pair(pair, images, rois[pair.name], constants[pair.name], margin_px)
        except InputError as error:
            faults.append(str(error))
            continue
        mask = made.mask[None].astype(np.uint8) * 255
        for where, pixels in (("ct", made.source[None]), ("stain", made.target), ("mask", mask)):
            write_slide(folder / where / f"{pair.name}.png", pixels, pair.voxel_um)
        facts[pair.name] = made.facts
        sections[pair.name] = pair_section(pair.name, images, made, asdict(rows[pair.name]), pair.voxel_um)
    if faults:
        raise InputError("\n".join(faults))
    return facts, sections
