"""Which slides there are, of which specimens, and which of them are for testing."""

from __future__ import annotations

import glob
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import tifffile

from bundle.common.checks import listed
from bundle.common.errors import InputError
from bundle.common.values import first_spelling, is_text
from bundle.data.leaks import same_files
from bundle.images.slides import TIFF, reading
from bundle.images.tiff import ome_files
from bundle.images.whole_slides import SUFFIXES
from bundle.preparation.csv_tables import open_table


def find_files(option: str, value: Any) -> list[Path]:
    """The files that an option names: a file, a folder (its images), a pattern, or several of these.

    Args:
        option: its name, for messages.
        value: as fire reads it, a word or a list; several words may stand in one, with commas.

    Returns:
        In the order of the list, and by name within a folder or pattern.

    Raises:
        InputError: with a line for each word that names no image.
    """
    words = [value] if isinstance(value, (str, Path)) else value
    if isinstance(value, str) and "," in value and not Path(value).exists():
        words = value.strip("[] ").split(",")
    if not isinstance(words, (list, tuple)) or not words:
        raise InputError(
            f'{option} is {value!r}; name files, a folder or a pattern, for example --{option} "he/*.tif".'
        )
    files: list[Path] = []
    faults: list[str] = []
    for word in (str(word).strip(" '\"") for word in words):
        path = Path(word)
        if path.is_dir():
            found = sorted(each for each in path.iterdir() if not each.is_dir() and each.suffix.lower() in SUFFIXES)
            faults += [f"{option}: {each} is no file, or a link to none." for each in found if not each.is_file()]
        elif path.is_file():
            found = [path]
        else:
            found = sorted(Path(each) for each in glob.glob(word, recursive=True) if Path(each).is_file())  # noqa: PTH207 - absolute patterns
        if not found:
            faults.append(
                f"{option} {word!r} names no image ({', '.join(SUFFIXES)}); name files, a folder or a pattern."
            )
        files += found
    faults += [
        f"{option}: {path} is named twice; name it once." for path in sorted(set(files)) if files.count(path) > 1
    ]
    if faults:
        raise InputError("\n".join(faults))
    return files


def one_of_each(option: str, files: Sequence[Path], notes: list[str]) -> list[Path]:
    """Leave one file of each slide that lies in several: the levels of a DICOM series, the channels of an OME-TIFF.

    Args:
        option: its name, for messages.
        files: as listed.
        notes: gains a line for each slide of several files.

    Returns:
        The first file of each slide, in order.
    """
    slides: dict[Any, list[Path]] = {}
    for path in files:
        slides.setdefault(_slide_of(path), []).append(path)
    firsts = [parts[0] for parts in slides.values()]
    notes += [
        f"{option}: {listed([part.name for part in parts])} are one slide, {slide_name(parts[0])!r}"
        for parts in slides.values()
        if len(parts) > 1
    ]
    return firsts


def _slide_of(path: Path) -> Any:
    """What the files of one slide have in common."""
    suffix = path.suffix.lower()
    with reading(str(path)):
        if suffix == ".dcm":
            return pydicom.dcmread(path, specific_tags=["SeriesInstanceUID"]).get("SeriesInstanceUID", path)
        if suffix in TIFF:
            with tifffile.TiffFile(path) as file:
                return tuple(ome_files(path, file)) or path
    return path


def slide_name(path: Path) -> str:
    """The name of a slide: its file's, without suffix."""
    return path.stem.removesuffix(".ome")


def check_names(option: str, files: Sequence[Path]) -> None:
    """See that no two slides of a side have one name, and that none is there twice under two.

    Raises:
        InputError: with a line for each name that two have.
    """
    names = [slide_name(path) for path in files]
    faults = []
    for name in dict.fromkeys(names):
        alike = [str(path) for path, own in zip(files, names, strict=True) if own == name]
        if len(alike) > 1:
            faults.append(f"{option}: {listed(alike)} are both slide {name!r}; rename one.")
    faults += [f"{option}: {path} is the same file as {first}; leave one out." for first, path in same_files(files)]
    if faults:
        raise InputError("\n".join(faults))


