"""Datasets: a folder with a ``datalist.json``, checked as a whole before anything runs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from bundle.common.checks import checksum
from bundle.common.errors import InputError
from bundle.common.values import is_size_um, shown
from bundle.data.datalist import (
    DATALIST,
    LIST_KEYS,
    SIDES,
    SPLITS,
    Datalist,
    Image,
    Modality,
    Pair,
    modality,
    name_in,
    read_json,
    tissues_of,
)
from bundle.data.entries import entries
from bundle.data.folds import assign_folds
from bundle.data.leaks import content, repeated, shared_images, shared_specimens
from bundle.images.finite import nan_faults
from bundle.images.slides import read_labels, read_mask, read_slide

Entry = TypeVar("Entry", Pair, Image)
LEAST_SHARE = 1 / 200  # of the declared range that a slide to learn from fills; 8 bits in 16 fill 1/256


def load_datalist(
    dataset_dir: str | None,
    datalist: str = DATALIST,
    fold: int | None = None,
    patch_size: int = 1,
    paired: bool = True,
) -> Datalist:
    """Read a datalist and check every file it names.

    Args:
        dataset_dir: the dataset folder.
        datalist: name of the list in that folder.
        fold: the validation fold; None trains on all training pairs.
        patch_size: the side of a training patch in px; no training image may be smaller.
        paired: every entry must have source and target, registered to each other; if not, entries may have one
            alone, and of those with both the two may be consecutive sections.

    Returns:
        The dataset, with its pairs divided into training, validation and testing.

    Raises:
        InputError: with one line for each fault found: a file missing, unreadable or of other channels,
            sizes that differ, NaN, values outside the declared range, an empty mask, a specimen on both
            sides, an unknown fold, and so on.
    """
    if not dataset_dir:
        raise InputError("dataset_dir is not set; pass --dataset_dir with a folder that holds a datalist.json.")
    folder = Path(dataset_dir)
    faults: list[str] = []
    listed = read_json(folder / datalist)
    for key in sorted(set(listed) - LIST_KEYS):
        faults.append(f"{datalist}: unknown key {shown(key)}; known are {', '.join(sorted(LIST_KEYS))}.")
    pixel_um: Any = listed.get("pixel_um")
    if not is_size_um(pixel_um):
        faults.append(f"{datalist}: pixel_um is {shown(pixel_um)}; give the pixel size in µm, it is never assumed.")
    allow = listed.get("allow_same_specimen", False)
    if not isinstance(allow, bool):
        faults.append(f"{datalist}: allow_same_specimen is {shown(allow)}; it must be true or false.")
    source, target = (modality(listed, key, datalist, faults) for key in ("source", "target"))
    training, alone = entries(listed, "training", folder, datalist, faults, paired)
    testing, alone_testing = entries(listed, "testing", folder, datalist, faults, paired)
    if listed.get("training", []) == []:
        faults.append(f"{datalist}: training is empty; list at least one {'pair' if paired else 'image of each side'}.")
    if source is None or target is None:
        raise InputError("\n".join(faults))
    if paired and target.channels != 3:
        faults.append(
            f"{datalist}: target.channels is {target.channels}; it must be 3 (RGB) for a method that learns from pairs."
        )
    data = Datalist(
        folder,
        pixel_um,
        source,
        target,
        allow is True,
        paired,
        testing=testing,
        single={"testing": alone_testing},
        tissues=tissues_of(listed, datalist, faults),
        description=listed.get("description", ""),
    )
    _divide(data, training, alone, fold, datalist, faults)
    if not paired and not faults:
        faults += [
            f"{datalist}: no image of the {side} is left in training; list at least one."
            for side in SIDES
            if not data.images("training", side)
        ]
    _check_specimens(data, datalist, faults)
    data.checksums[datalist] = checksum(folder / datalist)
    _check_files(data, datalist, patch_size, faults)
    if not faults:
        _check_images(data, faults)
    if faults:
        raise InputError("\n".join(faults))
    return data


def _divide(
    data: Datalist, training: list[Pair], alone: list[Image], fold: int | None, datalist: str, faults: list[str]
) -> None:
    """Put pairs and images of the validation fold into ``validation`` and the rest into ``training``."""
    data.training, data.single["training"] = training, alone
    every: list[Pair | Image] = [*training, *alone]
    if fold is None:
        return
    if all(entry.fold is None for entry in every):
        try:
            numbers = assign_folds(every)
        except InputError as error:
            faults.append(f"{datalist}: {error}")
            return
        training, alone = _numbered(training, numbers), _numbered(alone, numbers[len(training) :])
        every = [*training, *alone]
    folds = sorted({entry.fold for entry in every if entry.fold is not None})
    if fold not in folds:
        faults.append(f"{datalist}: fold {fold!r} has no training pair; the folds are {folds}.")
        return
    faults.extend(
        f"{entry.label}: has no fold, but fold {fold} was asked for." for entry in every if entry.fold is None
    )
    data.training = [pair for pair in training if pair.fold != fold]
    data.validation = [pair for pair in training if pair.fold == fold]
    data.single["training"] = [image for image in alone if image.fold != fold]
    data.single["validation"] = [image for image in alone if image.fold == fold]
    if not data.training and not data.single["training"]:
        faults.append(
            f"{datalist}: all training pairs are in fold {fold}; nothing is left to train on; name another fold, or "
            "add pairs."
        )
    faults.extend(
        f"{datalist}: fold {fold} has no {side}; every fold needs images of both sides (fold in each entry)."
        for side in SIDES
        if not data.images("validation", side)
    )


def _numbered(entries: Sequence[Entry], numbers: Sequence[int]) -> list[Entry]:
    """The same with the folds given."""
    return [replace(entry, fold=number) for entry, number in zip(entries, numbers, strict=False)]


def _check_specimens(data: Datalist, datalist: str, faults: list[str]) -> None:
    specimens = {
        split: {entry.specimen for entry in [*getattr(data, split), *data.single.get(split, [])]} for split in SPLITS
    }
    if not data.allow_same_specimen:
        faults += shared_specimens(specimens, datalist)


def _check_images(data: Datalist, faults: list[str]) -> None:
    """See that no image is in two splits under whatever name, and no entry twice in one."""
    listed = {split: data.listed(split) for split in SPLITS}
    for entries_of_split in listed.values():
        faults += repeated(entries_of_split, data.contents)
    if not data.allow_same_specimen:
        faults += shared_images(listed, data.contents)


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
            if split == "training":
                faults.extend(_size_faults(pair.label, pair.source, images["source"], patch_size))
                if data.paired and images["mask"] is not None:
                    source_outside.add(images["source"], images["mask"])
                    target_outside.add(images["target"], images["mask"])
                elif not data.paired:
                    faults.extend(_size_faults(pair.label, pair.target, images["target"], patch_size))
        for image in data.single.get(split, []):
            found = len(faults)
            pixels = _check_image(data, image, faults)
            if split == "training" and pixels is not None and len(faults) == found:
                faults.extend(_size_faults(image.label, image.path, pixels, patch_size))
    data.source_background, data.background_rgb = source_outside.mean(), target_outside.mean()


def _size_faults(label: str, path: Path, pixels: np.ndarray, patch_size: int) -> Iterator[str]:
    if min(pixels.shape[1:]) < patch_size:
        yield (
            f"{label}: {path.name} is {_size(pixels)} px, smaller than a patch of {patch_size} px; use larger images "
            "or a smaller patch_size."
        )


def _check_image(data: Datalist, image: Image, faults: list[str]) -> np.ndarray | None:
    """Read a single image and its mask; None if that fails."""
    pixels = _read_checked(data, image.label, image.side, image.path, faults)
    mask = _read_mask_checked(data, image.label, image.mask, faults)
    if pixels is not None and mask is not None and mask.shape != pixels.shape[1:]:
        faults.append(
            f"{image.label}: {image.side} {image.path.name} is {_size(pixels)} px but its mask is {_size(mask)} px; "
            "draw it on the image's grid."
        )
    return pixels


def _read_checked(data: Datalist, label: str, key: str, path: Path, faults: list[str]) -> np.ndarray | None:
    """Read a source, or a target or perfect stain; note its faults and checksum."""
    try:
        pixels = read_slide(path).pixels
    except InputError as error:
        faults.append(f"{label}: {key} {error}")
        return None
    data.checksums[name_in(data.folder, path)] = checksum(path)
    data.contents[path] = content(pixels)
    declared = data.source if key == "source" else data.target
    found = image_faults(path, pixels, declared)
    if data.paired and key in SIDES:  # an unpaired tile may well be air
        found = found or _narrow(path, pixels, declared)
    faults.extend(f"{label}: {key} {fault}" for fault in found)
    return pixels


def _narrow(path: Path, pixels: np.ndarray, declared: Modality) -> list[str]:
    """A line if an image is flat in the declared range, as one of one colour is, or one of 8 bits in a range of 16."""
    low, high = float(pixels.min()), float(pixels.max())
    if high - low >= LEAST_SHARE * (declared.high - declared.low):
        return []
    return [
        f"{path} has values from {low:g} to {high:g}, next to nothing of the declared range [{declared.low:g}, "
        f"{declared.high:g}] of {declared.name}; declare the range of the files, or leave the pair out."
    ]


def _read_mask_checked(data: Datalist, label: str, path: Path | None, faults: list[str]) -> np.ndarray | None:
    """Read a mask; note its faults and checksum."""
    if path is None:
        return None
    try:
        mask = read_mask(path)
    except InputError as error:
        faults.append(f"{label}: mask {error}")
        return None
    data.checksums[name_in(data.folder, path)] = checksum(path)
    return mask


def _check_pair(data: Datalist, pair: Pair, faults: list[str]) -> dict[str, Any]:
    images: dict[str, Any] = {"mask": _read_mask_checked(data, pair.label, pair.mask, faults)}
    for key in (*SIDES, "perfect"):
        path = getattr(pair, key)
        pixels = None if path is None else _read_checked(data, pair.label, key, path, faults)
        if pixels is not None:
            images[key] = pixels
    if pair.labels is not None:
        try:
            images["labels"] = read_labels(pair.labels)
            data.checksums[name_in(data.folder, pair.labels)] = checksum(pair.labels)
            known = {value for values in data.tissues.values() for value in values}
            unknown = sorted(set(np.unique(images["labels"]).tolist()) - known)
            if unknown:
                faults.append(f"{pair.label}: labels {pair.labels} has {unknown}, which no entry of tissues names.")
        except InputError as error:
            faults.append(f"{pair.label}: labels {error}")
    if "source" in images:
        for key in (*(["target"] if data.paired else []), "mask", "labels", "perfect"):
            other = images.get(key)
            if other is not None and other.shape[-2:] != images["source"].shape[-2:]:
                faults.append(
                    f"{pair.label}: source {pair.source.name} is {_size(images['source'])} px but {key} "
                    f"{getattr(pair, key).name} is {_size(other)} px; register them to one grid or crop."
                )
    mask, target = images["mask"], images.get("target")
    if not data.paired and mask is not None and target is not None and mask.shape != target.shape[1:]:
        faults.append(
            f"{pair.label}: mask is {_size(mask)} px but target {pair.target.name} is {_size(target)} px; a mask of "
            "both sides needs one grid, so list them in separate entries, each with its mask."
        )
    return images


def _size(pixels: np.ndarray) -> str:
    return f"{pixels.shape[-2]}×{pixels.shape[-1]}"


def image_faults(path: Path | str, pixels: np.ndarray, modality: Modality) -> list[str]:
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
    bad = nan_faults(str(path), pixels)
    faults += bad
    if not bad and (pixels.min() < modality.low or pixels.max() > modality.high):
        faults.append(
            f"{path} has values from {pixels.min()} to {pixels.max()}, outside the declared range "
            f"[{modality.low:g}, {modality.high:g}] of {modality.name}; rescale the file or declare its range."
        )
    return faults
