"""How right is a stained volume? Compared with a true stain volume, which only a phantom has, in three views."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from scipy.ndimage import distance_transform_cdt

from bundle.common.errors import InputError
from bundle.evaluation import error_layer, tables
from bundle.evaluation.error_layer import open_layer, score_layer
from bundle.evaluation.resolution import resolution_px, ring_correlation
from bundle.evaluation.scoring import luminance, score_slide
from bundle.evaluation.similarity import Lpips
from bundle.evaluation.tables import METRICS
from bundle.evaluation.truth import DIGITS, HEADINGS, NEEDED, TissueColours, measure
from bundle.images.slides import reading
from bundle.images.stained.stored import open_stain
from bundle.images.volumes.geometry import SAME
from bundle.images.volumes.volume import described, open_unsized
from bundle.preparation.phantom.dataset import CLASSES
from bundle.staining.error_layer import map_of
from bundle.staining.model import on_background
from bundle.staining.stripes import AXES, measure_stripes

VIEWS = {"xy": 0, "xz": 1, "yz": 2}  # by the axis (z, y, x) that the slices follow one another along
COVER = 0.05  # of a slice that must be sample for it to be scored
LEAST_PX = 32  # side of a square for a ring correlation
COLOUR_SLICES = 16  # of the truth, to learn the tissues' colours from
TRUTH_MEASURES = tuple(name for name in HEADINGS if name != "seam_index")  # windows are not known here
MEASURES = (*METRICS[:3], *TRUTH_MEASURES, *METRICS[3:], "resolution_um")
SHOWN = {**{name: tables.HEADINGS[name] for name in METRICS}, **HEADINGS, "resolution_um": "FRC resolution ↓ (µm)"}
PLACES = {"ssim": 3, "psnr": 2, "resolution_um": 1, **DIGITS}


@dataclass(frozen=True)
class Truth:
    """What a stained volume is compared with; all of one grid, in memory.

    Attributes:
        stain: (Z, Y, X, 3), uint8.
        inside: (Z, Y, X), bool, the sample; nothing outside counts.
        labels: (Z, Y, X), tissues; None leaves out what needs them.
        colours: of the tissues; None with ``labels``.
        scan: (Z, Y, X), any units; None leaves out the stripes.
        voxel_um: side of a voxel.
    """

    stain: np.ndarray
    inside: np.ndarray
    labels: np.ndarray | None
    colours: TissueColours | None
    scan: np.ndarray | None
    voxel_um: float


def compare(
    stained: Sequence[Path],
    truth: Path,
    labels: Path | None = None,
    scan: Path | None = None,
    tissues: Mapping[str, Sequence[int]] = CLASSES,
    every: int = 8,
    between: tuple[int, int] | None = None,
    lpips: Lpips | None = None,
) -> dict[str, dict[str, Any]]:
    """Score stained volumes against the true one, and the true one against itself, which is the best there is.

    One stained volume, the truth, labels and scan are held in memory.

    Args:
        stained: as :func:`bundle.images.stained.stored.open_stain` opens them.
        truth: colour NIfTI, or as ``stained``.
        labels: a volume of whole numbers.
        scan: what the stains were made of.
        tissues: the labels of each tissue; ``background`` is what is no sample.
        every: score every so many slices.
        between: score what lies between these two places along z alone, slices; None for all.
        lpips: None leaves it out.

    Returns:
        By path, and ``truth``: see :func:`score`. Where a stain has a map of its expected error beside it,
        ``expected_error``: see :func:`bundle.evaluation.error_layer.score_layer`.

    Raises:
        InputError: if one is missing, not of the kind it should be, or not of the truth's shape.
    """
    volumes = [open_stain(path) for path in stained]
    if not volumes:
        raise InputError("stained names no volume.")
    true = read_colour(truth)
    for path, shape in [(volume.path, volume.shape) for volume in volumes]:
        _check_shape(path, shape, truth, true.shape[:3])
    spacing_um = volumes[0].geometry.spacing_um
    if max(spacing_um) > min(spacing_um) * (1 + SAME):
        raise InputError(f"{volumes[0].path} has voxels of {spacing_um} µm (z, y, x); they are scored as cubes only.")
    named = None if labels is None else _read_grey(labels, truth, true.shape[:3])
    if named is not None and named.dtype.kind not in "bui":
        raise InputError(f"{labels} holds {named.dtype}; labels are whole numbers.")
    grey = None if scan is None else _read_grey(scan, truth, true.shape[:3])
    inside = np.ones(true.shape[:3], bool) if named is None else ~np.isin(named, tissues.get("background", ()))
    if not inside.any():
        raise InputError(f"{labels} is all background ({tissues.get('background')}); nothing is left to score.")
    colours = None if named is None else _learn_colours(true, named, inside, tissues)
    part = slice(*(between or (0, len(true))))
    if not 0 <= part.start < part.stop <= len(true):
        raise InputError(f"between is {part.start} to {part.stop}, but the volume has {len(true)} slices along z.")
    named, grey = (None if volume is None else volume[part] for volume in (named, grey))
    reference = Truth(true[part], inside[part], named, colours, grey, float(spacing_um[0]))
    box = (part, slice(None), slice(None))
    results = {}
    for volume in volumes:
        stain = volume.read(box)[..., :3]
        results[str(volume.path)] = score(stain, reference, every, lpips)
        if map_of(volume.path).exists():
            layer = open_layer(volume.path, volume.shape, part)
            classes = {} if named is None else tissues
            told = score_layer(layer, stain, reference.stain, reference.inside, every, named, classes, grey)
            results[str(volume.path)]["expected_error"] = told
    return {**results, "truth": score(reference.stain, reference, every, lpips)}


def read_colour(path: Path) -> np.ndarray:
    """Read a whole colour volume: RGB24 or RGBA32 NIfTI, or what :func:`bundle.images.stained.stored.open_stain` opens.

    Returns:
        (Z, Y, X, 3), uint8.

    Raises:
        InputError: if there is none, it is corrupt, or not in colour.
    """
    if not path.exists():
        raise InputError(f"{path} does not exist.")
    if not path.name.lower().endswith((".nii", ".nii.gz")):
        return open_stain(path).read((slice(None),) * 3)[..., :3]
    with reading(str(path)):
        image: Any = nibabel.load(path)
        if not image.get_data_dtype().names or len(image.shape) != 3:
            kind = image.header.get_value_label("datatype")
            raise InputError(f"{path} is {image.shape} of {kind}; a true stain is one volume in colour (RGB24).")
        voxels = np.asarray(image.dataobj)
        return np.stack([voxels[channel].T for channel in "RGB"], axis=-1)


def read_tissues(path: Path) -> dict[str, list[int]]:
    """The labels of each tissue, from a JSON object of them or a ``datalist.json`` with ``tissues``.

    Raises:
        InputError: if the file is missing or holds none.
    """
    if not path.is_file():
        raise InputError(f"tissues {path} does not exist.")
    with reading(str(path)):
        content = json.loads(path.read_text(encoding="utf-8"))
    found = content.get("tissues", content) if isinstance(content, dict) else None
    if not isinstance(found, dict) or not all(isinstance(values, list) for values in found.values()):
        raise InputError(f"{path} holds no tissues; give {{name: [labels]}}, or a datalist.json with tissues.")
    missing = [name for name in ("background", *NEEDED) if name not in found]
    if missing:
        raise InputError(f"{path} has no labels for {', '.join(missing)}; give each a list, empty where there is none.")
    return found


def score(stain: np.ndarray, truth: Truth, every: int, lpips: Lpips | None = None) -> dict[str, Any]:
    """Score one stained volume.

    Args:
        stain: (Z, Y, X, 3), uint8.
        truth: of the same grid.
        every: score every so many slices of each view.
        lpips: None leaves it out.

    Returns:
        ``psnr`` of all the sample, dB; ``views``, for each the number of ``slices`` and the medians over them of
        ``MEASURES``; ``flicker_levels`` and ``stripe_index`` by axis (:func:`bundle.staining.stripes.measure_stripes`).
        None for what is not defined or not given.
    """
    views = {name: _score_view(stain, truth, axis, every, lpips) for name, axis in VIEWS.items()}
    result: dict[str, Any] = {"psnr": volume_psnr(stain, truth.stain, truth.inside), "views": views}
    if truth.scan is None:
        return {**result, "flicker_levels": dict.fromkeys(AXES), "stripe_index": dict.fromkeys(AXES)}
    volumes = (stain, truth.scan, truth.inside)
    readers = [lambda start, stop, volume=volume: volume[start:stop] for volume in volumes]
    z, y, x = truth.inside.shape
    found = measure_stripes(readers[0], readers[1], (z, y, x), readers[2])
    by_axis = (dict(zip(AXES, values, strict=True)) for values in (found.flicker_levels, found.index))
    return {**result, **dict(zip(("flicker_levels", "stripe_index"), by_axis, strict=True))}


def volume_psnr(stain: np.ndarray, true: np.ndarray, inside: np.ndarray) -> float:
    """Peak signal-to-noise ratio of a whole volume inside a mask, 10 log10(255² / MSE), dB; inf for equal ones.

    Args:
        stain: (Z, Y, X, 3), uint8.
        true: likewise.
        inside: (Z, Y, X), bool, not empty.
    """
    total = sum(
        np.square(one[mask].astype(np.int32) - other[mask]).sum(dtype=np.int64)
        for one, other, mask in zip(stain, true, inside, strict=True)
    )
    return float("inf") if total == 0 else float(10 * np.log10(255.0**2 * 3 * inside.sum() / total))


def inner_square(mask: np.ndarray) -> tuple[slice, slice]:
    """The rows and columns of a largest square inside a mask (H, W), of an odd side; empty for an empty mask."""
    away = distance_transform_cdt(np.pad(mask, 1), metric="chessboard")[1:-1, 1:-1]
    row, column = np.unravel_index(int(np.argmax(away)), mask.shape)
    reach = int(away[row, column])
    return slice(row - reach + 1, row + reach), slice(column - reach + 1, column + reach)


def _learn_colours(
    true: np.ndarray, labels: np.ndarray, inside: np.ndarray, tissues: Mapping[str, Sequence[int]]
) -> TissueColours:
    places = np.unique(np.linspace(0, len(true) - 1, COLOUR_SLICES).astype(int))
    return TissueColours(((true[place].transpose(2, 0, 1), labels[place], inside[place]) for place in places), tissues)


def _slices(stain: np.ndarray, truth: Truth, axis: int, every: int) -> Iterator[tuple[np.ndarray, ...]]:
    """Stain and truth (3, H, W), mask and labels (H, W) of every so many slices that hold enough of the sample."""
    labels = truth.inside if truth.labels is None else truth.labels  # not read where there are none
    volumes = [np.moveaxis(volume, axis, 0) for volume in (stain, truth.stain, truth.inside, labels)]
    for place in range(every // 2, len(volumes[0]), every):
        image, real, mask, named = (volume[place] for volume in volumes)
        if mask.mean() >= COVER:
            yield image.transpose(2, 0, 1), real.transpose(2, 0, 1), mask, named


def _score_view(stain: np.ndarray, truth: Truth, axis: int, every: int, lpips: Lpips | None) -> dict[str, Any]:
    """Medians over the slices along an axis of what is defined in them."""
    rows: list[dict[str, float | None]] = []
    for image, real, mask, labels in _slices(stain, truth, axis, every):
        # what lies outside is alike, so that no window across the edge counts it (§2.8)
        colour = None if mask.all() else np.median(real[:, ~mask], axis=1).tolist()
        shown, beside = (on_background(one, mask, colour) for one in (image, real))
        row: dict[str, float | None] = score_slide(shown, beside, mask, lpips)
        row["resolution_um"] = _resolution_um(image, real, mask, truth.voxel_um)
        if truth.colours is not None:
            row |= measure(shown, beside, mask, labels, truth.colours, truth.voxel_um)
        rows.append(row)
    kept = {name: [row[name] for row in rows if row.get(name) is not None] for name in MEASURES}
    medians = {name: float(np.median(np.array(values, float))) if values else None for name, values in kept.items()}
    return {"slices": len(rows), **medians}


def _resolution_um(image: np.ndarray, real: np.ndarray, mask: np.ndarray, voxel_um: float) -> float | None:
    """FRC resolution in a square inside the sample, whose edge would correlate too; None if there is no room."""
    square = inner_square(mask)
    pair = [luminance(one[:, square[0], square[1]]) for one in (image, real)]
    if min(pair[0].shape) < LEAST_PX:
        return None
    return resolution_px(*ring_correlation(*pair)) * voxel_um


def _read_grey(path: Path, truth: Path, shape: tuple[int, ...]) -> np.ndarray:
    volume = open_unsized(path)
    _check_shape(path, volume.shape, truth, shape)
    voxels = volume.read(0, shape[0])
    print(described(volume, float(voxels.min()), float(voxels.max()), shape[0]))
    return voxels


def _check_shape(path: Path, shape: Sequence[int], truth: Path, expected: Sequence[int]) -> None:
    if tuple(shape) != tuple(expected):
        found, wanted = ("×".join(map(str, one)) for one in (shape, expected))
        raise InputError(f"{path} is {found} voxels but the truth {truth} is {wanted}; they must be of one grid.")


def table(results: Mapping[str, Mapping[str, Any]]) -> str:
    """The scores as Markdown, a column for each volume, a row for each measure that is defined for one."""
    names = _short([name for name in results if name != "truth"]) + ["truth"]
    lines = ["| measure | " + " | ".join(names) + " |", "|---" * (len(names) + 1) + "|"]
    for heading, digits, values in _rows(list(results.values())):
        if any(value is not None for value in values):
            cells = ["not defined" if value is None else f"{value:.{digits}f}" for value in values]
            lines.append(f"| {heading} | " + " | ".join(cells) + " |")
    slices = ", ".join(f"{view['slices']} {name}" for name, view in next(iter(results.values()))["views"].items())
    told = (
        f"Medians over slices ({slices}) inside the sample: what labels do not call background, all without. "
        "PSNR of the volume is of all voxels of the sample. FRC is inf where no frequency correlates."
    )
    trusted = {
        name: one["expected_error"]
        for name, one in zip(names, results.values(), strict=True)
        if "expected_error" in one
    }
    return "\n".join([*lines, "", told, *(["", error_layer.table(trusted)] if trusted else [])])


def _short(paths: Sequence[str]) -> list[str]:
    """Paths without the folders that they share, and without what they all end in."""
    parts = [Path(path).parts for path in paths]
    while len(parts) > 1 and min(map(len, parts)) > 1 and len({part[0] for part in parts}) == 1:
        parts = [part[1:] for part in parts]
    while len(parts) > 1 and min(map(len, parts)) > 1 and len({part[-1] for part in parts}) == 1:
        parts = [part[:-1] for part in parts]
    return ["/".join(part[-2:] if len(parts) == 1 else part) for part in parts]


def _rows(scores: Sequence[Mapping[str, Any]]) -> Iterator[tuple[str, int, list[float | None]]]:
    """Heading, digits and values of every row."""
    for name in MEASURES:
        for view in VIEWS:
            yield f"{SHOWN[name]}, {view}", PLACES.get(name, 2), [one["views"][view][name] for one in scores]
    yield "PSNR ↑ (dB), volume", 2, [one["psnr"] for one in scores]
    for name, shown in (("flicker_levels", "flicker ↓ (grey levels)"), ("stripe_index", "stripe index ↓ (1 = none)")):
        for axis in AXES:
            yield f"{shown}, along {axis}", 2, [one[name][axis] for one in scores]
