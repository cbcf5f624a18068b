"""Which files of two or three folders belong together, by their names."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bundle.common.checks import listed
from bundle.common.errors import InputError
from bundle.common.values import is_text, same_text, shown
from bundle.images.slides import SUFFIXES, suffix_of

TOKENS = re.compile(r"[^\W\d_]+|\d+|[\W_]")  # words, numbers, single signs
NAME = "{}"  # in a pattern: what two names have in common

Files = dict[str, list[Path]]  # by what a file is called, as its folder's naming has it


@dataclass(frozen=True)
class Matched:
    """What belongs together.

    Attributes:
        pairs: the files of each pair, by its name and then by side.
        faults: a line for each file that is in no pair.
        told: how names were compared.
    """

    pairs: dict[str, dict[str, Path]]
    faults: list[str]
    told: str


def images_in(folder: Path, option: str) -> list[Path]:
    """The images of a folder, in order of name.

    Raises:
        InputError: if it is none, or holds none.
    """
    if not folder.is_dir():
        raise InputError(f"{option} {folder} is no folder; name the one that holds the images.")
    files = sorted(file for file in folder.iterdir() if file.is_file() and suffix_of(file) and file.name[:1] != ".")
    if not files:
        inside = sorted(each.name for each in folder.iterdir() if each.is_dir())
        hint = f"; its folders are not searched: {listed(inside)}" if inside else ""
        raise InputError(f"{option} {folder} holds no image ({', '.join(SUFFIXES)}){hint}.")
    return files


def stem_of(path: Path) -> str:
    """The name of an image without its suffix."""
    return path.name[: -len(suffix_of(path))]


def match(sides: Mapping[str, Sequence[Path]], patterns: Mapping[str, str | None]) -> Matched:
    """Find the files that belong together: those of one name, or of one name but for what a folder's all have.

    The first way of comparing that leaves no file over is taken, of: whole names; without the words at the end, at the
    beginning, at both, that all files of a folder share. If none is, the one that leaves the fewest. Numbers are never
    set aside, case and the form of accented letters always.

    Args:
        sides: files by side, ``source`` and ``target`` at least.
        patterns: by side, the form of its names, ``{}`` for what they have in common with the others'; None finds it.

    Raises:
        InputError: if a pattern is none.
    """
    for side, pattern in patterns.items():
        if pattern is not None and (not is_text(pattern) or pattern.count(NAME) != 1):
            raise InputError(f'{side}_pattern is {shown(pattern)}; write {{}} once for the common part: "{{}}_ct".')
    best: Matched | None = None
    for front, back in ((False, False), (False, True), (True, False), (True, True)):
        affixes = {side: _common(files, front, back) for side, files in sides.items()}
        affixes |= {side: _of_pattern(pattern) for side, pattern in patterns.items() if pattern is not None}
        found = _matched(sides, affixes)
        if best is None or len(found.pairs) > len(best.pairs) or (not found.faults and best.faults):
            best = found
        if not found.faults:
            break
    assert best is not None  # of the four ways
    return best


def _of_pattern(pattern: str) -> tuple[str, str]:
    front, _, back = pattern.partition(NAME)
    return front, back


def _common(files: Sequence[Path], front: bool, back: bool) -> tuple[str, str]:
    """What the names of all files begin and end with, words and signs alone, and as much as leaves a word of each."""
    words = [TOKENS.findall(stem_of(file)) for file in files]
    if len(words) < 2:
        return "", ""
    ends = _shared([each[::-1] for each in words]) if back else []
    rest = [each[: len(each) - len(ends)] for each in words]
    return "".join(_shared(rest) if front else []), "".join(ends[::-1])


def _shared(words: Sequence[Sequence[str]]) -> list[str]:
    """The first words, as the first list spells them, that all lists begin with; never a number, never a whole list."""
    shared: list[str] = []
    for number in range(min(map(len, words)) - 1):
        alike = {same_text(each[number]) for each in words}
        if len(alike) > 1 or words[0][number].isdecimal():
            break
        shared.append(words[0][number])
    return shared


def _matched(sides: Mapping[str, Sequence[Path]], affixes: Mapping[str, tuple[str, str]]) -> Matched:
    faults: list[str] = []
    named: dict[str, Files] = {}
    for side, files in sides.items():
        named[side] = {}
        for file in files:
            key = _inner(stem_of(file), *affixes[side])
            if key is None:
                faults.append(f"{side} {file} is not named {NAME.join(affixes[side])}, as --{side}_pattern says.")
            else:
                named[side].setdefault(same_text(key), []).append(file)
    pairs: dict[str, dict[str, Path]] = {}
    for key, files in named["source"].items():
        if all(len(named[side].get(key, ())) == 1 for side in sides):
            name = str(_inner(stem_of(files[0]), *affixes["source"]))
            pairs[name] = {side: named[side][key][0] for side in sides}
    for side in sides:
        faults += _left_over(side, named)
    return Matched(pairs, faults, _told(affixes))


def _inner(stem: str, front: str, back: str) -> str | None:
    """What is left of a name between two ends; None if it has others, or nothing is left."""
    inner = stem[len(front) : len(stem) - len(back)]
    alike = same_text(stem) == same_text(front + inner + back)
    return inner if inner and alike else None


def _left_over(side: str, named: Mapping[str, Files]) -> list[str]:
    """A line for each file of a side that is in no pair."""
    lines = []
    for key, files in named[side].items():
        if len(files) > 1:
            lines.append(f"{side}: {listed([file.name for file in files])} have one name, {key!r}; keep one of them.")
            continue
        for other, there in named.items():
            if other == side or key in there:
                continue
            alone = [name for name in there if name not in named[side]]
            near = difflib.get_close_matches(key, alone or there, n=1, cutoff=0.5)
            hint = f"; did you mean {there[near[0]][0].name}?" if near else "."
            lines.append(f"{side} {files[0].name} has no {other}{hint}")
    return lines


def _told(affixes: Mapping[str, tuple[str, str]]) -> str:
    ends = {side: [end for end in both if end] for side, both in affixes.items()}
    parts = [f"{' and '.join(map(repr, found))} of the {side}s" for side, found in ends.items() if found]
    return f"names are compared without {', '.join(parts)}" if parts else "names are compared whole"


def pattern_of(option: str, pattern: str) -> Callable[[str], str | None]:
    """What a pattern finds in a name.

    Args:
        option: what gives it, for messages.
        pattern: text with one ``{}``, which stands for letters and digits: ``rat{}`` finds ``rat07`` in ``rat07_ct``;
            or a regular expression with one group, which is what is found.

    Raises:
        InputError: if it is neither.
    """
    if pattern.count(NAME) == 1:
        front, back = map(re.escape, _of_pattern(pattern))
        expression = f"({front}[^\\W_]+{back})"
    else:
        expression = pattern
    try:
        compiled = re.compile(expression)
    except re.error as error:
        raise InputError(f"{option} is {shown(pattern)}, which is no regular expression ({error}).") from error
    if compiled.groups != 1:
        raise InputError(
            f'{option} is {shown(pattern)}; write {{}} for the part that tells them apart ("rat{{}}"), or a regular '
            "expression with one group."
        )

    def find(name: str) -> str | None:
        found = compiled.search(name)
        return (found[1] or None) if found else None

    return find
