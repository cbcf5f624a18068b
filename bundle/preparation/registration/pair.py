"""The pair on the voxel grid: the plane of the scan, and the section resampled to it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import map_coordinates

from bundle.common.errors import InputError
from bundle.preparation.registration.pose import Pose

FINER = 2  # the section is resampled at so many pixels a voxel side, and then averaged


@dataclass(frozen=True)
class Grid:
    """The pixels of a pair: whole voxels down and along the plane from the section's middle.

    Attributes:
        pose: of the section.
        top: row of the first pixel, voxels from the middle.
        left: column likewise.
        shape: rows and columns.
    """

    pose: Pose
    top: int
    left: int
    shape: tuple[int, int]

    def places(self, finer: int = 1) -> np.ndarray:
        """Rows and columns (H · W, 2) on the plane, voxels from the section's middle."""
        steps = [
            first - 0.5 + (np.arange(size * finer) + 0.5) / finer
            for first, size in zip((self.top, self.left), self.shape, strict=True)
        ]
        return np.stack(np.meshgrid(*steps, indexing="ij"), axis=-1).reshape(-1, 2)

    def voxels(self, above: float = 0.0) -> np.ndarray:
        """Voxel coordinates (H · W, 3) of the pixels, ``above`` voxels along the normal."""
        return self.places() @ self.pose.frame[:, :2].T + self.pose.centre + above * self.pose.frame[:, 2]


@dataclass(frozen=True)
class Pair:
    """Scan and section on one grid.

    Attributes:
        grid: their pixels.
        source: (1, H, W), the scan's own grey values: uint8 or uint16 if those are its type, else float32.
        target: (3, H, W), uint8.
        field: (H, W), bool, where both have data.
    """

    grid: Grid
    source: np.ndarray
    target: np.ndarray
    field: np.ndarray


def common_grid(volume: tuple[int, ...], section: tuple[int, int], pose: Pose, warp: np.ndarray | None) -> Grid:
    """The smallest grid that holds all that scan and section have in common (§2.3).

    Args:
        volume: (Z, Y, X).
        section: (H, W), pixels of the voxels' size.
        pose: of the section.
        warp: (2, H, W) of :class:`~bundle.preparation.registration.finish.Finished`; None for the affine transform
            alone.

    Raises:
        InputError: if they have nothing in common.
    """
    corners = np.array([[r, c] for r in (-0.5, 0.5) for c in (-0.5, 0.5)]) * np.array(section) @ pose.linear.T
    low, high = np.floor(corners.min(0)).astype(int), np.ceil(corners.max(0)).astype(int)
    whole = Grid(pose, int(low[0]), int(low[1]), tuple(int(size) for size in high - low + 1))  # type: ignore[arg-type]
    field = _inside(whole.voxels(), volume) & _inside(section_pixels(whole, section, warp), section)
    field = field.reshape(whole.shape)
    rows, columns = np.flatnonzero(field.any(1)), np.flatnonzero(field.any(0))
    if len(rows) < 2 or len(columns) < 2:
        raise InputError(
            "the section found no place in the scan: they have no overlap. Check voxel and pixel sizes, or guess the "
            "plane with --guess."
        )
    shape = int(rows[-1] - rows[0] + 1), int(columns[-1] - columns[0] + 1)
    return Grid(pose, whole.top + int(rows[0]), whole.left + int(columns[0]), shape)


def section_pixels(grid: Grid, section: tuple[int, int], warp: np.ndarray | None, finer: int = 1) -> np.ndarray:
    """Where the grid's pixels lie on the section, (N, 2) in its pixels of the voxels' size.

    Place q of the plane shows the section's place p with p + warp(p) = linear⁻¹ q, found by fixed-point iteration.
    """
    middle = (np.array(section) - 1) / 2
    places = grid.places(finer) @ np.linalg.inv(grid.pose.linear).T + middle
    if warp is None:
        return places
    found = places.copy()
    for _ in range(10):
        moved = [map_coordinates(part, found.T, order=1, mode="nearest") for part in warp]
        found = places - np.stack(moved, axis=1)
    return found


def _inside(points: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    return np.all((points >= 0) & (points <= np.array(shape) - 1), axis=1)


def make_pair(
    volume: np.ndarray,
    grid: Grid,
    slide: np.ndarray,
    section: tuple[int, int],
    warp: np.ndarray | None,
    slab: int = 1,
    per_voxel: float = FINER,
    corner: tuple[float, float] = (0.0, 0.0),
) -> Pair:
    """Resample scan and section to the grid.

    Args:
        volume: (Z, Y, X).
        grid: the pair's.
        slide: (3, h, w), uint8, with pixels of its own.
        section: (H, W), its size in voxels.
        warp: local shifts to apply, or None.
        slab: slices of the scan to average, an odd number.
        per_voxel: pixels of ``slide`` a voxel side, at best ``FINER``.
        corner: row and column of the section's top left corner on ``slide``, in its pixels from its own corner.

    Returns:
        The pair.
    """
    voxels = grid.voxels()
    source = np.mean([_plane(volume, grid, n - slab // 2) for n in range(slab)], axis=0).reshape(grid.shape)
    if volume.dtype in (np.uint8, np.uint16):
        source = np.rint(source).astype(volume.dtype)
    pixels = section_pixels(grid, section, warp)
    field = (_inside(voxels, volume.shape) & _inside(pixels, section)).reshape(grid.shape)
    fine = (section_pixels(grid, section, warp, FINER) + 0.5) * per_voxel + np.array(corner) - 0.5
    target = []
    for channel in slide:
        values = map_coordinates(channel, fine.T, np.float32, order=1, mode="nearest")
        tall, wide = grid.shape
        target.append(values.reshape(tall, FINER, wide, FINER).mean((1, 3)))
    target = np.clip(np.rint(np.stack(target)), 0, 255).astype(np.uint8)
    return Pair(grid, source[None], target, field)


def _plane(volume: np.ndarray, grid: Grid, above: float) -> np.ndarray:
    """The scan in the plane, the nearest voxel where it ends, (H · W,) float32."""
    points = np.clip(grid.voxels(above), 0, np.array(volume.shape) - 1)
    return map_coordinates(volume, points.T, np.float32, order=1, mode="nearest")
