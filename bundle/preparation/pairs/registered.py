"""Registered pairs as ``scripts.register`` leaves them: one folder each."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from bundle.common.errors import InputError
from bundle.common.values import is_number
from bundle.images.slides import read_mask, read_slide

SOURCE, TARGET, FIELD, REGISTRATION = "source.tif", "target.png", "field.png", "registration.json"
TWO_SLIDES = "two slides"  # kind of a registration.json
MEASURES = ("mutual_information", "confidence", "shear")


@dataclass(frozen=True)
class Registration:
    """What ``registration.json`` says of a pair.

    Attributes:
        name: of the pair, its folder's.
        folder: of the pair.
        voxel_um: pixel size of both images, µm.
        accepted: by who registered it.
        measures: mutual information, confidence and residual shear, those that are stated.
        volume: the scan it was cut from, or the source slide, as stated.
        section: the section, or the target slide, as stated.
        slides: whether two slides were registered, not a section and a scan.
    """

    name: str
    folder: Path
    voxel_um: float
    accepted: bool
    measures: dict[str, float]
    volume: str
    section: str
    slides: bool = False


@dataclass(frozen=True)
class PairImages:
    """The images of a pair, on one grid.

    Attributes:
        source: (H, W), the scan's own type and grey values; finite inside the field. Of two slides (3, H, W), uint8.
        target: (3, H, W), uint8.
        field: (H, W), bool, where both have data; not empty.
        manual: (H, W), bool, where no mask drawn by the user is 0.
    """

    source: np.ndarray
    target: np.ndarray
    field: np.ndarray
    manual: np.ndarray


def list_pairs(pairs: str | Path) -> tuple[list[Registration], dict[str, str]]:
    """Find the pairs of a folder.

    Args:
        pairs: the folder that ``scripts.register`` wrote, one folder a pair.

    Returns:
        The pairs by name, and subfolders that hold none with the reason.

    Raises:
        InputError: with a line for each fault in a ``registration.json``, for pixel sizes that differ, or if there is
            no pair at all.
    """
    root = Path(str(pairs))
    if not root.is_dir():
        raise InputError(f"pairs {root} is not a folder; give the one that python -m scripts.register wrote.")
    found: list[Registration] = []
    ignored: dict[str, str] = {}
    faults: list[str] = []
    for folder in sorted(path for path in root.iterdir() if path.is_dir() and not path.name.startswith(".")):
        if not any((folder / name).exists() for name in (SOURCE, TARGET, REGISTRATION)):
            ignored[folder.name] = f"holds no {SOURCE}, {TARGET} or {REGISTRATION}, so it is no pair"
            continue
        try:
            found.append(read_registration(folder))
        except InputError as error:
            faults.append(str(error))
    if not found and not faults:
        faults.append(
            f"pairs {root} has no folder with {SOURCE}, {TARGET} and {REGISTRATION}; python -m scripts.register makes "
            "them."
        )
    if len({pair.voxel_um for pair in found}) > 1:
        sizes = ", ".join(f"{pair.name} {pair.voxel_um:g}" for pair in found)
        faults.append(f"pairs {root}: pixel sizes differ (µm: {sizes}); register all pairs at one voxel size.")
    if faults:
        raise InputError("\n".join(faults))
    return found, ignored


def read_registration(folder: Path) -> Registration:
    """Read the ``registration.json`` of one pair.

    Raises:
        InputError: with a line for each fault.
    """
    path = folder / REGISTRATION
    if not path.is_file():
        raise InputError(f"{path} does not exist; register the pair again (python -m scripts.register).")
    try:
        stated: Any = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{path} is not valid JSON: {error}") from error
    if not isinstance(stated, dict):
        raise InputError(f"{path} holds a {type(stated).__name__}; it must be one object.")
    faults = []
    voxel_um: Any = stated.get("voxel_um")
    accepted: Any = stated.get("accepted")
    if not is_number(voxel_um) or voxel_um <= 0:
        faults.append(f"{path}: voxel_um is {voxel_um!r}; give the pixel size in µm, it is never assumed.")
    if not isinstance(accepted, bool):
        faults.append(f"{path}: accepted is {accepted!r}; it must be true or false.")
    for name in MEASURES:
        if stated.get(name) is not None and not is_number(stated[name]):
            faults.append(f"{path}: {name} is {stated[name]!r}; it must be a number.")
    if faults:
        raise InputError("\n".join(faults))
    measures = {name: float(stated[name]) for name in MEASURES if stated.get(name) is not None}
    slides = stated.get("kind") == TWO_SLIDES
    volume, section = ("source", "target") if slides else ("volume", "section")
    about = str(stated.get(volume, "")), str(stated.get(section, ""))
    return Registration(folder.name, folder, float(voxel_um), accepted, measures, *about, slides)


def read_images(folder: Path, slides: bool = False) -> PairImages:
    """Read and check the images of one pair, and the masks its user drew (``mask*``, 0 leaves a pixel out).

    Args:
        folder: of the pair.
        slides: whether its source is a slide, not a scan.

    Returns:
        The images.

    Raises:
        InputError: with a line for each fault: missing, unreadable, other channels or types, sizes that differ, NaN.
    """
    faults: list[str] = []
    source = _read(lambda: read_slide(folder / SOURCE).pixels, faults)
    target = _read(lambda: read_slide(folder / TARGET).pixels, faults)
    field = _read(lambda: read_mask(folder / FIELD), faults)
    drawn = {path: _read(partial(read_mask, path), faults) for path in sorted(folder.glob("mask*.*"))}
    if slides and source is not None and (len(source) != 3 or source.dtype != np.uint8):
        faults.append(f"{folder / SOURCE} has {len(source)} channels of {source.dtype}; of two slides it is 8-bit RGB.")
    if not slides and source is not None and (len(source) != 1 or source.dtype.kind not in "uif"):
        faults.append(f"{folder / SOURCE} has {len(source)} channels of {source.dtype}; it must be one grey channel.")
    if target is not None and (len(target) != 3 or target.dtype != np.uint8):
        faults.append(f"{folder / TARGET} has {len(target)} channels of {target.dtype}; it must be 8-bit RGB.")
    if source is not None:
        size = source.shape[-2:]
        others = {folder / TARGET: target, folder / FIELD: field, **drawn}
        faults += [
            f"{path} is {other.shape[-2]}×{other.shape[-1]} px but {SOURCE} is {size[0]}×{size[1]} px; bring them to "
            "one grid (python -m scripts.register does)."
            for path, other in others.items()
            if other is not None and other.shape[-2:] != size
        ]
    if not faults and source is not None and field is not None:
        bad = int((~np.isfinite(source) & field).any(0).sum())
        if bad:
            faults.append(f"{folder / SOURCE} has {bad} NaN or infinite pixels where {FIELD} says it has data.")
    if faults or source is None or target is None or field is None:
        raise InputError("\n".join(faults))
    manual = np.ones(field.shape, bool)
    for mask in drawn.values():
        manual &= mask
    return PairImages(source if slides else source[0], target, field, manual)


def _read(reader: Callable[[], np.ndarray], faults: list[str]) -> np.ndarray | None:
    try:
        return reader()
    except InputError as error:
        faults.append(str(error))
        return None
