"""Datasets of images with labelled nuclei: a folder with a ``datalist.json``, checked as a whole."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import ceil
from pathlib import Path
from typing import Any

import numpy as np
from scipy import ndimage

from bundle.common.checks import checksum
from bundle.common.errors import InputError
from bundle.common.values import is_size_um, shown
from bundle.data.datalist import DATALIST, SPLITS, Modality, modality, name_in, read_json
from bundle.data.entries import checked_files, entries_of
from bundle.data.leaks import content, repeated, shared_images, shared_specimens
from bundle.data.load import image_faults
from bundle.images.slides import read_indices, read_slide

LIST_KEYS = {"pixel_um", "description", "image", "allow_same_specimen", *SPLITS}
ENTRY_KEYS = {"image", "labels", "specimen", "group"}
MOST_NUCLEI = 65535  # stardist's geometry takes 16-bit labels


@dataclass(frozen=True)
class Field:
    """One entry of the datalist: an image, and which pixels are which nucleus.

    Attributes:
        label: where it stands, for messages.
        image: the image.
        labels: its labels, 0 for background, a number a nucleus.
        specimen: what must not be divided between splits.
    """

    label: str
    image: Path
    labels: Path
    specimen: str


@dataclass
class NucleiList:
    """A checked dataset.

    Attributes:
        folder: the dataset folder.
        image: what the images are.
        pixel_um: pixel size in µm if the datalist states one.
        training: what a run trains on.
        validation: what thresholds are tuned on; no training sees it.
        testing: what scores are of; neither sees it.
        description: what the dataset says of itself.
        allow_same_specimen: the dataset divides one specimen between splits, and says so.
        held_out: the validation fields were taken from ``training``, see :func:`load_nuclei`.
        nuclei: how many each field has, by its label.
        checksums: SHA-256 of every file read, by its path in the datalist.
        contents: of each image what it shows, by its file; see :func:`bundle.data.leaks.content`.
    """

    folder: Path
    image: Modality
    pixel_um: float | None = None
    training: list[Field] = field(default_factory=list)
    validation: list[Field] = field(default_factory=list)
    testing: list[Field] = field(default_factory=list)
    description: str = ""
    allow_same_specimen: bool = False
    held_out: bool = False
    nuclei: dict[str, int] = field(default_factory=dict)
    checksums: dict[str, str] = field(default_factory=dict)
    contents: dict[Path, str | None] = field(default_factory=dict)

    def counted(self, split: str) -> str:
        """How much a split holds, in words."""
        fields = getattr(self, split)
        return f"{len(fields)} images with {sum(self.nuclei[each.label] for each in fields)} nuclei"

    @property
    def caveat(self) -> str:
        """What is to be known before a figure on this dataset is believed; empty if there is nothing to say."""
        said = []
        for split in SPLITS:
            fields = getattr(self, split)
            empty = sum(not self.nuclei[each.label] for each in fields)
            if empty:
                said.append(f"{empty} of {len(fields)} {split} images show no nucleus")
        if self.allow_same_specimen:
            said.append("one specimen stands in more than one split: the figures say little about another one")
        return "; ".join(said)


def load_nuclei(
    dataset_dir: str | None, datalist: str = DATALIST, patch_size: int = 1, held_out: float = 0.0, seed: int = 0
) -> NucleiList:
    """Read a datalist of labelled nuclei and check every file it names.

    Args:
        dataset_dir: the dataset folder.
        datalist: name of the list in that folder.
        patch_size: side of a training patch, px; no training image may be smaller.
        held_out: share of the training specimens that becomes ``validation`` where the list has none: whole
            specimens, drawn by ``seed``; 0 for none.
        seed: of that draw.

    Returns:
        The dataset.

    Raises:
        InputError: with one line for each fault found: a file missing, unreadable or of other channels, sizes that
            differ, NaN, values outside the declared range, labels that are none, a specimen in two splits, no nucleus
            to train on, and so on.
    """
    if not dataset_dir:
        raise InputError("dataset_dir is not set; pass --dataset_dir FOLDER, a folder with a datalist.json.")
    folder = Path(dataset_dir)
    faults: list[str] = []
    listed = read_json(folder / datalist)
    for key in sorted(set(listed) - LIST_KEYS):
        faults.append(f"{datalist}: unknown key {shown(key)}; known are {', '.join(sorted(LIST_KEYS))}.")
    pixel_um: Any = listed.get("pixel_um")
    if pixel_um is not None and not is_size_um(pixel_um):
        faults.append(
            f"{datalist}: pixel_um is {shown(pixel_um)}; give the pixel size in µm, or null if it is not known."
        )
    allow = listed.get("allow_same_specimen", False)
    if not isinstance(allow, bool):
        faults.append(f"{datalist}: allow_same_specimen is {shown(allow)}; it must be true or false.")
    image = modality(listed, "image", datalist, faults)
    if image is None:
        raise InputError("\n".join(faults))
    data = NucleiList(folder, image, pixel_um, description=listed.get("description", ""))
    data.allow_same_specimen = allow is True
    for split in SPLITS:
        setattr(data, split, fields_of(listed, split, folder, datalist, faults))
    if not listed.get("training") and not listed.get("testing"):
        faults.append(f"{datalist}: training and testing are empty; list at least one image with its labels.")
    if not data.allow_same_specimen:
        specimens = {split: [each.specimen for each in getattr(data, split)] for split in SPLITS}
        faults += shared_specimens(specimens, datalist)
    data.checksums[datalist] = checksum(folder / datalist)
    faults += _check_files(data, patch_size) or _image_faults(data)
    if not faults and held_out and data.training and not data.validation:
        _hold_out(data, held_out, seed, datalist, faults)
    if faults:
        raise InputError("\n".join(faults))
    return data


def fields_of(listed: Mapping[str, Any], split: str, folder: Path, datalist: str, faults: list[str]) -> list[Field]:
    """The entries of a split; those that are none become lines in ``faults``."""
    fields = []
    for number, entry in enumerate(entries_of(listed, split, datalist, faults)):
        label = f"{datalist}, {split}[{number}]"
        files = checked_files(entry, ("image", "labels"), ENTRY_KEYS, folder, label, faults)
        if files is None:
            continue
        missing = [key for key in ("image", "labels") if key not in files]
        if missing:
            faults.append(f"{label}: has no {' and no '.join(missing)}; an image of nuclei comes with its labels.")
            continue
        fields.append(Field(label, files["image"], files["labels"], str(entry.get("specimen", entry["image"]))))
    return fields


def read_nuclei(path: Path) -> np.ndarray:
    """Read a label image of nuclei.

    Returns:
        (H, W), int32: 0 for background, a number a nucleus.

    Raises:
        InputError: if it cannot be read, has more than one channel, or other values than whole 0 to 65535; the message
            goes on from the word "labels".
    """
    pixels = read_indices(path)
    if not np.issubdtype(pixels.dtype, np.integer):
        raise InputError(f"{path} are of {pixels.dtype}; labels are whole numbers, save them as uint16.")
    if pixels.min() < 0 or pixels.max() > MOST_NUCLEI:
        raise InputError(
            f"{path} have labels from {pixels.min()} to {pixels.max()}; number the nuclei from 1 to {MOST_NUCLEI}."
        )
    return pixels.astype(np.int32)


def _check_files(data: NucleiList, patch_size: int) -> list[str]:
    """Read every file once; note checksums and numbers of nuclei; a line for each fault."""
    faults = []
    read, masks = 0, []
    for split in SPLITS:
        for each in getattr(data, split):
            labels, found = _check_field(data, each, patch_size if split == "training" else 1)
            faults += found
            if split == "training" and labels is not None:
                read += 1
                if data.nuclei[each.label] == 1 and ndimage.label(labels)[1] > 1:
                    masks.append(each)
    if data.training and read == len(data.training) and not any(data.nuclei[each.label] for each in data.training):
        faults.append(f"{data.folder}: no training image has a labelled nucleus; there is nothing to learn from.")
    seen = sum(data.nuclei.get(each.label, 0) > 0 for each in data.training)
    if masks and len(masks) == seen:  # not one image has two nuclei
        faults.append(
            f"{masks[0].label}: labels {masks[0].labels} and all others have one value in separate places, as masks "
            "have; give each nucleus its own number (skimage.measure.label does, where none touch)."
        )
    return faults


def _check_field(data: NucleiList, each: Field, patch_size: int) -> tuple[np.ndarray | None, list[str]]:
    faults = []
    pixels = labels = None
    try:
        pixels = read_slide(each.image).pixels
        data.checksums[name_in(data.folder, each.image)] = checksum(each.image)
        data.contents[each.image] = content(pixels)
        faults += [f"{each.label}: image {fault}" for fault in image_faults(each.image, pixels, data.image)]
    except InputError as error:
        faults.append(f"{each.label}: image {error}")
    try:
        labels = read_nuclei(each.labels)
        data.checksums[name_in(data.folder, each.labels)] = checksum(each.labels)
        data.nuclei[each.label] = len(np.unique(labels[labels > 0]))
    except InputError as error:
        faults.append(f"{each.label}: labels {error}")
    if pixels is not None and labels is not None and pixels.shape[1:] != labels.shape:
        faults.append(
            f"{each.label}: image {each.image.name} is {_size(pixels)} px but labels {each.labels.name} are "
            f"{_size(labels)} px; labels are drawn pixel by pixel on their image."
        )
    if pixels is not None and min(pixels.shape[1:]) < patch_size:
        faults.append(
            f"{each.label}: {each.image.name} is {_size(pixels)} px, smaller than a patch of {patch_size} px; use "
            "larger images or a smaller patch_size."
        )
    return labels, faults


def _image_faults(data: NucleiList) -> list[str]:
    """A line for each image of two splits, under whatever name, and for each that one has twice."""
    listed = {split: [(each.label, {"image": each.image}) for each in getattr(data, split)] for split in SPLITS}
    faults = [line for entries in listed.values() for line in repeated(entries, data.contents)]
    return faults if data.allow_same_specimen else faults + shared_images(listed, data.contents)


def _hold_out(data: NucleiList, share: float, seed: int, datalist: str, faults: list[str]) -> None:
    """Move whole specimens from training to validation."""
    specimens = sorted({each.specimen for each in data.training})
    number = ceil(share * len(specimens))
    if number >= len(specimens):
        faults.append(
            f"{datalist}: no {number} of {len(specimens)} training specimens can be held out to tune thresholds on; "
            "list validation images, or pass --tune_thresholds false."
        )
        return
    chosen = set(np.random.default_rng(seed).permutation(specimens)[:number].tolist())
    data.validation = [each for each in data.training if each.specimen in chosen]
    data.training = [each for each in data.training if each.specimen not in chosen]
    data.held_out = True


def _size(pixels: np.ndarray) -> str:
    return f"{pixels.shape[-2]}×{pixels.shape[-1]}"
