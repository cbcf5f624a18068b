"""How right the expected error of a stained volume is, where the true stain is known."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from bundle.common.errors import InputError
from bundle.evaluation.error_map import (
    KEPT,
    TRIVIAL,
    WINDOW,
    abstention,
    auroc_of_worst,
    coverage,
    trivial_scores,
    true_error,
    windows_of,
)
from bundle.evaluation.trust import SHARES, TOLD
from bundle.images.stained.number_map import open_map
from bundle.networks.cells import CELL, cells_of
from bundle.staining.job import map_of


@dataclass(frozen=True)
class Layer:
    """The expected error of some slices along z of a volume.

    Attributes:
        cubes: (D, H, W), levels, in cubes of 4 voxels; NaN where it is not known.
        start: the first of the slices.
        bound: what it is multiplied with for a bound.
        level: the share of the voxels that this is to hold for.
    """

    cubes: np.ndarray
    start: int
    bound: float
    level: float

    def at(self, place: int, height: int, width: int) -> np.ndarray:
        """A slice, counted from ``start``, at each of its voxels: (height, width), levels."""
        first = self.start // CELL
        cubes = self.cubes[(self.start + place) // CELL - first]
        return cubes.repeat(CELL, 0).repeat(CELL, 1)[:height, :width]


def open_layer(stain: Path, shape: Sequence[int], part: slice) -> Layer:
    """Read the expected error of a stained volume.

    Args:
        stain: the volume; its map lies in it or beside it.
        shape: (Z, Y, X) of it.
        part: which slices along z.

    Raises:
        InputError: if the map is corrupt, of another shape, or does not say its bound.
    """
    path = map_of(stain)
    found = open_map(path)
    expected = tuple(map(cells_of, shape))
    if found.shape != expected:
        raise InputError(
            f"{path} has {found.shape} cubes, but {stain} has {expected}, of {CELL} voxels a side; stain the volume "
            "again, or remove the map."
        )
    told = found.about.get("expected_error")
    if not isinstance(told, dict) or not {"bound", "level"} <= {*told}:
        raise InputError(f"{path} does not say its bound; stain the volume again, or remove the map.")
    cubes = found.read((slice(part.start // CELL, cells_of(part.stop)), slice(None), slice(None)))[..., 0]
    return Layer(cubes, part.start, float(told["bound"]), float(told["level"]))


def score_layer(
    layer: Layer,
    stain: np.ndarray,
    true: np.ndarray,
    inside: np.ndarray,
    every: int,
    labels: np.ndarray | None = None,
    tissues: Mapping[str, Sequence[int]] = MappingProxyType({}),
    scan: np.ndarray | None = None,
) -> dict[str, Any]:
    """Hold an expected error against the true one, in windows of 32 px of slices along z.

    Args:
        layer: the expected error of these slices.
        stain: (Z, Y, X, 3), uint8.
        true: likewise.
        inside: (Z, Y, X), bool, the sample; nothing outside counts.
        every: look at every so many slices, at least at one.
        labels: (Z, Y, X); None, without tissues.
        tissues: the labels of each.
        scan: (Z, Y, X), any units; None leaves out the scores that need no network.

    Returns:
        ``windows``, how many; ``known``, the share of the sample's voxels whose expected error is known, which alone
        count; ``expected_error`` and ``true_error``, means; ``auroc`` of the worst tenth of the windows of all slices,
        and ``trivial`` of :data:`TRIVIAL`; ``level`` and ``coverage`` of the bound, and ``tissues``, that of each;
        ``abstention``, the mean error by share of the windows kept. None for what is not defined or not given.
    """
    windows: dict[str, list[np.ndarray]] = {}
    voxels: dict[str, list[np.ndarray]] = {}
    sample = 0
    for place in range(min(every // 2, len(stain) - 1), len(stain), every):
        expected = layer.at(place, *inside.shape[1:])
        error = true_error(stain[place].transpose(2, 0, 1), true[place].transpose(2, 0, 1))
        known = inside[place] & np.isfinite(expected)
        sample += int(inside[place].sum())
        both = {"expected": expected, "error": error}
        for name, score in {**both, **({} if scan is None else trivial_scores(scan[place]))}.items():
            windows.setdefault(name, []).append(windows_of(score, known, WINDOW))
        for name, image in {**both, **({} if labels is None else {"labels": labels[place]})}.items():
            voxels.setdefault(name, []).append(image[known])
    window, voxel = ({name: np.concatenate(each) for name, each in parts.items()} for parts in (windows, voxels))
    covered = lambda there: coverage(voxel["error"], layer.bound * voxel["expected"], there)
    aurocs = {name: _defined(auroc_of_worst(score, window["error"])) for name, score in window.items()}
    curve = abstention(window["expected"], window["error"])
    number = len(voxel["error"])
    return {
        "windows": len(window["error"]),
        "known": number / sample if sample else None,
        "expected_error": float(voxel["expected"].mean()) if number else None,
        "true_error": float(voxel["error"].mean()) if number else None,
        "auroc": aurocs["expected"],
        "trivial": {name: aurocs.get(name) for name in TRIVIAL},
        "level": layer.level,
        "coverage": covered(np.ones(number, bool)),
        "tissues": {name: covered(np.isin(voxel["labels"], values)) for name, values in tissues.items()},
        "abstention": {str(share): _defined(value) for share, value in zip(KEPT, curve, strict=True)},
    }


def _defined(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def table(results: Mapping[str, Mapping[str, Any]]) -> str:
    """The scores as Markdown, a column for each volume, a row for each that is defined for one."""
    lines = ["| expected error | " + " | ".join(results) + " |", "|---" * (len(results) + 1) + "|"]
    for rows in zip(*map(_rows, results.values()), strict=True):
        heading, digits, _ = rows[0]
        values = [value for _, _, value in rows]
        if any(value is not None for value in values):
            cells = ["not defined" if value is None else f"{value:.{digits}f}" for value in values]
            lines.append(f"| {heading} | " + " | ".join(cells) + " |")
    told = (
        f"AUROC is of finding the worst tenth of the windows of {WINDOW} px, of slices along z. Voxels whose expected "
        "error is not known do not count."
    )
    return "\n".join([*lines, "", told])


def _rows(found: Mapping[str, Any]) -> list[tuple[str, int, float | None]]:
    """Heading, digits and value of every row of one volume."""
    return [
        ("known (% of the sample)", 1, _percent(found["known"])),
        ("AUROC ↑", 2, found["auroc"]),
        *((f"AUROC of the {TOLD[name]}", 2, value) for name, value in found["trivial"].items()),
        (f"within the bound (%; {100 * found['level']:.0f} wanted)", 1, _percent(found["coverage"])),
        *((f"within the bound (%), {name}", 1, _percent(value)) for name, value in found["tissues"].items()),
        ("mean error (levels of 255)", 1, found["true_error"]),
        ("mean expected error", 1, found["expected_error"]),
        *(
            (f"mean error of the windows, {100 * share:.0f} % kept", 1, found["abstention"][str(share)])
            for share in SHARES
        ),
    ]


def _percent(share: float | None) -> float | None:
    return None if share is None else 100 * share
