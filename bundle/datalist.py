"""What a ``datalist.json`` declares: modalities, pairs, tissues."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from bundle.errors import InputError

DATALIST = "datalist.json"  # the list of a dataset, if no other is named
SPLITS = ("training", "validation", "testing")
LIST_KEYS = {"pixel_um", "allow_same_specimen", "source", "target", "tissues", "training", "testing", "description"}
ENTRY_KEYS = {"source", "target", "mask", "labels", "perfect", "specimen", "group", "fold"}


@dataclass(frozen=True)
class Modality:
    """What ``datalist.json`` declares of the source or the target.

    Attributes:
        name: what a report calls it, for example ``SR-µCT``.
        channels: 1 or 3.
        low: the value that becomes −1 inside.
        high: the value that becomes 1 inside.
        bone_intensity: mean grey value of bone in every image of the dataset, if declared (§2.5).
        background_intensity: mean grey value of background, likewise.
    """

    name: str
    channels: int
    low: float
    high: float
    bone_intensity: float | None = None
    background_intensity: float | None = None

    def __str__(self) -> str:
        """In words, for messages."""
        levels = ""
        if self.bone_intensity is not None and self.background_intensity is not None:
            levels = f", bone {self.bone_intensity:g}, background {self.background_intensity:g}"
        return f"{self.name} ({self.channels} channel(s), {self.low:g} to {self.high:g}{levels})"


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


@dataclass
class Datalist:
    """A checked dataset.

    Attributes:
        folder: the dataset folder.
        pixel_um: pixel size of every image in µm.
        source: what the source images are.
        target: what the target images are.
        training: pairs to train on (those of other folds than the validation fold).
        validation: pairs of the validation fold; empty when no fold is named.
        testing: pairs that no training ever sees.
        tissues: the label values of each tissue, if the dataset has label images; else empty.
        description: what the dataset says of itself.
        allow_same_specimen: the dataset divides one specimen between splits, and says so.
        source_background: mean source outside the training masks, in file units; None if nothing is outside.
        background_rgb: mean target outside the training masks, one value per channel; None likewise.
        checksums: SHA-256 of every file read, by its path in the datalist.
    """

    folder: Path
    pixel_um: float
    source: Modality
    target: Modality
    allow_same_specimen: bool = False
    training: list[Pair] = field(default_factory=list)
    validation: list[Pair] = field(default_factory=list)
    testing: list[Pair] = field(default_factory=list)
    tissues: dict[str, list[int]] = field(default_factory=dict)
    description: str = ""
    source_background: list[float] | None = None
    background_rgb: list[float] | None = None
    checksums: dict[str, str] = field(default_factory=dict)

    @property
    def caveat(self) -> str:
        """What every report on this dataset repeats; empty if there is nothing to say."""
        if not self.allow_same_specimen:
            return ""
        return "One specimen stands in more than one split of this dataset: the figures say little about another one."


def read_json(path: Path) -> dict[str, Any]:
    """The list as it stands.

    Raises:
        InputError: if it is missing, no JSON, or no object.
    """
    if not path.is_file():
        raise InputError(f"{path} does not exist; a dataset folder holds a datalist.json (README, your own data).")
    try:
        listed = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{path} is not valid JSON: {error}") from error
    if not isinstance(listed, dict):
        raise InputError(f"{path} holds a {type(listed).__name__}; it must be one object.")
    return listed


def is_number(value: Any) -> bool:
    """Whether a value of JSON is a finite number."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and bool(np.isfinite(value))


def modality(listed: Mapping[str, Any], key: str, datalist: str, faults: list[str]) -> Modality | None:
    """The source or target as declared; None, and lines in ``faults``, if that is not enough."""
    declared = listed.get(key)
    if not isinstance(declared, dict):
        faults.append(f"{datalist}: {key} is {declared!r}; declare its name, channels and range.")
        return None
    name: Any = declared.get("name")
    channels: Any = declared.get("channels")
    limits: Any = declared.get("range")
    found = len(faults)
    if not isinstance(name, str) or not name:
        faults.append(f"{datalist}: {key}.name is {name!r}; name the modality, for example 'SR-µCT'.")
    if channels not in (1, 3):
        faults.append(f"{datalist}: {key}.channels is {channels!r}; it must be 1 or 3.")
    ordered = isinstance(limits, list) and len(limits) == 2 and all(map(is_number, limits)) and limits[0] < limits[1]
    if not ordered:
        faults.append(
            f"{datalist}: {key}.range is {limits!r}; give [lowest, highest], it is never taken from the data."
        )
    levels = [declared.get("bone_intensity"), declared.get("background_intensity")]
    if levels != [None, None] and not (all(map(is_number, levels)) and levels[0] != levels[1]):
        faults.append(f"{datalist}: {key}: bone_intensity and background_intensity are {levels}; give both or none.")
    if len(faults) > found:
        return None
    return Modality(name, channels, float(limits[0]), float(limits[1]), *levels)


def tissues_of(listed: Mapping[str, Any], datalist: str, faults: list[str]) -> dict[str, list[int]]:
    """The label values of each tissue, as declared; no value may count as two tissues."""
    tissues: Any = listed.get("tissues") or {}
    well = isinstance(tissues, dict) and all(
        isinstance(values, list) and all(isinstance(value, int) and 0 <= value <= 255 for value in values)
        for values in tissues.values()
    )
    if not well:
        faults.append(f'{datalist}: tissues is {tissues!r}; name tissues with their label values, {{"bone": [6, 7]}}.')
        return {}
    every = [value for values in tissues.values() for value in values]
    twice = sorted({value for value in every if every.count(value) > 1})
    if twice:
        faults.append(f"{datalist}: tissues gives label {twice} to more than one tissue; give it to one.")
    return tissues


def entries(listed: Mapping[str, Any], split: str, folder: Path, datalist: str, faults: list[str]) -> list[Pair]:
    """The pairs of a split; entries that are no pair become lines in ``faults``."""
    pairs = []
    halves: list[str] = []
    for number, entry in enumerate(listed.get(split) or []):
        label = f"{datalist}, {split}[{number}]"
        if not isinstance(entry, dict):
            faults.append(f"{label}: is {entry!r}; it must be an object with source and target.")
            continue
        for key in sorted(set(entry) - ENTRY_KEYS):
            faults.append(f"{label}: unknown key {key!r}; known are {', '.join(sorted(ENTRY_KEYS))}.")
        missing = [key for key in ("source", "target") if not isinstance(entry.get(key), str)]
        if missing:
            halves.append(f"{split}[{number}] has no {' and no '.join(missing)}")
            continue
        fold = entry.get("fold")
        mask, labels, perfect = (
            folder / entry[key] if entry.get(key) else None for key in ("mask", "labels", "perfect")
        )
        if fold is not None and not isinstance(fold, int):
            faults.append(f"{label}: fold is {fold!r}; it must be a whole number.")
        pairs.append(
            Pair(
                label,
                folder / entry["source"],
                folder / entry["target"],
                mask,
                str(entry.get("specimen", entry["source"])),
                entry.get("group"),
                fold,
                labels,
                perfect,
            )
        )
    if halves:
        more = f" and {len(halves) - 1} more are no pairs either" if len(halves) > 1 else ""
        faults.append(f"{datalist}: {halves[0]}{more}; this method needs pairs, source and target in every entry.")
    return pairs
