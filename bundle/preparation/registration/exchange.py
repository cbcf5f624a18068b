"""Registrations as other programs read them: transforms of ITK, the section as a slice of the scan's world."""

from __future__ import annotations

from pathlib import Path

import itk
import numpy as np

from bundle.common.atomic import whole_file
from bundle.images.volumes.geometry import Geometry
from bundle.preparation.registration.pair import Grid, section_pixels


def world(geometry: Geometry, voxels: np.ndarray) -> np.ndarray:
    """Voxel coordinates (N, 3) as (z, y, x) → mm in the scan's world (x, y, z), ITK's LPS."""
    scaled = voxels[:, ::-1] * np.array(geometry.spacing_um[::-1]) / 1000
    return np.asarray(geometry.origin_mm) + scaled @ geometry.direction.T


def plane_in_world(grid: Grid, geometry: Geometry) -> tuple[np.ndarray, np.ndarray]:
    """Rotation (3, 3), offset (3,): a pair's point (x along columns, y down rows, 0; mm) into the world."""
    first = grid.voxels()[:1]
    frame = grid.pose.frame
    origin = world(geometry, first)[0]
    right = geometry.direction @ frame[::-1, 1]
    down = geometry.direction @ frame[::-1, 0]
    return np.column_stack([right, down, np.cross(right, down)]), origin


def section_from_pair(
    grid: Grid, section: tuple[int, int], voxel_um: float, pixel_um: float, first: tuple[float, float]
) -> tuple[np.ndarray, np.ndarray]:
    """Linear part (2, 2) and offset (2,) from a pair's point (x, y; mm) to the slide's (x, y; mm).

    Args:
        grid: of the pair.
        section: (H, W) in voxels.
        voxel_um: size of the pair's pixels.
        pixel_um: of the slide's own; its point (0, 0) is the middle of its first pixel.
        first: row and column of the section's corner on the slide, µm.
    """
    inverse = np.linalg.inv(grid.pose.linear)
    corner = inverse @ np.array([grid.top, grid.left]) + (np.array(section) - 1) / 2
    offset = (np.array(first) + (corner + 0.5) * voxel_um - 0.5 * pixel_um) / 1000
    return inverse[::-1, ::-1], offset[::-1]


def write_rigid(path: Path, rotation: np.ndarray, offset: np.ndarray) -> None:
    """Write a rigid transform, ``Euler3DTransform``."""
    transform = itk.Euler3DTransform[itk.D].New()
    transform.SetMatrix(itk.matrix_from_array(np.ascontiguousarray(rotation)), 1e-6)
    transform.SetOffset(offset.tolist())
    with whole_file(path) as partial:
        itk.transformwrite([transform], str(partial))


def write_affine(path: Path, linear: np.ndarray, offset: np.ndarray) -> None:
    """Write an affine transform of the plane as one of space, which is what 3D Slicer loads; z stays."""
    transform = itk.AffineTransform[itk.D, 3].New()
    whole = np.eye(3)
    whole[:2, :2] = linear
    transform.SetMatrix(itk.matrix_from_array(whole))
    transform.SetOffset([*offset.tolist(), 0.0])
    with whole_file(path) as partial:
        itk.transformwrite([transform], str(partial))


def write_in_world(path: Path, pixels: np.ndarray, grid: Grid, geometry: Geometry) -> None:
    """Write (C, H, W) as a volume of one slice that lies where it was cut, NRRD."""
    rotation, origin = plane_in_world(grid, geometry)
    image = itk.image_from_array(
        np.ascontiguousarray(pixels.transpose(1, 2, 0)[None] if len(pixels) > 1 else pixels), is_vector=len(pixels) > 1
    )
    image.SetSpacing([geometry.spacing_um[0] / 1000] * 3)
    image.SetOrigin(origin.tolist())
    image.SetDirection(itk.matrix_from_array(np.ascontiguousarray(rotation)))
    with whole_file(path) as partial:
        itk.imwrite(image, str(partial), compression=True)


def pair_shifts(grid: Grid, section: tuple[int, int], warp: np.ndarray, voxel_um: float) -> np.ndarray:
    """Local shifts as displacements to apply before ``section.tfm``, (2, H, W): rows, columns; mm."""
    moved = section_pixels(grid, section, warp) - section_pixels(grid, section, None)
    return (moved @ grid.pose.linear.T).T.reshape(2, *grid.shape) * voxel_um / 1000


def write_warp(path: Path, shifts_mm: np.ndarray, voxel_um: float) -> None:
    """Write a displacement field (2, H, W; rows and columns, mm) as ITK and 3D Slicer read one."""
    field = np.zeros((1, *shifts_mm.shape[1:], 3), np.float32)
    field[0, ..., 0], field[0, ..., 1] = shifts_mm[1], shifts_mm[0]
    image = itk.image_from_array(field, is_vector=True)
    image.SetSpacing([voxel_um / 1000] * 3)
    with whole_file(path) as partial:
        itk.imwrite(image, str(partial), compression=True)
