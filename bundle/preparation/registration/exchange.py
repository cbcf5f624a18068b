"""Registrations as other programs read them: transforms of ITK, the section as a slice of the scan's world."""

from __future__ import annotations

import gzip
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from bundle.common.atomic import whole_file
from bundle.images.volumes.geometry import Geometry
from bundle.preparation.registration.pair import Grid, section_pixels

TYPES = {"uint8": "unsigned char", "uint16": "unsigned short", "float32": "float"}
COLOURS = {3: "RGB-color", 4: "RGBA-color"}  # of 8 bits, as ITK has them


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
    _write_transform(path, "Euler3DTransform", [*euler_angles(rotation), *offset], [0, 0, 0, 0])


def euler_angles(rotation: np.ndarray) -> tuple[float, float, float]:
    """Angles about x, y and z, rad, of a rotation (3, 3) that turns about y first, then x, then z, as ITK's does."""
    about_x = np.arctan2(rotation[2, 1], np.hypot(rotation[2, 0], rotation[2, 2]))
    about_y = np.arctan2(-rotation[2, 0], rotation[2, 2])
    sine, cosine, s, c = np.sin(about_x), np.cos(about_x), np.sin(about_y), np.cos(about_y)
    others = np.array([[c, 0, s], [sine * s, cosine, -sine * c], [-cosine * s, sine, cosine * c]])
    about_z = rotation @ others.T  # what is left, so that near |x| = 90°, where y says little, the product still holds
    return float(about_x), float(about_y), float(np.arctan2(about_z[1, 0], about_z[0, 0]))


def write_affine(path: Path, linear: np.ndarray, offset: np.ndarray) -> None:
    """Write an affine transform of the plane as one of space, which is what 3D Slicer loads; z stays."""
    whole = np.eye(3)
    whole[:2, :2] = linear
    _write_transform(path, "AffineTransform", [*whole.ravel(), *offset, 0], [0, 0, 0])


def _write_transform(path: Path, kind: str, parameters: Sequence[float], fixed: Sequence[float]) -> None:
    lines = (
        "#Insight Transform File V1.0",
        "#Transform 0",
        f"Transform: {kind}_double_3_3",
        f"Parameters: {_numbers(parameters)}",
        f"FixedParameters: {_numbers(fixed)}",
    )
    with whole_file(path) as partial:
        partial.write_text("\n".join(lines) + "\n", encoding="ascii", newline="\n")


def _numbers(values: Iterable[float], between: str = " ") -> str:
    """Numbers in full, such that reading them gives the same bits."""
    return between.join(repr(float(value)).removesuffix(".0") for value in values)


def write_in_world(path: Path, pixels: np.ndarray, grid: Grid, geometry: Geometry) -> None:
    """Write (C, H, W) as a volume of one slice that lies where it was cut, NRRD."""
    rotation, origin = plane_in_world(grid, geometry)
    _write_nrrd(path, pixels.transpose(1, 2, 0)[None], rotation * geometry.spacing_um[0] / 1000, origin)


def _write_nrrd(path: Path, voxels: np.ndarray, steps: np.ndarray, origin: np.ndarray) -> None:
    """Write (D, H, W, C) as NRRD with the header that ITK writes; pynrrd's would hold the time of writing.

    Args:
        path: the file.
        voxels: uint8, uint16 or float32.
        steps: (3, 3), a column each for a step along W, H and D, mm in the world (LPS).
        origin: (3,), middle of the first voxel there.
    """
    channels = voxels.shape[-1]
    kind = COLOURS.get(channels, "vector") if voxels.dtype == np.uint8 else "vector"
    inner = channels > 1
    sizes = [*([channels] if inner else []), *voxels.shape[2::-1]]
    directions = [f"({_numbers(step, ',')})" for step in steps.T]
    header = (
        "NRRD0004",
        "# Complete NRRD file format specification at:",
        "# http://teem.sourceforge.net/nrrd/format.html",
        f"type: {TYPES[voxels.dtype.name]}",
        f"dimension: {len(sizes)}",
        "space: left-posterior-superior",
        f"sizes: {' '.join(map(str, sizes))}",
        f"space directions: {' '.join(['none'] * inner + directions)}",
        f"kinds: {' '.join([kind] * inner + ['domain'] * 3)}",
        *(["endian: little"] if voxels.dtype.itemsize > 1 else []),
        "encoding: gzip",
        f"space origin: ({_numbers(origin, ',')})",
    )
    little = voxels.astype(voxels.dtype.newbyteorder("<"), copy=False)
    with whole_file(path) as partial:
        data = gzip.compress(np.ascontiguousarray(little).tobytes(), compresslevel=6, mtime=0)
        partial.write_bytes("\n".join(header).encode("ascii") + b"\n\n" + data)


def pair_shifts(grid: Grid, section: tuple[int, int], warp: np.ndarray, voxel_um: float) -> np.ndarray:
    """Local shifts as displacements to apply before ``section.tfm``, (2, H, W): rows, columns; mm."""
    moved = section_pixels(grid, section, warp) - section_pixels(grid, section, None)
    return (moved @ grid.pose.linear.T).T.reshape(2, *grid.shape) * voxel_um / 1000


def write_warp(path: Path, shifts_mm: np.ndarray, voxel_um: float) -> None:
    """Write a displacement field (2, H, W; rows and columns, mm) as ITK and 3D Slicer read one."""
    field = np.zeros((1, *shifts_mm.shape[1:], 3), np.float32)
    field[0, ..., 0], field[0, ..., 1] = shifts_mm[1], shifts_mm[0]
    _write_nrrd(path, field, np.eye(3) * voxel_um / 1000, np.zeros(3))
