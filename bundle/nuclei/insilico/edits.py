"""Variants of a tile: a file of named lists of edits, read and checked."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bundle.common.errors import InputError
from bundle.nuclei.insilico.channels import OPERATIONS, REQUIRED, Edit

KEYS = ("variants", "description")
WORD = re.compile(r"[A-Za-z0-9][A-Za-z0-9 _-]*")


def generator(seed: int, tile: str, variant: str) -> np.random.Generator:
    """Random numbers of one variant of one tile, whatever was drawn for others and in which order."""
    digest = hashlib.sha256(json.dumps([tile, variant]).encode()).digest()
    return np.random.default_rng([seed, *np.frombuffer(digest, "<u4").tolist()])


def read_variants(path: str | Path, channels: Sequence[str]) -> dict[str, tuple[Edit, ...]]:
    """Read a file of edits: ``{"variants": {"no membrane": [{"edit": "suppress", "channel": "membrane"}], …}}``.

    A variant without edits is the round trip alone. ``"description"`` beside ``"variants"`` is for the reader.

    Args:
        path: JSON.
        channels: the names of the model's channels, in order.

    Returns:
        The edits of each variant, in the file's order.

    Raises:
        InputError: with a line for each fault, and what is known.
    """
    file = Path(path)
    if not file.is_file():
        raise InputError(f"edits {file} does not exist; configs/edits holds examples.")
    faults: list[str] = []
    try:
        listed = json.loads(file.read_text(encoding="utf-8"), object_pairs_hook=lambda pairs: _once(pairs, faults))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"edits {file} is not valid JSON: {error}") from error
    variants = listed.get("variants") if isinstance(listed, dict) else None
    if not isinstance(variants, dict) or not variants:
        raise InputError(f'edits {file} has no variants; give {{"variants": {{"name": [{{"edit": …}}, …], …}}}}.')
    faults += [f"unknown key {key!r}; known are variants, description." for key in listed if key not in KEYS]
    faults += _name_faults(variants)
    read = {}
    for name, edits in variants.items():
        if not isinstance(edits, list):
            faults.append(f"variant {name!r} is {edits!r}; it must be a list of edits, [] for none.")
            continue
        made = [_edit(each, channels, f"variant {name!r}, edit {number}", faults) for number, each in _numbered(edits)]
        read[name] = tuple(edit for edit in made if edit is not None)
    if faults:
        raise InputError("\n".join(f"edits {file}: {fault}" for fault in faults))
    return read


def file_word(variant: str) -> str:
    """A variant's name as a file's name has it: ``no membrane`` is ``no_membrane``; never two underscores."""
    return re.sub(r"[ _]+", "_", variant.strip())


def _once(pairs: list[tuple[str, Any]], faults: list[str]) -> dict[str, Any]:
    names = [name for name, _ in pairs]
    faults += [f"{name!r} stands twice in one object; keep one." for name in set(names) if names.count(name) > 1]
    return dict(pairs)


def _numbered(items: Sequence[Any]) -> list[tuple[int, Any]]:
    return list(enumerate(items, start=1))


def _name_faults(variants: Mapping[str, Any]) -> list[str]:
    wrong = [name for name in variants if not WORD.fullmatch(name)]
    faults = [f"variant {name!r} becomes part of file names; use letters, digits, spaces, - and _." for name in wrong]
    words = [file_word(name).lower() for name in variants]
    twice = [name for name, word in zip(variants, words, strict=True) if words.count(word) > 1]
    return faults + ([f"variants {', '.join(map(repr, twice))} would have the same file names."] if twice else [])


def _edit(given: Any, channels: Sequence[str], where: str, faults: list[str]) -> Edit | None:
    """An edit as it stands in JSON; None, and lines in ``faults``, if it is none."""
    name = given.get("edit") if isinstance(given, dict) else None
    if not isinstance(name, str) or name not in OPERATIONS:
        faults.append(
            f"{where}: {name if name is not None else given!r} is no edit; known are {', '.join(OPERATIONS)}."
        )
        return None
    operation, found = OPERATIONS[name], len(faults)
    known = operation.arguments
    unknown = [key for key in given if key not in known and key != "edit"]
    faults += [f"{where}: {name} has no argument {key!r}; known are {', '.join(known)}." for key in unknown]
    values = {}
    for key, kind in known.items():
        value = given.get(key, kind.default)
        if value is REQUIRED:
            faults.append(f"{where}: {name} names no {key}; {kind.fault(None, channels)}.")
            continue
        wrong = kind.fault(value, channels) if key in given else None
        if wrong:
            faults.append(f"{where}: {key} of {name} is {value!r}; {wrong}.")
        values[key] = value
    if values.get("other") == values.get("channel") and "other" in known and len(faults) == found:
        faults.append(f"{where}: {name} names {values['other']!r} twice; name two channels.")
    if len(faults) > found:
        return None
    return Edit(operation, {key: known[key].read(value, channels) for key, value in values.items()})
