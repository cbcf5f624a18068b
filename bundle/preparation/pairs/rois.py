"""Regions of bone and background that a user drew: rectangles in JSON, or label images."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from bundle.common.errors import InputError
from bundle.common.values import is_number
from bundle.images.slides import SUFFIXES, read_slide
from bundle.preparation.pairs.normalisation import SourceScale
from bundle.preparation.pairs.proposal import BACKGROUND, BONE

RECTANGLES = "rois.json"
IMAGES = ("source", "target")
VALUES = {"bone": BONE, "background": BACKGROUND}
FORM = '{"bone": [[top, left, height, width], …], "background": […]}'


@dataclass(frozen=True)
class Rois:
    """The regions of one image, and where they come from.

    Attributes:
        labels: (H, W), uint8: 1 bone, 2 background, 0 neither.
        origin: the file they were read from, or ``proposed``.
        means: the two grey values themselves, if the user gave these instead of regions; for µCT only.
    """

    labels: np.ndarray
    origin: str
    means: SourceScale | None = None

    @property
    def bone(self) -> np.ndarray:
        """(H, W), bool."""
        return self.labels == BONE

    @property
    def background(self) -> np.ndarray:
        """(H, W), bool."""
        return self.labels == BACKGROUND


def drawn_rois(folder: Path, shape: tuple[int, int]) -> dict[str, Rois]:
    """Read the regions that the user of a pair drew.

    Rectangles stand in ``rois.json``, for each image or for both: ``{"source": {"bone": [[top, left, height, width]],
    "background": […]}, "target": {…}}``, or the inner object alone. Label images are ``rois_source``, ``rois_target``
    or, for both, ``rois``, in any format :func:`bundle.images.slides.read_slide` reads. Where a slice shows no
    background, the scan's means can stand instead: ``{"source": {"means": {"bone": 1830, "background": 412}}}``.

    Args:
        folder: of the pair.
        shape: rows and columns of its images.

    Returns:
        By image, ``source`` and ``target``; an image for which nothing was drawn is not in it.

    Raises:
        InputError: with a line for each fault.
    """
    files = label_files(folder)
    rectangles = folder / RECTANGLES
    if files and rectangles.is_file():
        raise InputError(f"{folder} holds {RECTANGLES} and {files[0].name}; which counts is not clear, keep one.")
    if rectangles.is_file():
        return read_rectangles(rectangles, shape)
    faults: list[str] = []
    found: dict[str, Rois] = {}
    for path in files:
        stem = path.name.split(".")[0]
        for image in IMAGES if stem == "rois" else (stem.removeprefix("rois_"),):
            if image in found:
                faults.append(f"{folder} holds {found[image].origin} and {path.name}, both for the {image}; keep one.")
                continue
            try:
                found[image] = Rois(read_label_image(path, shape), path.name)
            except InputError as error:
                faults.append(str(error))
    if faults:
        raise InputError("\n".join(dict.fromkeys(faults)))
    return found


def label_files(folder: Path) -> list[Path]:
    """The label images that a user put into the folder of a pair."""
    names = [f"{stem}{suffix}" for stem in ("rois", "rois_source", "rois_target") for suffix in SUFFIXES]
    return [folder / name for name in names if (folder / name).is_file()]


def read_label_image(path: Path, shape: tuple[int, int]) -> np.ndarray:
    """Read a label image: 1 bone, 2 background, 0 neither.

    A palette image (as Fiji writes with a colour table) is read by its indices.

    Returns:
        (H, W), uint8.

    Raises:
        InputError: if it cannot be read, has another size, other values, or lacks one of the two.
    """
    pixels = read_slide(path).pixels
    if path.suffix.lower() == ".png":
        with Image.open(path) as image:
            if image.mode == "P":
                pixels = np.asarray(image)[None]
    if len(pixels) == 3 and (pixels[0] == pixels[1]).all() and (pixels[0] == pixels[2]).all():
        pixels = pixels[:1]
    if len(pixels) != 1:
        raise InputError(
            f"{path} has {len(pixels)} channels; save the regions as one grey channel: 1 bone, 2 background."
        )
    labels = pixels[0]
    if labels.shape != shape:
        raise InputError(f"{path} is {labels.shape[0]}×{labels.shape[1]} px but the image is {shape[0]}×{shape[1]} px.")
    values = np.unique(labels)
    if not np.isin(values, (0, BONE, BACKGROUND)).all():
        listed = ", ".join(f"{value:g}" for value in values[:6])
        raise InputError(
            f"{path} has values {listed}{' …' if values.size > 6 else ''}; 1 is bone, 2 background, 0 neither."
        )
    missing = [name for name, value in VALUES.items() if value not in values]
    if missing:
        raise InputError(f"{path} has no {' and no '.join(missing)} (value {VALUES[missing[0]]}); draw both.")
    return labels.astype(np.uint8)


def read_rectangles(path: Path, shape: tuple[int, int]) -> dict[str, Rois]:
    """Read ``rois.json``; arguments, result and errors as of :func:`drawn_rois`."""
    stated = read_object(path)
    faults: list[str] = []
    unknown = sorted(set(stated) - {*IMAGES, *VALUES})
    if unknown:
        faults.append(f"{path}: unknown key {unknown[0]!r}; known are source, target, or bone and background alone.")
    if set(stated) & set(VALUES) and set(stated) & set(IMAGES):
        faults.append(
            f"{path}: bone and background stand beside source and target; put them inside, or use them alone."
        )
    found: dict[str, Rois] = {}
    for image in IMAGES:
        listed = stated if set(stated) & set(VALUES) else stated.get(image)
        if listed is None or (faults and listed is stated):
            continue
        where = f"{path.name}" if listed is stated else f"{path.name}, {image}"
        if image == "source" and isinstance(listed, dict) and set(listed) == {"means"}:
            means = stated_means(listed["means"], f"{path}, source", faults)
            if means is not None:
                found[image] = Rois(np.zeros(shape, np.uint8), where, means)
            continue
        labels = paint_rectangles(listed, f"{path.parent / where}", shape, faults)
        found[image] = Rois(labels, path.name)
    if faults:
        raise InputError("\n".join(dict.fromkeys(faults)))
    return found


def read_object(path: Path) -> dict[str, Any]:
    """The object in a JSON file.

    Raises:
        InputError: if it is no JSON or no object.
    """
    try:
        stated = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{path} is not valid JSON: {error}") from error
    if not isinstance(stated, dict):
        raise InputError(f"{path} holds a {type(stated).__name__}; it must be one object.")
    return stated


def stated_means(means: Any, where: str, faults: list[str]) -> SourceScale | None:
    """The two grey values a user gave instead of regions; None, and a line in ``faults``, if they make no sense."""
    well = isinstance(means, dict) and set(means) == set(VALUES) and all(map(is_number, means.values()))
    if not well or means["bone"] <= means["background"]:
        faults.append(f'{where}: means is {means!r}; give {{"bone": X, "background": Y}}, X above Y.')
        return None
    return SourceScale(float(means["bone"]), float(means["background"]))


def paint_rectangles(listed: Any, where: str, shape: tuple[int, int], faults: list[str]) -> np.ndarray:
    """Paint rectangles of bone and background into a label image.

    Args:
        listed: ``{"bone": [[top, left, height, width], …], "background": […]}``, px.
        where: the place in the file, for messages.
        shape: rows and columns of the image.
        faults: gets a line for each fault.

    Returns:
        (H, W), uint8.
    """
    labels = np.zeros(shape, np.uint8)
    if not isinstance(listed, dict) or set(listed) - set(VALUES):
        faults.append(f"{where}: is {listed!r}; give {FORM}.")
        return labels
    for name, value in VALUES.items():
        rectangles = listed.get(name)
        if not isinstance(rectangles, list) or not rectangles:
            faults.append(f"{where}: {name} is {rectangles!r}; give at least one [top, left, height, width] in px.")
            continue
        for rectangle in rectangles:
            whole = isinstance(rectangle, list) and len(rectangle) == 4 and all(type(side) is int for side in rectangle)
            if not whole or rectangle[2] < 1 or rectangle[3] < 1:
                faults.append(f"{where}: {name} has {rectangle!r}; give [top, left, height, width] in whole px.")
                continue
            top, left, height, width = rectangle
            if top < 0 or left < 0 or top + height > shape[0] or left + width > shape[1]:
                faults.append(
                    f"{where}: {name} {rectangle} reaches outside the image of {shape[0]}×{shape[1]} px "
                    "(rows × columns)."
                )
                continue
            labels[top : top + height, left : left + width] = value
    return labels
