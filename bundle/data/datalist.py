"""What a ``datalist.json`` declares: modalities, pairs, tissues."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from bundle.common.config_text import config_fault
from bundle.common.errors import InputError
from bundle.common.values import is_number, is_text, shown

DATALIST = "datalist.json"  # the list of a dataset, if no other is named
SPLITS = ("training", "validation", "testing")
SIDES = ("source", "target")
FILE_KEYS = (*SIDES, "mask", "labels", "perfect")
LIST_KEYS = {"pixel_um", "allow_same_specimen", "source", "target", "tissues", "training", "testing", "description"}


@dataclass(frozen=True)
class Modality:
    """What ``datalist.json`` declares of the source or the target.

    Attributes:
        name: what a report calls it, for example ``SR-µCT``.
        channels: 1 of a grey image, 3 of a colour image, any number of fluorescence, of energies or of slices.
        low: the value that becomes −1 inside.
        high: the value that becomes 1 inside.
        bone_intensity: mean grey value of bone in every image of the dataset, if declared (§2.5).
        background_intensity: mean grey value of background, likewise.
        channel_names: what each channel shows, for example ``DAPI``; empty if that is not declared.
    """

    name: str
    channels: int
    low: float
    high: float
    bone_intensity: float | None = None
    background_intensity: float | None = None
    channel_names: tuple[str, ...] = ()

    @property
    def is_brightfield(self) -> bool:
        """RGB of stained tissue on white, and not three channels of fluorescence, which have names of their own."""
        return self.channels == 3 and not self.channel_names

    @property
    def shown_channels(self) -> int:
        """Channels of a source as a network sees it: a grey one is repeated to three, as in the papers."""
        return 3 if self.channels == 1 else self.channels

    def __str__(self) -> str:
        """In words, for messages."""
        levels = ""
        if self.bone_intensity is not None and self.background_intensity is not None:
            levels = f", bone {self.bone_intensity:g}, background {self.background_intensity:g}"
        names = f": {', '.join(self.channel_names)}" if self.channel_names else ""
        return f"{self.name} ({self.channels} channel(s){names}, {self.low:g} to {self.high:g}{levels})"


@dataclass(frozen=True)
class Pair:
    """One entry of a datalist.

    Attributes:
        label: where it stands, for messages.
        source: the image to stain.
        target: the registered stain.
        mask: where the two may be compared; None compares everywhere.
        specimen: what must not be divided between splits.
        group: what folds keep in proportion.
        fold: of a cross-validation.
        labels: the tissue in each pixel of the source, if known.
        perfect: what a perfect stain of the source would be, if known (phantoms).
    """

    label: str
    source: Path
    target: Path
    mask: Path | None
    specimen: str
    group: str | None
    fold: int | None
    labels: Path | None = None
    perfect: Path | None = None


@dataclass(frozen=True)
class Image:
    """One image of an unpaired dataset.

    Attributes:
        label: where it stands, for messages.
        side: ``source`` or ``target``.
        path: the file.
        mask: where it shows something; None means everywhere.
        specimen: what must not be divided between splits.
        group: what folds keep in proportion.
        fold: of a cross-validation.
    """

    label: str
    side: str
    path: Path
    mask: Path | None
    specimen: str
    group: str | None
    fold: int | None


@dataclass
class Datalist:
    """A checked dataset.

    Attributes:
        folder: the dataset folder.
        pixel_um: pixel size of every image in µm.
        source: what the source images are.
        target: what the target images are.
        paired: every entry must have source and target, registered to each other.
        training: pairs to train on (those of other folds than the validation fold).
        validation: pairs of the validation fold; empty when no fold is named.
        testing: pairs that no training ever sees.
        single: by split, the images of entries with a source or a target alone; none if ``paired``.
        tissues: the label values of each tissue, if the dataset has label images; else empty.
        description: what the dataset says of itself.
        allow_same_specimen: the dataset divides one specimen between splits, and says so.
        source_background: mean source outside the training masks, in file units; None if nothing is outside.
        background_rgb: mean target outside the training masks, one value per channel; None likewise.
        checksums: SHA-256 of every file read, by its path in the datalist.
        contents: of each image what it shows, by its file; see :func:`bundle.data.leaks.content`.
    """

    folder: Path
    pixel_um: float
    source: Modality
    target: Modality
    allow_same_specimen: bool = False
    paired: bool = True
    training: list[Pair] = field(default_factory=list)
    validation: list[Pair] = field(default_factory=list)
    testing: list[Pair] = field(default_factory=list)
    single: dict[str, list[Image]] = field(default_factory=dict)
    tissues: dict[str, list[int]] = field(default_factory=dict)
    description: str = ""
    source_background: list[float] | None = None
    background_rgb: list[float] | None = None
    checksums: dict[str, str] = field(default_factory=dict)
    contents: dict[Path, str | None] = field(default_factory=dict)

    def images(self, split: str, side: str) -> list[Image]:
        """Every image of one side of a split, whether its entry has the other side or not.

        Args:
            split: one of ``SPLITS``.
            side: ``source`` or ``target``.
        """
        pairs: list[Pair] = getattr(self, split)
        both = [
            Image(pair.label, side, getattr(pair, side), pair.mask, pair.specimen, pair.group, pair.fold)
            for pair in pairs
        ]
        return both + [image for image in self.single.get(split, []) if image.side == side]

    def listed(self, split: str) -> list[tuple[str, dict[str, Path]]]:
        """The images of each entry of a split, by side, with its label."""
        pairs = [(pair.label, {side: getattr(pair, side) for side in SIDES}) for pair in getattr(self, split)]
        return pairs + [(image.label, {image.side: image.path}) for image in self.single.get(split, [])]

    def counted(self, split: str) -> str:
        """How many pairs, or images of each side, a split has, in words."""
        if self.paired:
            number = len(getattr(self, split))
            return f"{number} pair{'s' * (number != 1)}"
        return " and ".join(f"{len(self.images(split, side))} of {getattr(self, side).name}" for side in SIDES)

    @property
    def caveat(self) -> str:
        """What every report on this dataset repeats; empty if there is nothing to say."""
        if not self.allow_same_specimen:
            return ""
        return "One specimen stands in more than one split of this dataset: the figures say little about another one."


def name_in(folder: Path, path: Path) -> str:
    """What tables and checksums call a file: its path in the dataset's folder, all of it if it lies outside."""
    return str(path.relative_to(folder) if path.is_relative_to(folder) else path)


