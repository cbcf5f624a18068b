"""Where the sample is: the convex hull of bone and screw in a scan, from the scan alone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.spatial import ConvexHull, QhullError

from bundle.common.errors import InputError
from bundle.images.parts import MARGIN_PX, main_parts
from bundle.images.volumes.fill import find_fill, some_slices, without_fill
from bundle.images.volumes.volume import Volume, resample

COARSE = 96  # voxels along the longest axis that the sample is looked for in
LEVEL = 1e-9


@dataclass(frozen=True)
class Hull:
    """A convex body in a volume.

    Attributes:
        planes: (F, 4): a point (z, y, x), in voxels from the volume's first outer corner, is inside where
            planes[:, :3] · point + planes[:, 3] ≤ 0 for all.
    """

    planes: np.ndarray

    def slab(self, axis: str, start: int, stop: int, shape: tuple[int, int, int]) -> np.ndarray:
        """Which voxels of slices across an axis have their centre inside.

        Args:
            axis: ``z``, ``y`` or ``x``.
            start: first slice.
            stop: one after the last.
            shape: (Z, Y, X) of the volume.

        Returns:
            (n, H, W), bool.
        """
        place = "zyx".index(axis)
        sides = [np.arange(size) + 0.5 for size in shape]
        sides[place] = np.arange(start, stop) + 0.5
        z, y, x = sides
        low = np.full((len(z), len(y)), -np.inf)
        high = np.full((len(z), len(y)), np.inf)
        for a, b, c, d in self.planes:  # each plane cuts a line along x at one place
            rest = a * z[:, None] + b * y[None, :] + d
            if abs(c) < LEVEL:
                high[rest > 0] = -np.inf
            elif c > 0:
                np.minimum(high, -rest / c, out=high)
            else:
                np.maximum(low, -rest / c, out=low)
        inside = (x >= low[..., None]) & (x <= high[..., None])
        return np.moveaxis(inside, place, 0)


def find_hull(
    volume: Volume,
    bone_intensity: float,
    background_intensity: float,
    margin_voxels: float = MARGIN_PX,
    report: Callable[[int, int], None] | None = None,
) -> Hull:
    """Convex hull, in 3D, of what is brighter than half-way from background to bone, without specks and tube walls.

    As the masks of a pair are made from its µCT (§2.8), on a copy of at most 96 voxels along the longest axis. What
    lies outside a reconstruction circle is background (:func:`bundle.images.volumes.fill.find_fill`).

    Args:
        volume: the scan.
        bone_intensity: mean grey value of bone in it.
        background_intensity: likewise, of background.
        margin_voxels: how far the faces are moved out.
        report: called with the slices done and the slices in all.

    Returns:
        The hull.

    Raises:
        InputError: if nothing is that bright, or all of it lies in one plane.
    """
    spacing_um = np.asarray(volume.geometry.spacing_um)
    extent_um = spacing_um * volume.shape
    box_um = max(float(spacing_um.max()), min(float(extent_um.max()) / COARSE, float(extent_um.min())))
    fill = find_fill(some_slices(volume)[0])
    scan = volume if fill is None else without_fill(volume, fill, background_intensity)
    coarse = resample(scan, box_um, report)
    sign = 1 if bone_intensity > background_intensity else -1
    bright = sign * coarse > sign * (bone_intensity + background_intensity) / 2
    parts = np.stack([main_parts(each) if each.any() else each for each in bright])
    found = np.argwhere(parts)
    corners = np.unique(np.concatenate([found + np.array(corner) for corner in np.ndindex(2, 2, 2)]), axis=0)
    try:
        # what touches the last box goes on to the end, of which less than half a box was left out
        points = np.where(corners == coarse.shape, volume.shape, corners * (box_um / spacing_um))
        planes = ConvexHull(points).equations
    except (QhullError, ValueError) as error:
        raise InputError(
            f"no sample is found in {volume.path}: nothing solid is brighter than half-way from background_intensity "
            f"{background_intensity:g} to bone_intensity {bone_intensity:g}; check them, or leave --hull out."
        ) from error
    planes[:, 3] -= margin_voxels
    return Hull(planes)
