"""Where the voxels of a scan lie."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

SAME = 0.01  # voxel sizes closer than 1 % are one: a scanner's calibration is no better


@dataclass(frozen=True)
class Geometry:
    """Where a voxel grid lies in the world, in ITK's convention: LPS, mm.

    ``world = origin + direction · diag(spacing x, y, z) · index x, y, z``.

    Attributes:
        spacing_um: voxel size along (z, y, x), in µm.
        origin_mm: world (x, y, z) of the centre of voxel (0, 0, 0), in mm.
        direction: (3, 3); columns are the directions of the x, y and z axes.
    """

    spacing_um: tuple[float, float, float]
    origin_mm: tuple[float, float, float]
    direction: np.ndarray
