"""One stain: its images, what they hold, and how tissue shows in them; checked before anything is cut."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bundle.common.checks import listed
from bundle.common.errors import InputError
from bundle.common.values import is_number
from bundle.images.channel_slides import Facts, facts_of, ratio_of
from bundle.images.tissue import KINDS, Kind
from bundle.images.whole_slides import SAME
from bundle.preparation.tiles.slides import slide_name


@dataclass(frozen=True)
class Asked:
    """What the command line says of one stain; None where it says nothing.

    Attributes:
        side: ``source`` or ``target``.
        name: of the stain.
        pixel_um: of its files, in µm.
        limits: [lowest, highest] value.
        kind: one of ``KINDS``.
        threshold: of the tissue's signal.
        channels: names of all, or a number (from 0) for each name.
    """

    side: str
    name: str
    pixel_um: Any = None
    limits: Any = None
    kind: Any = None
    threshold: Any = None
    channels: Any = None


@dataclass(frozen=True)
class Side:
    """One stain, checked.

    Attributes:
        side: ``source`` or ``target``.
        name: of the stain.
        slides: its images by name.
        pixel_um: their pixel sizes in µm, likewise.
        limits: lowest and highest value.
        kind: how tissue shows.
        kind_name: its name.
        threshold: of the signal; None leaves it to the kind.
        channel_names: in the order of the tiles' channels; empty if not declared.
        chosen: which channels of the files to take; None for all.
    """

    side: str
    name: str
    slides: dict[str, Facts]
    pixel_um: dict[str, float]
    limits: tuple[float, float]
    kind: Kind
    kind_name: str
    threshold: float | None
    channel_names: tuple[str, ...]
    chosen: tuple[int, ...] | None

    @property
    def first(self) -> Facts:
        """Of an image; the others have the same type and channels."""
        return next(iter(self.slides.values()))

    @property
    def channels(self) -> int:
        """How many a tile has."""
        return self.first.channels if self.chosen is None else len(self.chosen)

    @property
    def suffix(self) -> str:
        """Of the tiles: PNG if it can hold them."""
        fits = {np.dtype(np.uint8): (1, 3), np.dtype(np.uint16): (1,)}
        return ".png" if self.channels in fits.get(self.first.dtype, ()) else ".tif"

    def declared(self) -> dict[str, Any]:
        """For ``datalist.json``."""
        names = {"channel_names": list(self.channel_names)} if self.channel_names else {}
        return {"name": self.name, "channels": self.channels, **names, "range": list(self.limits)}


def checked(asked: Asked, files: Sequence[Path], notes: list[str]) -> Side:
    """Read the headers of all files of a stain and hold them against the command line.

    Args:
        asked: what the command line says.
        files: the images.
        notes: gains a line for each file whose stated pixel size is overruled.

    Raises:
        InputError: with a line for each fault.
    """
    faults: list[str] = []
    slides: dict[str, Facts] = {}
    for path in files:
        try:
            slides[slide_name(path)] = facts_of(path)
        except InputError as error:
            faults += str(error).splitlines()
    sizes = {name: _pixel_um(asked, facts, faults, notes) for name, facts in slides.items()}
    if slides:
        faults += _differences(asked.side, list(slides.values()))
    if faults:
        raise InputError("\n".join(faults))
    first = next(iter(slides.values()))
    limits = _limits(asked, first, faults)
    kind_name = asked.kind or ("brightfield" if first.rgb else "fluorescence")
    if kind_name not in KINDS:
        faults.append(f"{asked.side}_kind is {asked.kind!r}; it is {' or '.join(KINDS)}.")
    if asked.threshold is not None and not is_number(asked.threshold):
        faults.append(f"{asked.side}_threshold is {asked.threshold!r}; it must be a number.")
    names, chosen = _channels(asked, first, faults)
    if faults:
        raise InputError("\n".join(faults))
    kind = KINDS[kind_name]
    return Side(asked.side, asked.name, slides, sizes, limits, kind, kind_name, asked.threshold, names, chosen)


def _pixel_um(asked: Asked, facts: Facts, faults: list[str], notes: list[str]) -> float:
    stated = facts.stated_um
    if asked.pixel_um is not None:
        if stated is not None and abs(stated[1] / asked.pixel_um - 1) > SAME:
            notes.append(f"{facts.path} states pixels of {stated[1]:.4g} µm; {asked.pixel_um:g} µm is used instead")
        return float(asked.pixel_um)
    if stated is None:
        faults.append(f"{facts.path} states no pixel size; give it in µm with --pixel_um, it is never assumed.")
        return 1.0
    if abs(stated[0] / stated[1] - 1) > SAME:
        faults.append(
            f"{facts.path} has pixels of {stated[0]:.6g}×{stated[1]:.6g} µm, not squares; resample it, or give "
            "--pixel_um if it errs."
        )
    return stated[1]


def _differences(side: str, slides: Sequence[Facts]) -> list[str]:
    """A line for each image that has not the channels and type of the first."""
    kinds = [f"{facts.channels} channel(s) of {facts.dtype}" for facts in slides]
    return [
        f"{side}: {facts.path} has {kind}, but {slides[0].path} has {kinds[0]}; convert it or leave it out."
        for facts, kind in zip(slides, kinds, strict=True)
        if kind != kinds[0]
    ]


def _limits(asked: Asked, first: Facts, faults: list[str]) -> tuple[float, float]:
    limits = asked.limits
    if limits is None:
        if first.dtype != np.uint8:
            highest = 4095 if first.dtype == np.uint16 else 1
            faults.append(
                f"{asked.side}: {first.path} is {first.dtype}, whose range is not known; declare it, for example "
                f'--{asked.side}_range "[0, {highest}]", it is never taken from the data.'
            )
        return 0, 255
    well = isinstance(limits, (list, tuple)) and len(limits) == 2 and all(map(is_number, limits))
    if not well or not limits[0] < limits[1]:
        faults.append(f"{asked.side}_range is {limits!r}; give [lowest, highest].")
        return 0, 255
    return limits[0], limits[1]


def _channels(asked: Asked, first: Facts, faults: list[str]) -> tuple[tuple[str, ...], tuple[int, ...] | None]:
    """Names of the channels, and which to take."""
    given = asked.channels
    if given is None:
        return (), None
    if isinstance(given, Mapping):
        wrong = [number for number in given.values() if number not in range(first.channels)]
        if wrong or not given:
            faults.append(
                f"{asked.side}_channels takes channel {listed([str(number) for number in wrong]) or 'none'} of "
                f"{first.path}, which has 0 to {first.channels - 1}."
            )
        return tuple(map(str, given)), tuple(given.values())
    names = given.strip("[] ").split(",") if isinstance(given, str) else given
    if not isinstance(names, (list, tuple)) or len(names) != first.channels:
        faults.append(
            f"{asked.side}_channels is {given!r}, but {first.path} has {first.channels}; name each, or take some by "
            f'number: --{asked.side}_channels "{{DAPI: 0, membrane: 4}}".'
        )
        return (), None
    return tuple(str(name).strip(" '\"") for name in names), None


def pixel_sizes(value: Any) -> tuple[Any, Any]:
    """``--pixel_um`` for source and target: one number for both, or two.

    Raises:
        InputError: if it is neither.
    """
    both = value if isinstance(value, (list, tuple)) else (value, value)
    if len(both) != 2 or not all(each is None or (is_number(each) and each > 0) for each in both):
        raise InputError(f"pixel_um is {value!r}; give µm above 0, one number, or two for source and target.")
    return both[0], both[1]


def scale_of(sides: Sequence[Side], tile_um: Any, shrink: Any) -> tuple[float, dict[tuple[str, str], float]]:
    """The pixel size of the tiles, and how many pixels of each image one of theirs is long.

    Args:
        sides: both stains.
        tile_um: the size in µm, or None.
        shrink: how many pixels of a file, all of one size, or None.

    Returns:
        The size in µm, and the ratio of each image by side and slide.

    Raises:
        InputError: if both are given, or no one size fits all files.
    """
    sizes = {(side.side, name): size for side in sides for name, size in side.pixel_um.items()}
    if tile_um is not None:
        if shrink is not None:
            raise InputError(f"tile_um is {tile_um!r} and shrink is {shrink!r}; give one of the two.")
        if not is_number(tile_um) or tile_um <= 0:
            raise InputError(f"tile_um is {tile_um!r}; it must be a pixel size in µm, above 0.")
        facts = {(side.side, name): each for side in sides for name, each in side.slides.items()}
        faults: list[str] = []
        ratios = {}
        for key, size in sizes.items():
            try:
                ratios[key] = ratio_of(facts[key], size, tile_um)
            except InputError as error:
                faults.append(str(error))
        if faults:
            raise InputError("\n".join(faults))
        return float(tile_um), ratios
    factor = 1 if shrink is None else shrink
    if not is_number(factor) or factor < 1:
        raise InputError(f"shrink is {shrink!r}; it must be a number of pixels, 1 or more.")
    finest, coarsest = min(sizes, key=lambda key: sizes[key]), max(sizes, key=lambda key: sizes[key])
    if sizes[coarsest] > sizes[finest] * (1 + SAME):
        raise InputError(
            f"pixels are of {sizes[finest]:.6g} µm in {finest[0]} {finest[1]} but of {sizes[coarsest]:.6g} µm in "
            f"{coarsest[0]} {coarsest[1]}; give the tiles one size with --tile_um {sizes[coarsest]:.6g} or more."
        )
    return float(f"{sizes[coarsest] * factor:.6g}"), dict.fromkeys(sizes, float(factor))
