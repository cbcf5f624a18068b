"""The entries of a ``datalist.json``: what their keys may hold, and the files that they name."""

from __future__ import annotations

import unicodedata
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from bundle.common.errors import InputError
from bundle.common.kinds import Kind
from bundle.common.values import is_text, shown
from bundle.data.datalist import FILE_KEYS, SIDES, Image, Pair

ENTRY_KEYS = {*FILE_KEYS, "specimen", "group", "fold"}
APART = (("source", "target"), ("source", "mask"), ("target", "mask"), ("image", "labels"))
NAMELESS = "leave the key out if there is none"


def _is_whole(value: Any) -> bool:
    return type(value) is int and value >= 0


def _is_name(value: Any) -> bool:
    return is_text(value) or _is_whole(value)


FILE = Kind(f"the name of a file; {NAMELESS}", lambda value: value is None or is_text(value))
KINDS = {
    **dict.fromkeys((*FILE_KEYS, "image"), FILE),
    "specimen": Kind(f"a name; {NAMELESS}", _is_name),
    "group": Kind(f"a name; {NAMELESS}", lambda value: value is None or _is_name(value)),
    "fold": Kind("a whole number of at least 0", lambda value: value is None or _is_whole(value)),
}


def entries_of(listed: Mapping[str, Any], split: str, datalist: str, faults: list[str]) -> list[Any]:
    """What a list has for a split, entries or not."""
    found: Any = listed.get(split, [])
    if isinstance(found, list):
        return found
    faults.append(f"{datalist}: {split} is {shown(found)}; it must be a list of entries.")
    return []


def unknown_keys(entry: Mapping[str, Any], label: str, known: Collection[str]) -> list[str]:
    """A line for each key of an entry that means nothing.

    Args:
        entry: an object of a datalist.
        label: where it stands.
        known: the keys that it may have.
    """
    unknown = sorted(set(entry) - set(known))
    return [f"{label}: unknown key {shown(key)}; known are {', '.join(sorted(known))}." for key in unknown]


def value_faults(entry: Mapping[str, Any], label: str, known: Collection[str]) -> list[str]:
    """A line for each key of an entry that holds what it may not; arguments as in :func:`unknown_keys`."""
    return [
        f"{label}: {key} is {shown(entry[key])}; it must be {KINDS[key].what}."
        for key in sorted(set(entry) & set(known))
        if not KINDS[key].fits(entry[key])
    ]


def file_of(folder: Path, name: str) -> Path:
    """The file that a list names, also where the disk has the name in Unicode's other form.

    Args:
        folder: of the dataset.
        name: as listed; a whole path, or one from the folder.

    Returns:
        Its path, which need not be there.

    Raises:
        InputError: if no file can have that name here; the message goes on from the key.
    """
    path = folder / name
    try:
        if path.exists():
            return path
    except OSError as error:
        raise InputError(f"is {shown(name)}, which no file can be called ({error.strerror}).") from error
    found = _of_other_form(path)
    if found is None and "\\" in name:
        raise InputError(f"is {name!r}, which is not there; write / between folders and file: {Path(_slashed(name))}.")
    return found or path


def _slashed(name: str) -> str:
    return name.replace("\\", "/")


def _of_other_form(path: Path) -> Path | None:
    """The one path that differs in the composition of its letters alone: é, or e and an accent, as macOS has it."""
    there = Path(path.anchor)
    for part in path.parts[len(there.parts) :]:
        if not (there / part).exists():
            try:
                alike = [each.name for each in there.iterdir() if _composed(each.name) == _composed(part)]
            except OSError:
                return None
            if len(alike) != 1:
                return None
            (part,) = alike
        there /= part
    return there


def _composed(name: str) -> str:
    return unicodedata.normalize("NFC", name)


def checked_files(
    entry: Any, keys: Collection[str], known: Collection[str], folder: Path, label: str, faults: list[str]
) -> dict[str, Path] | None:
    """The files of an entry that is well formed, by key; None, and lines in ``faults``, of one that is not.

    Args:
        entry: as listed.
        keys: of files.
        known: all keys that it may have.
        folder: of the dataset.
        label: where the entry stands.
        faults: gets a line for each thing that is wrong.
    """
    if not isinstance(entry, dict):
        faults.append(f"{label}: is {shown(entry)}; it must be an object with {' and '.join(list(keys)[:2])}.")
        return None
    faults += unknown_keys(entry, label, known)
    found = len(faults)
    faults += value_faults(entry, label, known)
    if len(faults) > found:
        return None
    files = {}
    for key in keys:
        if entry.get(key) is not None:
            try:
                files[key] = file_of(folder, entry[key])
            except InputError as error:
                faults.append(f"{label}: {key} {error}")
    faults += [
        f"{label}: {one} and {other} are one file, {shown(entry[one])}; name that of each."
        for one, other in APART
        if one in files and files[one] == files.get(other)
    ]
    return files if len(faults) == found else None


def entries(
    listed: Mapping[str, Any], split: str, folder: Path, datalist: str, faults: list[str], paired: bool = True
) -> tuple[list[Pair], list[Image]]:
    """The pairs of a split, and its single images; what may not be there becomes lines in ``faults``.

    Args:
        listed: the content of a datalist.
        split: one of ``SPLITS``.
        folder: of the dataset.
        datalist: its name, for messages.
        faults: gets a line for each entry that cannot be used.
        paired: an entry with a source or a target alone is a fault.
    """
    pairs: list[Pair] = []
    single: list[Image] = []
    halves: list[str] = []
    for number, entry in enumerate(entries_of(listed, split, datalist, faults)):
        label = f"{datalist}, {split}[{number}]"
        files = checked_files(entry, FILE_KEYS, ENTRY_KEYS, folder, label, faults)
        if files is None:
            continue
        missing = [key for key in SIDES if key not in files]
        if paired and missing:
            halves.append(f"{split}[{number}] has no {' and no '.join(missing)}")
        elif len(missing) == len(SIDES):
            faults.append(f"{label}: has no source and no target; name an image.")
        else:
            made = _made(label, files, entry)
            (pairs if isinstance(made, Pair) else single).append(made)  # type: ignore[arg-type]
    if halves:
        more = f" and {len(halves) - 1} more are no pairs either" if len(halves) > 1 else ""
        faults.append(f"{datalist}: {halves[0]}{more}; this method needs pairs, source and target in every entry.")
    return pairs, single


def _made(label: str, files: Mapping[str, Path], entry: Mapping[str, Any]) -> Pair | Image:
    """An entry with at least one side."""
    sides = [key for key in SIDES if key in files]
    group = entry.get("group")
    specimen = str(entry.get("specimen", entry[sides[0]]))
    about = (files.get("mask"), specimen, None if group is None else str(group), entry.get("fold"))
    if len(sides) < len(SIDES):
        return Image(label, sides[0], files[sides[0]], *about)
    return Pair(label, files["source"], files["target"], *about, files.get("labels"), files.get("perfect"))
