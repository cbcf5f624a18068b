"""Landmarks: points that a person has found in both images, to check a registration by."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np

from bundle.common.errors import InputError


def read_landmarks(path: Path, columns: tuple[str, ...]) -> np.ndarray:
    """Read points from a CSV file with a heading.

    Args:
        path: the file.
        columns: the headings to read, for example ``("z", "y", "x")``; others are left alone.

    Returns:
        (N, columns), float, in the file's order; at least one.

    Raises:
        InputError: if it is missing, lacks a column, or holds something else than numbers.
    """
    if not path.is_file():
        raise InputError(f"{path} does not exist; landmarks are a CSV file with columns {', '.join(columns)}.")
    with path.open(newline="", encoding="utf-8-sig") as file:
        rows = list(csv.DictReader(file, skipinitialspace=True))
    missing = [name for name in columns if not rows or name not in rows[0]]
    if missing:
        raise InputError(f"{path} has no column {', '.join(missing)}, or no line; it needs {', '.join(columns)}.")
    points = []
    for number, row in enumerate(rows, start=2):
        try:
            points.append([float(row[name]) for name in columns])
        except (TypeError, ValueError) as error:
            raise InputError(f"{path}, line {number}: {[row[name] for name in columns]}; give numbers.") from error
    return np.array(points)


def read_pairs(volume: Path, section: Path) -> tuple[np.ndarray, np.ndarray]:
    """Read the landmarks of scan (z, y, x; voxels) and section (row, column; its own pixels).

    Raises:
        InputError: as :func:`read_landmarks`, or if they are not equally many.
    """
    voxels, pixels = read_landmarks(volume, ("z", "y", "x")), read_landmarks(section, ("row", "column"))
    if len(voxels) != len(pixels):
        raise InputError(
            f"{volume} has {len(voxels)} landmarks and {section} has {len(pixels)}; line for line they must be the "
            "same points."
        )
    return voxels, pixels


def errors_um(voxels: np.ndarray, expected: np.ndarray, normal: np.ndarray, voxel_um: float) -> dict[str, list[float]]:
    """Distances of landmarks from where the registration puts them.

    Args:
        voxels: (N, 3), in the scan.
        expected: (N, 3), where the section's landmarks come to lie.
        normal: (3,), of the plane.
        voxel_um: of both.

    Returns:
        ``in_plane_um`` and ``out_of_plane_um`` of each.
    """
    off = voxels - expected
    above = off @ normal
    along = np.linalg.norm(off - np.outer(above, normal), axis=1)
    return {
        "in_plane_um": (along * voxel_um).tolist(),
        "out_of_plane_um": (np.abs(above) * voxel_um).tolist(),
    }
