"""The table of a study: specimen, group, split and fold of each pair."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bundle.common.checks import listed
from bundle.common.errors import InputError
from bundle.common.values import first_spelling, is_text, shown
from bundle.preparation.csv_tables import open_table

COLUMNS = ("pair", "specimen", "group", "split", "fold")
SPLITS = ("training", "testing")


@dataclass(frozen=True)
class Row:
    """Where one pair belongs.

    Attributes:
        specimen: what must not be divided; the pair itself where the table says nothing.
        group: the implant material, if stated.
        split: ``training`` or ``testing``.
        fold: of a cross-validation, if stated.
    """

    specimen: str
    group: str | None = None
    split: str = "training"
    fold: int | None = None


def without_table(names: Collection[str]) -> dict[str, Row]:
    """Every pair a specimen of its own, for training, folds left to the loader."""
    return {name: Row(name) for name in names}


def read_table(path: str | Path, names: Collection[str], left_out: Collection[str] = ()) -> dict[str, Row]:
    """Read a CSV with the columns pair, specimen, group, split, fold; cells but ``pair`` may be empty.

    Args:
        path: UTF-8, separated by commas or by semicolons.
        names: of the pairs that go into the dataset; each needs a line.
        left_out: of the pairs that do not; they may have one.

    Returns:
        The row of each pair in ``names``.

    Raises:
        InputError: with a line for each fault: unreadable, a column missing or unknown, a pair unknown, twice or not
            there, an unknown split, a fold that is no whole number, stands at a test pair or is missing at some
            training pairs, a specimen on two sides or in two folds, nothing to train on.
    """
    file = Path(str(path))
    heads, lines = open_table(file)
    wrong = [head for head in heads if head not in COLUMNS]
    if "pair" not in heads or wrong:
        raise InputError(
            f"table {file} has columns {heads}; give {','.join(COLUMNS)} (pair is needed, others may lack)."
        )
    faults: list[str] = []
    found: dict[str, Row] = {}
    for number, line in enumerate(lines, start=2):
        cells = {str(head).strip(): (cell or "").strip() for head, cell in line.items() if isinstance(cell, str | None)}
        if None in line:
            faults.append(f"table {file}, line {number}: has more cells than columns; quote what holds a comma.")
        name = cells["pair"]
        if not any(cells.values()):
            continue
        if name not in names and name not in left_out:
            faults.append(f"table {file}, line {number}: pair {name!r} is not there; the pairs are {listed(names)}.")
        elif name in found:
            faults.append(f"table {file}, line {number}: pair {name!r} has a line already; keep one.")
        else:
            found[name] = _row(cells, f"table {file}, line {number}", faults)
    faults += [f"table {file}: pair {name!r} has no line; add one." for name in names if name not in found]
    kept = {name: found[name] for name in names if name in found}
    faults += [f"table {file}: {fault}" for fault in division_faults(kept)]
    if faults:
        raise InputError("\n".join(faults))
    return kept


def _row(cells: dict[str, str], where: str, faults: list[str]) -> Row:
    split, fold = cells.get("split") or "training", cells.get("fold") or ""
    if split not in SPLITS:
        faults.append(f"{where}: split is {split!r}; it is training or testing (empty is training).")
    specimen, group = cells.get("specimen") or cells["pair"], cells.get("group") or None
    for name, value in (("specimen", specimen), ("group", group)):
        if value is not None and not is_text(value):
            faults.append(f"{where}: {name} is {value!r}; it must be a name.")
    if len(fold) > 9:
        faults.append(f"{where}: fold is {shown(fold)}; it must be a small whole number, or empty.")
        fold = ""
    elif fold and not fold.isdecimal():
        faults.append(f"{where}: fold is {fold!r}; it must be a whole number, or empty.")
    elif fold and split == "testing":
        faults.append(f"{where}: a test pair has fold {fold}; folds divide the training pairs, leave it empty.")
    number = int(fold) if fold.isdecimal() else None
    return Row(specimen, group, split, number)


def division_faults(rows: dict[str, Row]) -> list[str]:
    """What is wrong with how pairs are divided, a line each."""
    faults = []
    spelled = first_spelling(row.specimen for row in rows.values())
    for specimen in dict.fromkeys(spelled.values()):
        own = {name: row for name, row in rows.items() if spelled[row.specimen] == specimen}
        sides, folds = {row.split for row in own.values()}, {row.fold for row in own.values()}
        if len(sides) > 1:
            faults.append(f"specimen {specimen!r} is in training and in testing ({listed(own)}); move it to one side.")
        elif len(folds) > 1:
            faults.append(f"specimen {specimen!r} is in more than one fold ({listed(own)}); give its pairs one fold.")
    training = {name: row for name, row in rows.items() if row.split == "training"}
    if not training and rows:
        faults.append("no pair is for training; give at least one.")
    bare = [name for name, row in training.items() if row.fold is None]
    if bare and len(bare) < len(training):
        faults.append(f"{listed(bare)} have no fold but other training pairs do; give each one, or none.")
    return faults


def splits_of(rows: dict[str, Row], folders: tuple[str, str, str]) -> dict[str, list[dict[str, Any]]]:
    """The splits of a datalist.

    Args:
        rows: of each pair.
        folders: of its source, target and mask, each a PNG by the pair's name.
    """
    splits: dict[str, list[dict[str, Any]]] = {"training": [], "testing": []}
    for name, row in rows.items():
        entry: dict[str, Any] = {
            key: f"{where}/{name}.png" for key, where in zip(("source", "target", "mask"), folders, strict=True)
        }
        entry["specimen"] = row.specimen
        entry |= {key: value for key, value in (("group", row.group), ("fold", row.fold)) if value is not None}
        splits[row.split].append(entry)
    return splits
