"""Datasets: a folder with a ``datalist.json``, checked as a whole before anything runs."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from bundle.errors import InputError
from bundle.image_io import read_labels, read_mask, read_slide

SPLITS = ("training", "validation", "testing")
LIST_KEYS = {"pixel_um", "allow_same_specimen", "source", "target", "tissues", "training", "testing", "description"}
ENTRY_KEYS = {"source", "target", "mask", "labels", "specimen", "group", "fold"}


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


@dataclass(frozen=True)
class Pair:
    """One entry of a datalist: a registered source and target, where they may be compared, and what is there."""

    label: str
    source: Path
    target: Path
    mask: Path | None
    specimen: str
    group: str | None
    fold: int | None
    labels: Path | None = None


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
    source_background: list[float] | None = None
    background_rgb: list[float] | None = None
    checksums: dict[str, str] = field(default_factory=dict)

    @property
    def caveat(self) -> str:
        """What every report on this dataset repeats; empty if there is nothing to say."""
        if not self.allow_same_specimen:
            return ""
        return "One specimen stands in more than one split of this dataset: the figures say little about another one."


def load_datalist(
    dataset_dir: str | None, datalist: str = "datalist.json", fold: int | None = None, patch_size: int = 1
) -> Datalist:
    """Read a datalist and check every file it names.

    Args:
        dataset_dir: the dataset folder.
        datalist: name of the list in that folder.
        fold: the validation fold; None trains on all training pairs.
        patch_size: the side of a training patch in px; no training image may be smaller.

    Returns:
        The dataset, with its pairs divided into training, validation and testing.

    Raises:
        InputError: with one line for each fault found: a file missing, unreadable or of other channels,
            sizes that differ, NaN, values outside the declared range, an empty mask, a specimen on both
            sides, an unknown fold, and so on.
    """
    if not dataset_dir:
        raise InputError("dataset_dir is not set; pass --dataset_dir FOLDER, a folder with a datalist.json (README).")
    folder = Path(dataset_dir)
    faults: list[str] = []
    listed = _read_json(folder / datalist)
    for key in sorted(set(listed) - LIST_KEYS):
        faults.append(f"{datalist}: unknown key {key!r}; known are {', '.join(sorted(LIST_KEYS))}.")
    pixel_um: Any = listed.get("pixel_um")
    if not _is_number(pixel_um) or pixel_um <= 0:
        faults.append(f"{datalist}: pixel_um is {pixel_um!r}; give the pixel size in µm, it is never assumed.")
    allow = listed.get("allow_same_specimen", False)
    if not isinstance(allow, bool):
        faults.append(f"{datalist}: allow_same_specimen is {allow!r}; it must be true or false.")
    source, target = (_modality(listed, key, datalist, faults) for key in ("source", "target"))
    training = _entries(listed, "training", folder, datalist, faults)
    testing = _entries(listed, "testing", folder, datalist, faults)
    if not training and not listed.get("training"):
        faults.append(f"{datalist}: training is empty; list at least one pair.")
    if source is None or target is None:
        raise InputError("\n".join(faults))
    tissues = _tissues(listed, datalist, faults)
    data = Datalist(folder, pixel_um, source, target, bool(allow), testing=testing, tissues=tissues)
    _divide(data, training, fold, datalist, faults)
    _check_specimens(data, datalist, faults)
    data.checksums[datalist] = _checksum(folder / datalist)
    _check_files(data, datalist, patch_size, faults)
    if faults:
        raise InputError("\n".join(faults))
    return data


def _read_json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise InputError(f"{path} does not exist; a dataset folder holds a datalist.json (README, your own data).")
    try:
        listed = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{path} is not valid JSON: {error}") from error
    if not isinstance(listed, dict):
        raise InputError(f"{path} holds a {type(listed).__name__}; it must be one object.")
    return listed


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and bool(np.isfinite(value))


def _modality(listed: Mapping[str, Any], key: str, datalist: str, faults: list[str]) -> Modality | None:
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
    ordered = isinstance(limits, list) and len(limits) == 2 and all(map(_is_number, limits)) and limits[0] < limits[1]
    if not ordered:
        faults.append(
            f"{datalist}: {key}.range is {limits!r}; give [lowest, highest], it is never taken from the data."
        )
    levels = [declared.get("bone_intensity"), declared.get("background_intensity")]
    if levels != [None, None] and not (all(map(_is_number, levels)) and levels[0] != levels[1]):
        faults.append(f"{datalist}: {key}: bone_intensity and background_intensity are {levels}; give both or none.")
    if len(faults) > found:
        return None
    return Modality(name, channels, float(limits[0]), float(limits[1]), *levels)


def _tissues(listed: Mapping[str, Any], datalist: str, faults: list[str]) -> dict[str, list[int]]:
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


def _entries(listed: Mapping[str, Any], split: str, folder: Path, datalist: str, faults: list[str]) -> list[Pair]:
    pairs = []
    for number, entry in enumerate(listed.get(split) or []):
        label = f"{datalist}, {split}[{number}]"
        if not isinstance(entry, dict):
            faults.append(f"{label}: is {entry!r}; it must be an object with source and target.")
            continue
        for key in sorted(set(entry) - ENTRY_KEYS):
            faults.append(f"{label}: unknown key {key!r}; known are {', '.join(sorted(ENTRY_KEYS))}.")
        missing = [key for key in ("source", "target") if not isinstance(entry.get(key), str)]
        for key in missing:
            faults.append(f"{label}: has no {key}; a paired method needs source and target in every entry.")
        if missing:
            continue
        fold, mask, labels = entry.get("fold"), entry.get("mask"), entry.get("labels")
        if fold is not None and not isinstance(fold, int):
            faults.append(f"{label}: fold is {fold!r}; it must be a whole number.")
        pairs.append(
            Pair(
                label,
                folder / entry["source"],
                folder / entry["target"],
                folder / mask if mask else None,
                str(entry.get("specimen", entry["source"])),
                entry.get("group"),
                fold,
                folder / labels if labels else None,
            )
        )
    return pairs


def _divide(data: Datalist, training: list[Pair], fold: int | None, datalist: str, faults: list[str]) -> None:
    """Put the pairs of the validation fold into ``validation`` and the rest into ``training``."""
    data.training = training
    if fold is None:
        return
    folds = sorted({pair.fold for pair in training if pair.fold is not None})
    if fold not in folds:
        faults.append(f"{datalist}: fold {fold!r} has no training pair; the folds are {folds or 'not given'}.")
        return
    faults.extend(
        f"{pair.label}: has no fold, but fold {fold} was asked for." for pair in training if pair.fold is None
    )
    data.training = [pair for pair in training if pair.fold != fold]
    data.validation = [pair for pair in training if pair.fold == fold]
    if not data.training:
        faults.append(f"{datalist}: all training pairs are in fold {fold}; nothing is left to train on.")


def _check_specimens(data: Datalist, datalist: str, faults: list[str]) -> None:
    if data.allow_same_specimen:
        return
    for one, other in (("training", "validation"), ("training", "testing"), ("validation", "testing")):
        shared = {pair.specimen for pair in getattr(data, one)} & {pair.specimen for pair in getattr(data, other)}
        for specimen in sorted(shared):
            faults.append(
                f"{datalist}: specimen {specimen!r} is in {one} and in {other}, so the figures would flatter; "
                'move it to one side, or say "allow_same_specimen": true.'
            )


class _Outside:
    """Running mean of the pixels outside the masks, per channel."""

    def __init__(self) -> None:
        self.total: Any = 0.0
        self.count = 0

    def add(self, pixels: np.ndarray, mask: np.ndarray) -> None:
        self.total = self.total + (pixels * ~mask).sum(axis=(1, 2), dtype=np.float64)
        self.count += int((~mask).sum())

    def mean(self) -> list[float] | None:
        return (self.total / self.count).tolist() if self.count else None


def _check_files(data: Datalist, datalist: str, patch_size: int, faults: list[str]) -> None:
    """Read every file once; note faults, checksums and the mean background outside the training masks."""
    source_outside, target_outside = _Outside(), _Outside()
    for split in SPLITS:
        for pair in getattr(data, split):
            found = len(faults)
            images = _check_pair(data, pair, faults)
            if len(faults) > found:
                continue
            height, width = images["source"].shape[1:]
            if split == "training":
                if min(height, width) < patch_size:
                    faults.append(
                        f"{pair.label}: {pair.source.name} is {height}×{width} px, smaller than a patch of "
                        f"{patch_size} px; use larger images or set --patch_size."
                    )
                if images["mask"] is not None:
                    source_outside.add(images["source"], images["mask"])
                    target_outside.add(images["target"], images["mask"])
    data.source_background, data.background_rgb = source_outside.mean(), target_outside.mean()


def _check_pair(data: Datalist, pair: Pair, faults: list[str]) -> dict[str, Any]:
    images: dict[str, Any] = {"mask": None}
    for key, modality in (("source", data.source), ("target", data.target)):
        path = getattr(pair, key)
        try:
            images[key] = read_slide(path).pixels
        except InputError as error:
            faults.append(f"{pair.label}: {key} {error}")
            continue
        data.checksums[str(path.relative_to(data.folder))] = _checksum(path)
        faults.extend(f"{pair.label}: {key} {fault}" for fault in image_faults(path, images[key], modality))
    if pair.mask is not None:
        try:
            images["mask"] = read_mask(pair.mask)
            data.checksums[str(pair.mask.relative_to(data.folder))] = _checksum(pair.mask)
        except InputError as error:
            faults.append(f"{pair.label}: mask {error}")
    if pair.labels is not None:
        try:
            images["labels"] = read_labels(pair.labels)
            data.checksums[str(pair.labels.relative_to(data.folder))] = _checksum(pair.labels)
            known = {value for values in data.tissues.values() for value in values}
            unknown = sorted(set(np.unique(images["labels"]).tolist()) - known)
            if unknown:
                faults.append(f"{pair.label}: labels {pair.labels} has {unknown}, which no entry of tissues names.")
        except InputError as error:
            faults.append(f"{pair.label}: labels {error}")
    if "source" in images:
        for key in ("target", "mask", "labels"):
            other = images.get(key)
            if other is not None and other.shape[-2:] != images["source"].shape[-2:]:
                faults.append(
                    f"{pair.label}: source {pair.source.name} is {_size(images['source'])} px but {key} "
                    f"{getattr(pair, key).name} is {_size(other)} px; register them to one grid or crop."
                )
    return images


def _checksum(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _size(pixels: np.ndarray) -> str:
    return f"{pixels.shape[-2]}×{pixels.shape[-1]}"


def image_faults(path: Path, pixels: np.ndarray, modality: Modality) -> list[str]:
    """What is wrong with an image for a modality: channels, NaN, values outside the declared range.

    Args:
        path: the file, for the message.
        pixels: (C, H, W), as read.
        modality: what was declared.

    Returns:
        A line for each fault; empty if there is none.
    """
    faults = []
    if len(pixels) != modality.channels:
        faults.append(
            f"{path} has {len(pixels)} channels but {modality.name} declares {modality.channels}; "
            "drop an alpha channel, or declare what the files hold."
        )
    if np.issubdtype(pixels.dtype, np.floating) and not np.isfinite(pixels).all():
        faults.append(f"{path} has {int((~np.isfinite(pixels)).sum())} NaN or infinite pixels; fill or crop them.")
    elif pixels.min() < modality.low or pixels.max() > modality.high:
        faults.append(
            f"{path} has values from {pixels.min()} to {pixels.max()}, outside the declared range "
            f"[{modality.low:g}, {modality.high:g}] of {modality.name}; rescale the file or declare its range."
        )
    return faults
