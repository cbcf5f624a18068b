"""Which animal a pair is of, by its name, and which pairs no training sees."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bundle.common.checks import listed
from bundle.common.errors import InputError
from bundle.common.values import first_spelling, is_number, is_text, shown
from bundle.data.datalist import Pair
from bundle.data.folds import assign_folds
from bundle.preparation.pairs.matching import pattern_of
from bundle.preparation.pairs.table import Row

EACH_FILE = "file"  # each pair is of an animal of its own


def specimens_of(given: Any, stems: Mapping[str, str]) -> dict[str, str]:
    """The animal of each pair.

    Args:
        given: a pattern, see :func:`~bundle.preparation.pairs.matching.pattern_of`, or ``file``.
        stems: by pair, the name of its source.

    Raises:
        InputError: if it is no pattern, or with a line for each pair that it does not fit.
    """
    if given == EACH_FILE:
        return {name: name for name in stems}
    return _named("specimen", given, stems)


def groups_of(given: Any, stems: Mapping[str, str]) -> dict[str, str]:
    """The group of each pair, likewise; nothing if no pattern is given."""
    return {} if given is None else _named("group", given, stems)


def _named(option: str, given: Any, stems: Mapping[str, str]) -> dict[str, str]:
    text = str(given)
    if not is_text(text):
        raise InputError(f"{option} is {shown(given)}; it must be a pattern.")
    find = pattern_of(option, text)
    found = {name: find(stem) for name, stem in stems.items()}
    without = [stems[name] for name, value in found.items() if value is None]
    if without:
        raise InputError("\n".join(f"{option} {shown(text)} is not in the name {stem}." for stem in without))
    return {name: value for name, value in found.items() if value is not None}


def divided(
    specimens: Mapping[str, str], groups: Mapping[str, str], testing: Any, folds: Any, seed: int
) -> dict[str, Row]:
    """Where each pair belongs: specimens whole, groups in proportion.

    Args:
        specimens: by pair.
        groups: by pair, if known.
        testing: share of the specimens for testing, or their names; None takes none.
        folds: number the training pairs so many folds; None leaves that open.
        seed: of the choice.

    Raises:
        InputError: if the share leaves none on a side, a name is unknown, or there are too few specimens for the folds.
    """
    if type(seed) is not int or seed < 0:
        raise InputError(f"seed is {shown(seed)}; it must be a whole number of at least 0.")
    spelled = first_spelling(specimens.values())
    of_pair = {name: spelled[specimen] for name, specimen in specimens.items()}
    group_of = {of_pair[name]: groups.get(name, "") for name in reversed(list(specimens))}
    apart = _tested(testing, dict(sorted(group_of.items())), seed)
    training = [name for name in specimens if of_pair[name] not in apart]
    if not training:
        raise InputError(f"testing is {shown(testing)}; no specimen would be left for training.")
    numbers: dict[str, int] = {}
    if folds is not None:
        if type(folds) is not int or folds < 2:
            raise InputError(f"folds is {shown(folds)}; it must be a whole number of at least 2.")
        nowhere = Path()
        pairs = [Pair(name, nowhere, nowhere, None, of_pair[name], groups.get(name), None) for name in training]
        numbers = dict(zip(training, assign_folds(pairs, folds), strict=True))
    return {
        name: Row(of_pair[name], groups.get(name), "training" if name in training else "testing", numbers.get(name))
        for name in specimens
    }


def share_or_names(word: str) -> float | str:
    """What a command line gives of a test set: a share as a number; names as typed, as 1e3 may be one."""
    try:
        share = float(word)
    except ValueError:
        return word
    return share if 0 < share < 1 else word


def _tested(testing: Any, groups: Mapping[str, str], seed: int) -> set[str]:
    """The specimens for testing.

    Args:
        testing: see :func:`divided`.
        groups: by specimen.
        seed: see there.
    """
    if testing is None:
        return set()
    if is_number(testing) and 0 < testing < 1:
        count = max(1, round(testing * len(groups)))
        return set(_spread(groups, seed)[:count])
    asked = testing.strip("[] ").split(",") if isinstance(testing, str) else testing
    words: Sequence[Any] = asked if isinstance(asked, list | tuple) else [asked]
    chosen: set[str] = set()
    for word in words:
        text = str(word).strip(" '\"")
        named = {name for name in groups if name == text or _is_number_of(name, word)}
        if not named:
            raise InputError(
                f"testing is {shown(testing)}; give a share between 0 and 1, or names of specimens, which are "
                f"{listed(list(groups))}."
            )
        chosen |= named
    return chosen


def _is_number_of(name: str, word: Any) -> bool:
    """Whether an option means a name; fire reads 07 as the number 7."""
    return type(word) is int and name.isdecimal() and int(name) == word


def _spread(groups: Mapping[str, str], seed: int) -> list[str]:
    """Specimens in random order, such that the first ones, however many, have the groups in proportion."""
    rng = np.random.default_rng(seed)
    places = []
    for group in sorted(set(groups.values())):
        own = [specimen for specimen in groups if groups[specimen] == group]
        for place, which in enumerate(rng.permutation(len(own))):
            places.append(((place + 0.5) / len(own), group, own[which]))
    return [specimen for _, _, specimen in sorted(places)]
