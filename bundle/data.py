"""Datasets: a folder with a ``datalist.json``, checked as a whole before anything runs."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from bundle.datalist import (
    DATALIST,
    LIST_KEYS,
    SPLITS,
    Datalist,
    Modality,
    Pair,
    entries,
    is_number,
    modality,
    read_json,
    tissues_of,
)
from bundle.errors import InputError
from bundle.folds import assign_folds
from bundle.image_io import read_labels, read_mask, read_slide


def load_datalist(
    dataset_dir: str | None, datalist: str = DATALIST, fold: int | None = None, patch_size: int = 1
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
    listed = read_json(folder / datalist)
    for key in sorted(set(listed) - LIST_KEYS):
        faults.append(f"{datalist}: unknown key {key!r}; known are {', '.join(sorted(LIST_KEYS))}.")
    pixel_um: Any = listed.get("pixel_um")
    if not is_number(pixel_um) or pixel_um <= 0:
        faults.append(f"{datalist}: pixel_um is {pixel_um!r}; give the pixel size in µm, it is never assumed.")
    allow = listed.get("allow_same_specimen", False)
    if not isinstance(allow, bool):
        faults.append(f"{datalist}: allow_same_specimen is {allow!r}; it must be true or false.")
    source, target = (modality(listed, key, datalist, faults) for key in ("source", "target"))
    training = entries(listed, "training", folder, datalist, faults)
    testing = entries(listed, "testing", folder, datalist, faults)
    if not training and not listed.get("training"):
        faults.append(f"{datalist}: training is empty; list at least one pair.")
    if source is None or target is None:
        raise InputError("\n".join(faults))
    tissues = tissues_of(listed, datalist, faults)
    about = str(listed.get("description", ""))
    data = Datalist(folder, pixel_um, source, target, bool(allow), testing=testing, tissues=tissues, description=about)
    _divide(data, training, fold, datalist, faults)
    _check_specimens(data, datalist, faults)
    data.checksums[datalist] = _checksum(folder / datalist)
    _check_files(data, datalist, patch_size, faults)
    if faults:
        raise InputError("\n".join(faults))
    return data


def _divide(data: Datalist, training: list[Pair], fold: int | None, datalist: str, faults: list[str]) -> None:
    """Put the pairs of the validation fold into ``validation`` and the rest into ``training``."""
    data.training = training
    if fold is None:
        return
    if all(pair.fold is None for pair in training):
        try:
            numbers = assign_folds(training)
        except InputError as error:
            faults.append(f"{datalist}: {error}")
            return
        training = [replace(pair, fold=number) for pair, number in zip(training, numbers, strict=True)]
    folds = sorted({pair.fold for pair in training if pair.fold is not None})
    if fold not in folds:
        faults.append(f"{datalist}: fold {fold!r} has no training pair; the folds are {folds}.")
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
                        f"{patch_size} px; use larger images or a smaller patch_size."
                    )
                if images["mask"] is not None:
                    source_outside.add(images["source"], images["mask"])
                    target_outside.add(images["target"], images["mask"])
    data.source_background, data.background_rgb = source_outside.mean(), target_outside.mean()


def _check_pair(data: Datalist, pair: Pair, faults: list[str]) -> dict[str, Any]:
    images: dict[str, Any] = {"mask": None}
    for key, declared in (("source", data.source), ("target", data.target), ("perfect", data.target)):
        path = getattr(pair, key)
        if path is None:
            continue
        try:
            images[key] = read_slide(path).pixels
        except InputError as error:
            faults.append(f"{pair.label}: {key} {error}")
            continue
        data.checksums[str(path.relative_to(data.folder))] = _checksum(path)
        faults.extend(f"{pair.label}: {key} {fault}" for fault in image_faults(path, images[key], declared))
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
        for key in ("target", "mask", "labels", "perfect"):
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
