"""What images of pairs say of themselves, and what is still to be asked."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from bundle.common.checks import listed
from bundle.common.errors import InputError
from bundle.common.values import is_number, is_size_um, shown
from bundle.images.slides import read_slide
from bundle.preparation.pairs.asked import Question
from bundle.preparation.pairs.division import specimens_of

SIDES = ("source", "target")
RANGE = {"source": "range", "target": "target_range"}  # the options
RANGES = {"uint8": [0, 255], "uint16": [0, 65535]}
SAME = 1e-3  # of pixel sizes; PNG rounds them to whole pixels a metre


@dataclass(frozen=True)
class Seen:
    """One image, in short.

    Attributes:
        path: the file.
        channels: how many.
        kind: NumPy's name of its type.
        low: its lowest value; NaN where all are.
        high: its highest.
        pixel_um: what it states, if anything.
        grey: its channels, three or more, are all the same.
    """

    path: Path
    channels: int
    kind: str
    low: float
    high: float
    pixel_um: float | None
    grey: bool


@dataclass(frozen=True)
class Stated:
    """What the images of all pairs say, by side."""

    images: Mapping[str, Sequence[Seen]]

    def channels(self, side: str) -> int:
        """How many channels an image of a side has; of several numbers the one that most have."""
        return Counter(each.channels for each in self.images[side]).most_common(1)[0][0]

    def kinds(self, side: str) -> list[str]:
        """The types that a side's images have."""
        return sorted({each.kind for each in self.images[side]})

    @property
    def sizes(self) -> list[float]:
        """The pixel sizes that files state, those that are one by rounding once."""
        found: list[float] = []
        for size in sorted(each.pixel_um for side in SIDES for each in self.images[side] if each.pixel_um is not None):
            if not found or size > found[-1] * (1 + SAME):
                found.append(size)
        return found

    @property
    def silent(self) -> list[str]:
        """The files that state no pixel size."""
        return [each.path.name for side in SIDES for each in self.images[side] if each.pixel_um is None]

    def settled(self, given: Mapping[str, Any], stems: Mapping[str, str]) -> dict[str, Any]:
        """What is known by options, and failing them by the files; what is not, is left out.

        Args:
            given: options, None where they are not.
            stems: by pair, the name of its source.

        Raises:
            InputError: with a line for each option that is wrong.
        """
        known: dict[str, Any] = {}
        faults: list[str] = []
        readers = {
            "pixel_um": read_size,
            "range": read_range,
            "target_range": read_range,
            "specimen": lambda text: specimens_of(text, stems),
        }
        for option, value in given.items():
            if value is None:
                continue
            try:
                known[option] = readers[option](value)
            except InputError as error:
                faults += [line if line.startswith(option) else f"{option} {line}" for line in str(error).splitlines()]
        if faults:
            raise InputError("\n".join(faults))
        if "pixel_um" not in known and len(self.sizes) == 1 and not self.silent:
            known["pixel_um"] = round(self.sizes[0], 6)
        for side, option in RANGE.items():
            kinds = self.kinds(side)
            if option not in known and len(kinds) == 1 and kinds[0] in RANGES:
                known[option] = RANGES[kinds[0]]
        return known

    def notes(self, known: Mapping[str, Any]) -> list[str]:
        """What was settled and on what it rests, a line each."""
        size = known["pixel_um"]
        others = [each for each in self.sizes if abs(each / size - 1) > SAME]
        lines = [f"pixels of {size:g} µm" + (", as all files state" if self.sizes and not self.silent else "")]
        if others:
            lines = [f"pixels of {size:g} µm, though files state {_sizes(others)}"]
        for side, option in RANGE.items():
            low, high = known[option]
            lines.append(
                f"{side}: {self.channels(side)} channel(s) of {'/'.join(self.kinds(side))}, {low:g} to {high:g}"
            )
        if all(each.grey for each in self.images["source"]):
            lines.append("source images are grey in colour files: the network sees three equal channels")
        return lines


def read_all(pairs: Mapping[str, Mapping[str, Path]]) -> Stated:
    """Look at every source and target.

    Raises:
        InputError: with a line for each that cannot be read.
    """
    faults: list[str] = []
    images: dict[str, list[Seen]] = {side: [] for side in SIDES}
    for files in tqdm(pairs.values(), desc="reading", unit="pair", dynamic_ncols=True):
        for side in SIDES:
            try:
                slide = read_slide(files[side])
            except InputError as error:
                faults.append(f"{side} {error}")
                continue
            pixels = slide.pixels
            finite = pixels[np.isfinite(pixels)]
            low, high = (float(finite.min()), float(finite.max())) if finite.size else (np.nan, np.nan)
            grey = len(pixels) > 2 and bool((pixels == pixels[:1]).all())
            images[side].append(Seen(files[side], len(pixels), pixels.dtype.name, low, high, slide.pixel_um, grey))
    if faults:
        raise InputError("\n".join(faults))
    return Stated(images)


def missing(stated: Stated, known: Mapping[str, Any], stems: Mapping[str, str]) -> list[Question]:
    """What is still to be asked, in the order of its weight."""
    questions = []
    if "pixel_um" not in known:
        why = f"{listed(stated.silent, 3)} state no pixel size"
        if stated.sizes:
            why = f"files state pixels of {_sizes(stated.sizes)}" + (f", and {why}" if stated.silent else "")
        questions.append(Question("pixel_um", f"the pixel size is not known: {why}", "5.0 (µm)", read_size))
    for side, option in RANGE.items():
        if option not in known:
            seen = stated.images[side]
            low, high = min(each.low for each in seen), max(each.high for each in seen)
            why = (
                f"the range of the {side}s' values is not known: files of {' and '.join(stated.kinds(side))} do not "
                f"say what is black and what white; they hold {low:g} to {high:g}"
            )
            questions.append(Question(option, why, '"[LOWEST, HIGHEST]"', read_range))
    if "specimen" not in known:
        names = listed(list(stems.values()), 4)
        why = f"which animal each image is of is not known: {names}"
        example = '"rat{}", a regular expression with one group, or file (each pair an animal of its own)'
        questions.append(Question("specimen", why, example, lambda text: specimens_of(text, stems)))
    return questions


def read_size(given: Any) -> float:
    """A pixel size in µm, as an option or as text.

    Raises:
        InputError: if it is none.
    """
    size = _number(given)
    if size is None or not is_size_um(size):
        raise InputError(f"pixel_um is {shown(given)}; give the side of a pixel in µm.")
    return float(size)


def read_range(given: Any) -> list[float]:
    """The values that are black and white, as an option or as text.

    Raises:
        InputError: if they are none.
    """
    parts = re.split(r"[\s,;]+", given.strip("[]() ")) if isinstance(given, str) else given
    limits = [
        number for part in (parts if isinstance(parts, Sequence) else []) if (number := _number(part)) is not None
    ]
    if len(limits) != 2 or len(parts) != 2 or limits[0] >= limits[1]:
        raise InputError(f'is {shown(given)}; give "[LOWEST, HIGHEST]", two numbers.')
    return limits


def _number(given: Any) -> float | None:
    if isinstance(given, str):
        try:
            given = float(given.replace("µm", "").replace("um", ""))
        except ValueError:
            return None
    if not is_number(given):
        return None
    return int(given) if float(given).is_integer() else float(given)


def _sizes(sizes: Sequence[float]) -> str:
    return f"{listed([f'{size:.4g}' for size in sizes], 4)} µm"