def read_specimens(path: str | Path, names: Collection[str]) -> dict[str, str]:
    """Read a CSV with the columns slide, specimen.

    Args:
        path: UTF-8, separated by commas or by semicolons; a slide is named with or without suffix.
        names: of all slides; each needs a line.

    Returns:
        The specimen of each slide.

    Raises:
        InputError: with a line for each fault.
    """
    file = Path(str(path))
    heads, lines = open_table(file, "specimens")
    if not {"slide", "specimen"} <= set(heads):
        raise InputError(f"specimens {file} has columns {heads}; give slide,specimen.")
    faults: list[str] = []
    found: dict[str, str] = {}
    for number, line in enumerate(lines, start=2):
        cells = {str(head).strip(): str(cell or "").strip() for head, cell in line.items()}
        if not cells["slide"] and not cells["specimen"]:
            continue
        name = cells["slide"] if cells["slide"] in names else slide_name(Path(cells["slide"]))
        where = f"specimens {file}, line {number}"
        if not cells["specimen"]:
            faults.append(f"{where}: slide {name!r} has no specimen; name it.")
        elif not is_text(cells["specimen"]):
            faults.append(f"{where}: slide {name!r} has specimen {cells['specimen']!r}; it must be a name.")
        elif name not in names:
            faults.append(f"{where}: slide {name!r} is not there; the slides are {listed(names)}.")
        elif found.get(name, cells["specimen"]) != cells["specimen"]:
            faults.append(f"{where}: slide {name!r} has specimen {found[name]!r} already; keep one line.")
        found[name] = cells["specimen"]
    faults += [f"specimens {file}: slide {name!r} has no line; add one." for name in names if name not in found]
    if faults:
        raise InputError("\n".join(faults))
    spelled = first_spelling(found.values())
    return {name: spelled[specimen] for name, specimen in found.items()}


def pair_up(source: Sequence[str], target: Sequence[str]) -> dict[str, str]:
    """Which target slide is the section next to each source slide: that of the same name, else the next in order.

    Args:
        source: names, in order.
        target: likewise.

    Returns:
        The target of each source slide that has one.

    Raises:
        InputError: if no names agree and the numbers of slides do not either.
    """
    same = {name: name for name in source if name in target}
    if same:
        return same
    if len(source) != len(target):
        raise InputError(
            f"paired_testing: no source and target have the same name, and there are {len(source)} sources but "
            f"{len(target)} targets; name pairs alike, or give as many of each in the same order."
        )
    return dict(zip(source, target, strict=True))


def testing_specimens(testing: Any, specimens: dict[str, str], seed: int) -> set[str]:
    """The specimens to test on.

    Args:
        testing: a share of the specimens above 0 and below 1, or names of slides or specimens, one or a list.
        specimens: of each slide.
        seed: of the drawing.

    Returns:
        Names of specimens: all that a name means, or as many as come nearest to the share, at least one.

    Raises:
        InputError: if a name is unknown, the share is none, or nothing is left to train on.
    """
    every = sorted(set(specimens.values()))
    if isinstance(testing, float):
        if not 0 < testing < 1:
            raise InputError(f"testing is {testing}; give a share above 0 and below 1, or names of slides.")
        if len(every) < 2:
            raise InputError(
                f"testing is {testing} of the specimens, but there is only {listed(every)}; use --hold_out right:0.3."
            )
        number = min(max(1, round(testing * len(every))), len(every) - 1)
        return {every[at] for at in np.random.default_rng(seed).permutation(len(every))[:number]}
    words = testing.strip("[] ").split(",") if isinstance(testing, str) else testing
    chosen: set[str] = set()
    unknown: list[str] = []
    for word in words if isinstance(words, (list, tuple)) else [words]:
        named = str(word).strip(" '\"")
        found = {own for slide, own in specimens.items() if named in (slide, own, slide_name(Path(slide)))}
        found |= {own for slide, own in specimens.items() if isinstance(word, int) and _number(slide) == word}
        chosen |= found
        unknown += [] if found else [named]
    if unknown:
        raise InputError(f"testing names {listed(unknown)}; the slides are {listed(specimens)}.")
    if len(chosen) == len(every):
        raise InputError(f"testing takes every specimen ({listed(every)}); leave some to train on.")
    return chosen


def _number(name: str) -> int | None:
    """What fire makes of a name like 07."""
    return int(name) if name.isdecimal() else None