def read_json(path: Path) -> dict[str, Any]:
    """The list as it stands.

    Raises:
        InputError: if it is missing, no JSON, no object, or describes itself in what a config would run.
    """
    if not path.is_file():
        raise InputError(f"{path} does not exist; a dataset folder holds a datalist.json (docs/your-data.md).")
    try:
        listed = json.loads(path.read_bytes().decode("utf-8-sig"), object_pairs_hook=_each_key_once)
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not UTF-8 text (byte {error.start}); save it anew as UTF-8.") from error
    except RecursionError as error:
        raise InputError(f"{path} is nested deeper than any datalist; look at its brackets.") from error
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}).") from error
    except ValueError as error:
        raise InputError(
            f"{path} is not valid JSON: {error}; JSON has no comments, and no comma after a last item."
        ) from error
    if not isinstance(listed, dict):
        raise InputError(f"{path} holds a {type(listed).__name__}; it must be one object.")
    about = listed.get("description", "")
    if about != "" and not is_text(about):
        raise InputError(f"{path.name}: description is {shown(about)}; it must be text.")
    if fault := config_fault(f"{path.name}: description", about):
        raise InputError(fault)
    return listed


def _each_key_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object of JSON, in which Python would take the last of two values for one key."""
    content = dict(pairs)
    if len(content) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in content if keys.count(key) > 1)
        raise ValueError(f"the key {shown(twice)} stands twice in one object")
    return content


def _is_range(low: float, high: float) -> bool:
    """Whether 32 bits can scale by two limits: not the same there, and not endlessly far apart."""
    with np.errstate(over="ignore", invalid="ignore"):
        span = np.float32(high) - np.float32(low)
    return bool(0 < span < np.inf)


def modality(listed: Mapping[str, Any], key: str, datalist: str, faults: list[str]) -> Modality | None:
    """The source or target as declared; None, and lines in ``faults``, if that is not enough."""
    declared = listed.get(key)
    if not isinstance(declared, dict):
        faults.append(f"{datalist}: {key} is {shown(declared)}; declare its name, channels and range.")
        return None
    name: Any = declared.get("name")
    channels: Any = declared.get("channels")
    limits: Any = declared.get("range")
    found = len(faults)
    if not is_text(name):
        faults.append(f"{datalist}: {key}.name is {shown(name)}; name the modality, for example 'SR-µCT'.")
    elif fault := config_fault(f"{datalist}: {key}.name", name):
        faults.append(fault)
    if not isinstance(channels, int) or isinstance(channels, bool) or channels < 1:
        faults.append(
            f"{datalist}: {key}.channels is {shown(channels)}; it must be 1 (grey), 3 (RGB) or another number of "
            "channels."
        )
    names = declared.get("channel_names", [])
    if not isinstance(names, list) or not all(is_text(one) for one in names):
        faults.append(f"{datalist}: {key}.channel_names is {shown(names)}; it must be a list of names.")
    elif found_in := [fault for one in names if (fault := config_fault(f"{datalist}: {key}.channel_names", one))]:
        faults += found_in
    elif names and (len(names) != channels or len(set(names)) != len(names)):
        faults.append(f"{datalist}: {key}.channel_names is {shown(names)}; name each of the {channels} channels, once.")
    if not (isinstance(limits, list) and len(limits) == 2 and all(map(is_number, limits)) and _is_range(*limits)):
        faults.append(
            f"{datalist}: {key}.range is {shown(limits)}; give [lowest, highest], it is never taken from the data."
        )
    levels = [declared.get("bone_intensity"), declared.get("background_intensity")]
    if levels != [None, None] and not (all(map(is_number, levels)) and levels[0] != levels[1]):
        faults.append(
            f"{datalist}: {key}: bone_intensity and background_intensity are {shown(levels)}; give both or none."
        )
    if len(faults) > found:
        return None
    bone, background = levels
    return Modality(name, channels, float(limits[0]), float(limits[1]), bone, background, tuple(names))


def tissues_of(listed: Mapping[str, Any], datalist: str, faults: list[str]) -> dict[str, list[int]]:
    """The label values of each tissue, as declared; no value may count as two tissues."""
    tissues: Any = listed.get("tissues", {})
    well = isinstance(tissues, dict) and all(
        isinstance(values, list) and all(type(value) is int and 0 <= value <= 255 for value in values)
        for values in tissues.values()
    )
    if not well:
        faults.append(
            f'{datalist}: tissues is {shown(tissues)}; name tissues with their label values, {{"bone": [6, 7]}}.'
        )
        return {}
    every = [value for values in tissues.values() for value in values]
    twice = sorted({value for value in every if every.count(value) > 1})
    if twice:
        faults.append(f"{datalist}: tissues gives label {twice} to more than one tissue; give it to one.")
    return tissues
