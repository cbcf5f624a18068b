"""What a user knows of where the section lies."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np

from bundle.common.errors import InputError
from bundle.images.volumes.geometry import Geometry
from bundle.preparation.registration.pose import Pose
from bundle.preparation.registration.search import Guess

FORMS = (
    "give a slice of the scan (--guess z=600), three corners of the section in it "
    "(--guess '[[z,y,x],[z,y,x],[z,y,x]]': top left, top right, bottom left, in voxels), or the registration.json of "
    "an earlier one"
)
AXES = "zyx"


def read_guess(
    guess: Any,
    turn_deg: float,
    mirrored: bool,
    within_deg: float,
    within_um: float,
    scan: Geometry,
    grid: Geometry,
    size: tuple[int, ...],
) -> Guess:
    """Turn a guess as typed into a pose.

    Args:
        guess: ``z=600`` (or y, x; a slice of the scan as stored), three corners, or a path.
        turn_deg: clockwise turn that makes the section look like the slice, as drawn with rows down and columns to the
            right; for a slice only.
        mirrored: whether it must be turned over (left and right changed) before that; for a slice only.
        within_deg: how far off its orientation may be.
        within_um: how far off its place may be.
        scan: voxels that the guess counts.
        grid: voxels that registration works on.
        size: of the volume on that grid.

    Returns:
        The guess on the grid.

    Raises:
        InputError: if it has another form or lies outside the scan.
    """
    ratio = np.array(scan.spacing_um) / np.array(grid.spacing_um)
    named = re.fullmatch(r"\s*([zyx])\s*=\s*(-?\d+(?:\.\d+)?)\s*", guess) if isinstance(guess, str) else None
    if named:
        pose = _of_slice(named[1], float(named[2]), turn_deg, mirrored, ratio, size)
    elif isinstance(guess, str) and guess.endswith(".json"):
        pose = _of_registration(Path(guess), grid)
    else:
        pose = _of_corners(guess, ratio)
    if ((pose.centre < -0.1 * np.array(size)) | (pose.centre > 1.1 * np.array(size))).any():
        place = ", ".join(f"{value:.0f}" for value in pose.centre / ratio)
        raise InputError(f"guess {guess!r} puts the section's middle at voxel ({place}), outside the scan; {FORMS}.")
    return Guess(pose, within_deg, within_um / grid.spacing_um[0])


def _of_slice(axis: str, at: float, turn_deg: float, mirrored: bool, ratio: np.ndarray, size: tuple[int, ...]) -> Pose:
    number = AXES.index(axis)
    rows, columns = (np.eye(3)[place] for place in range(3) if place != number)
    turn = np.deg2rad(turn_deg)
    down = np.cos(turn) * rows - np.sin(turn) * columns
    right = np.sin(turn) * rows + np.cos(turn) * columns
    centre = (np.array(size) - 1) / 2
    centre[number] = (at + 0.5) * ratio[number] - 0.5
    return Pose.of_matrix(np.column_stack([down, -right if mirrored else right]), centre)


def _of_corners(guess: Any, ratio: np.ndarray) -> Pose:
    try:
        corners = np.array(guess, float)
    except (TypeError, ValueError):
        corners = np.empty(0)
    if corners.shape != (3, 3) or not np.isfinite(corners).all():
        raise InputError(f"guess is {guess!r}; {FORMS}.")
    first, right, down = (corners + 0.5) * ratio - 0.5
    if np.linalg.norm(np.cross(right - first, down - first)) < 1:
        raise InputError(f"guess {guess!r}: the three corners lie on one line; {FORMS}.")
    pose = Pose.of_matrix(np.column_stack([down - first, right - first]), (right + down) / 2)
    return Pose(pose.frame, pose.centre, np.eye(2))


def _of_registration(path: Path, grid: Geometry) -> Pose:
    if not path.is_file():
        raise InputError(f"guess {path} does not exist; {FORMS}.")
    try:
        plane = json.loads(path.read_text(encoding="utf-8"))["plane"]
        down, right, centre = (np.array(plane[key], float) for key in ("down", "right", "centre"))
        voxel_um = float(plane["voxel_um"])
    except (json.JSONDecodeError, KeyError, TypeError, ValueError) as error:
        raise InputError(f"guess {path} is no registration.json: {error}; {FORMS}.") from error
    ratio = voxel_um / np.array(grid.spacing_um)
    return Pose.of_matrix(np.column_stack([down, right]), (centre + 0.5) * ratio - 0.5)
