"""Two folders of images that are registered already in, a dataset in the data contract out: nobody writes JSON."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fire.decorators import SetParseFns

from bundle.common.atomic import check_writable, whole_folder, write_json
from bundle.common.checks import listed, place_faults
from bundle.common.command_line import as_bool
from bundle.common.config_text import check_names
from bundle.common.errors import InputError
from bundle.common.run_folder import read_record
from bundle.data.datalist import DATALIST
from bundle.data.load import load_datalist
from bundle.preparation.pairs.asked import answers
from bundle.preparation.pairs.division import divided, groups_of, share_or_names
from bundle.preparation.pairs.matching import images_in, match, stem_of
from bundle.preparation.pairs.own_page import own_page
from bundle.preparation.pairs.slide_pairs import DATASET_PAGE, OWN_PAIRS, RECORD
from bundle.preparation.pairs.stated import missing, read_all
from bundle.preparation.pairs.table import SPLITS, Row

LEVELS_NOTE = (
    "note: the grey values of bone and background are not declared, so a model of this dataset stains scans of the "
    "same scale alone; virtual-staining intensities finds them, --bone_intensity and --background_intensity declare "
    "them."
)


@SetParseFns(testing=share_or_names)
def pairs_from_folders(
    source: str,
    target: str,
    output: str,
    mask: str | None = None,
    pixel_um: float | None = None,
    range: Sequence[float] | None = None,  # noqa: A002  as datalist.json calls it
    target_range: Sequence[float] | None = None,
    specimen: str | None = None,
    group: str | None = None,
    testing: float | str | Sequence[str] | None = None,
    folds: int | None = None,
    source_name: str = "µCT",
    target_name: str = "stain",
    bone_intensity: float | None = None,
    background_intensity: float | None = None,
    source_pattern: str | None = None,
    target_pattern: str | None = None,
    mask_pattern: str | None = None,
    leave_out: bool = False,
    link: bool = False,
    seed: int = 0,
    replace: bool = False,
) -> str:
    """Make a dataset of your own registered pairs, two folders of images that belong together by name.

    The two images of a pair lie on one grid: each pixel shows the same place in both. What the files do not say is
    asked at a terminal; elsewhere all that is missing is listed with the options that give it.

    Args:
        source: the folder of the images to stain.
        target: the folder of the stained images, registered to them.
        output: the dataset's folder; made, or empty.
        mask: a folder of masks by the same names, 0 where source and target must not be compared; none compares all.
        pixel_um: pixel size in µm; none where all files state the same one.
        range: of the source's grey values, "[0, 65535]"; none takes that of files of 8 or 16 bits.
        target_range: the same of the target.
        specimen: which animal an image is of: "rat{}" finds rat07 in rat07_ct; or a regular expression with one group;
            or the word file, each pair an animal of its own. No animal stands in both training and
            testing.
        group: the implant material in the same way; folds and test set keep groups in proportion.
        testing: the share of specimens that no training sees, 0.2; or their names, "[rat07, rat09]".
        folds: divide the specimens into this many folds; None leaves that to the training.
        source_name: what reports call the sources.
        target_name: what reports call the stain.
        bone_intensity: mean grey value of bone in all sources; scripts.intensities finds it. None declares none.
        background_intensity: of background, likewise.
        source_pattern: what names in source look like, "{}_ct", where it is not found by itself.
        target_pattern: the same of target.
        mask_pattern: the same of mask.
        leave_out: leave out files without a partner.
        link: link to the images instead of copying them.
        seed: of the choice of test specimens.
        replace: replace a dataset that this command made in output.

    Returns:
        What was made, a line each.

    Raises:
        InputError: with a line for each fault; nothing is written.
    """
    folders = {"source": Path(str(source)), "target": Path(str(target))}
    folders |= {} if mask is None else {"mask": Path(str(mask))}
    folder = Path(str(output))
    names = {"source": str(source_name), "target": str(target_name)}
    _check_places(folders, folder, as_bool("replace", replace))
    check_names({f"{side}_name": name for side, name in names.items()})
    patterns = {"source": source_pattern, "target": target_pattern, "mask": mask_pattern}
    found = match(
        {side: images_in(where, side) for side, where in folders.items()}, {side: patterns[side] for side in folders}
    )
    left_out = _left_out(found.faults, as_bool("leave_out", leave_out), len(found.pairs))
    stems = {name: stem_of(files["source"]) for name, files in found.pairs.items()}
    given = {"pixel_um": pixel_um, "range": range, "target_range": target_range, "specimen": specimen}
    stated = read_all(found.pairs)
    known = stated.settled(given, stems)
    known |= answers(missing(stated, known, stems))
    rows = divided(known["specimen"], groups_of(group, stems), testing, folds, seed)
    levels = {"bone_intensity": bone_intensity, "background_intensity": background_intensity}
    listing = {
        "pixel_um": known["pixel_um"],
        "source": {"name": names["source"], "channels": stated.channels("source"), "range": known["range"]}
        | {key: value for key, value in levels.items() if value is not None},
        "target": {"name": names["target"], "channels": stated.channels("target"), "range": known["target_range"]},
    }
    _check_all(listing, found.pairs, rows)
    told = [found.told, *stated.notes(known), *_division_told(rows)]
    check_writable(folder.parent)
    with whole_folder(folder) as partial:
        places = _place(partial, found.pairs, as_bool("link", link))
        write_json(partial / DATALIST, {**listing, **_splits(places, rows)})
        files = {name: {side: str(path) for side, path in each.items()} for name, each in found.pairs.items()}
        write_json(partial / RECORD, {"kind": OWN_PAIRS, "told": told, "left_out": left_out, "pairs": files})
        page = own_page(folder.name, listing, found.pairs, rows, told, left_out)
        (partial / DATASET_PAGE).write_text(page, encoding="utf-8")
    return "\n".join(
        [*told, *(f"left out: {line}" for line in left_out), f"{len(rows)} pairs in {folder}."]
        + [LEVELS_NOTE] * (levels["bone_intensity"] is None)
        + [f"Look at {folder / DATASET_PAGE}: edges must fall together in each pair."]
    )


def _check_places(folders: Mapping[str, Path], output: Path, replace: bool) -> None:
    faults = []
    whole = {side: where.resolve() for side, where in folders.items()}
    for side, where in whole.items():
        twin = next((other for other in whole if other != side and whole[other] == where), None)
        if twin and side < twin:
            faults.append(f"{side} and {twin} are one folder, {folders[side]}; put their images into two.")
        if where in (output.resolve(), *output.resolve().parents) or output.resolve() in where.parents:
            faults.append(f"output {output} and {side} {folders[side]} lie in one another; name a folder elsewhere.")
    faults += place_faults(output, replace, _is_own, f"{RECORD} of its own")
    if faults:
        raise InputError("\n".join(faults))


def _is_own(folder: Path) -> bool:
    return (folder / RECORD).is_file() and read_record(folder / RECORD).get("kind") == OWN_PAIRS


def _left_out(faults: list[str], wanted: bool, pairs: int) -> list[str]:
    """Files that are in no pair, once that is meant."""
    if not pairs:
        faults = [
            *faults,
            "no two files belong together; say what names look like: --source_pattern, --target_pattern.",
        ]
    elif faults and not wanted:
        faults = [*faults, f"{pairs} pairs were found; mend these names, or pass --leave_out true to go on without."]
    if faults and not (wanted and pairs):
        raise InputError("\n".join(faults))
    return faults


def _check_all(listing: Mapping[str, Any], pairs: Mapping[str, Mapping[str, Path]], rows: Mapping[str, Row]) -> None:
    """What a training checks of a dataset, before anything is copied.

    Raises:
        InputError: as :func:`~bundle.data.load.load_datalist` says, of pairs by name and the files that are there.
    """
    files = {name: {side: path.resolve() for side, path in each.items()} for name, each in pairs.items()}
    splits = _splits(files, rows)
    with tempfile.TemporaryDirectory() as scratch:
        write_json(Path(scratch) / DATALIST, {**listing, **splits})
        try:
            load_datalist(scratch)
        except InputError as error:
            told = str(error)
        else:
            return
    for split, entries in splits.items():
        own = [name for name in rows if rows[name].split == split]
        for number in range(len(entries)):
            told = told.replace(f"{DATALIST}, {split}[{number}]", f"pair {own[number]}")
    raise InputError(told)


def _division_told(rows: Mapping[str, Row]) -> list[str]:
    """How many there are of what, and what is for testing."""
    specimens = {split: sorted({row.specimen for row in rows.values() if row.split == split}) for split in SPLITS}
    number = len(set(specimens["training"]) | set(specimens["testing"]))
    lines = [f"{len(rows)} pairs of {number} specimens"]
    tested = specimens["testing"]
    lines.append(
        f"for testing: {listed(tested)}" if tested else "no pair is for testing: --testing 0.2 keeps some apart"
    )
    return lines


def _splits(files: Mapping[str, Mapping[str, Path]], rows: Mapping[str, Row]) -> dict[str, list[dict[str, Any]]]:
    splits: dict[str, list[dict[str, Any]]] = {"training": [], "testing": []}
    for name, row in rows.items():
        about = {"specimen": row.specimen, "group": row.group, "fold": row.fold}
        entry = {side: path.as_posix() for side, path in files[name].items()}
        splits[row.split].append({**entry, **{key: value for key, value in about.items() if value is not None}})
    return splits


def _place(folder: Path, pairs: Mapping[str, Mapping[str, Path]], link: bool) -> dict[str, dict[str, Path]]:
    """Put the images into a dataset, under their own names; returns where in it they are."""
    places: dict[str, dict[str, Path]] = {}
    for name, files in pairs.items():
        places[name] = {side: Path(side) / path.name for side, path in files.items()}
        for side, place in places[name].items():
            (folder / side).mkdir(exist_ok=True)
            if link:
                (folder / place).symlink_to(files[side].resolve())
            else:
                shutil.copyfile(files[side], folder / place)
    return places
