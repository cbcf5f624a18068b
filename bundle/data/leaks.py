"""What stands on both sides of a split, by whatever name: specimens, and images by their pixels."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from bundle.common.checks import checksum
from bundle.common.values import same_text

WAY_OUT = 'move it to one side, or say "allow_same_specimen": true.'

Listed = tuple[str, Mapping[str, Path]]  # an entry: its label, and its image files by key


def content(pixels: np.ndarray) -> str | None:
    """What two images have in common that show the same, however they are stored; None of one of a single value.

    Args:
        pixels: (C, H, W).
    """
    if not pixels.size or pixels.min() == pixels.max():
        return None
    digest = hashlib.sha256(repr((pixels.shape, pixels.dtype.str)).encode())
    digest.update(np.ascontiguousarray(pixels).data)
    return digest.hexdigest()


def shared_specimens(specimens: Mapping[str, Iterable[str]], datalist: str) -> list[str]:
    """A line for each specimen of two splits, also where it is spelled otherwise.

    Args:
        specimens: by split.
        datalist: its name, for messages.
    """
    spelled = {split: {same_text(name): name for name in names} for split, names in specimens.items()}
    lines = []
    for one, other in itertools.combinations(spelled, 2):
        for name in sorted(spelled[one].keys() & spelled[other].keys()):
            first, second = spelled[one][name], spelled[other][name]
            too = "" if first == second else f" as {second!r}"
            both = f"specimen {first!r} is in {one} and{too} in {other}"
            lines.append(f"{datalist}: {both}, so the figures would flatter; {WAY_OUT}")
    return lines


def shared_images(entries: Mapping[str, Sequence[Listed]], contents: Mapping[Path, str | None]) -> list[str]:
    """A line for each entry of a split that shows an image of another split.

    Args:
        entries: by split.
        contents: of :func:`content`, by file.
    """
    lines = []
    for one, other in itertools.combinations(entries, 2):
        there = {
            (key, contents[path]): (label, path)
            for label, files in reversed(entries[one])
            for key, path in files.items()
            if contents.get(path)
        }
        for label, files in entries[other]:
            found = [(key, path) for key, path in files.items() if (key, contents.get(path)) in there]
            if found:
                key, path = found[0]
                first, same = there[key, contents[path]]
                lines.append(
                    f"{label}: {key} {path} shows what {same} shows, which {first} has for {one}, so the figures would "
                    f"flatter; {WAY_OUT}"
                )
    return lines


def repeated(entries: Sequence[Listed], contents: Mapping[Path, str | None]) -> list[str]:
    """A line for each entry that shows nothing but what an earlier one of its split shows.

    Args:
        entries: of one split.
        contents: as in :func:`shared_images`.
    """
    first: dict[tuple[tuple[str, str], ...], str] = {}
    lines = []
    for label, files in entries:
        shown = tuple((key, digest) for key, path in files.items() if (digest := contents.get(path)))
        if len(shown) < len(files):
            continue
        if shown in first:
            lines.append(f"{label}: shows the same as {first[shown]}; leave one of the two out.")
        first.setdefault(shown, label)
    return lines


def same_files(paths: Sequence[Path]) -> list[tuple[Path, Path]]:
    """Pairs of files that are one by a link, or a copy of the other.

    Args:
        paths: of files that are there.

    Returns:
        Each file that an earlier one is the same as, after that.
    """
    sizes: dict[int, list[Path]] = {}
    pairs = []
    for path in paths:
        for earlier in sizes.setdefault(path.stat().st_size, []):
            if earlier.samefile(path) or checksum(earlier) == checksum(path):
                pairs.append((earlier, path))
                break
        else:
            sizes[path.stat().st_size].append(path)
    return pairs
