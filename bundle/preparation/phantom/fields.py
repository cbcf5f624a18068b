"""Random fields and shapes on a voxel grid, fast enough for whole blocks."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

CHUNK = 1 << 20  # voxels looked at at a time when shapes are painted


def smooth_noise(shape: tuple[int, ...], scale: float, rng: np.random.Generator) -> np.ndarray:
    """A Gaussian random field with a Gaussian correlation, of mean 0 and standard deviation about 1.

    White noise on a coarse grid, spread by one Gaussian matrix per axis.

    Args:
        shape: of the field.
        scale: correlation length in voxels, at least 1.
        rng: where the noise comes from.

    Returns:
        float32 of ``shape``.
    """
    step = max(scale * 0.6, 1.0)
    counts = [int(np.ceil(size / step)) + 7 for size in shape]
    field = rng.standard_normal(counts, dtype=np.float32)
    for size, count in zip(shape, counts, strict=True):
        centres = (np.arange(count) - 3) * step
        weights = np.exp(-(((np.arange(size)[:, None] - centres) / scale) ** 2)).astype(np.float32)
        weights /= np.sqrt((weights**2).sum(1, keepdims=True))
        field = np.tensordot(field, weights, (0, 1))  # consumes the first axis, appends the spread one
    return field


def wave_noise(shape: tuple[int, int, int], period: float, rng: np.random.Generator, waves: int = 40) -> np.ndarray:
    """A sum of plane waves of one wavelength in random directions: thresholded, a network of struts.

    Args:
        shape: (Z, Y, X).
        period: the wavelength in voxels.
        rng: where directions and phases come from.
        waves: how many.

    Returns:
        (Z, Y, X), float32, mean 0, standard deviation 1.
    """
    directions = rng.standard_normal((waves, 3))
    directions *= 2 * np.pi / period / np.linalg.norm(directions, axis=1, keepdims=True)
    phases = rng.uniform(0, 2 * np.pi, (waves, 1))
    z, y, x = (
        np.exp(1j * directions[:, axis : axis + 1] * np.arange(size)).astype(np.complex64)
        for axis, size in enumerate(shape)
    )
    plane = (y[:, :, None] * x[:, None, :] * np.exp(1j * phases)[:, :, None].astype(np.complex64)).reshape(waves, -1)
    field = z.real.T @ plane.real - z.imag.T @ plane.imag
    return (field * np.float32(np.sqrt(2 / waves))).reshape(shape)


def paint_ellipsoids(
    labels: np.ndarray, centres: np.ndarray, axes: np.ndarray, frames: np.ndarray, value: int, over: Sequence[int]
) -> None:
    """Label the voxels inside ellipsoids, in place.

    Args:
        labels: (Z, Y, X).
        centres: (N, 3), voxels, fractional.
        axes: (N, 3), half axes in voxels.
        frames: (3, 3) or (N, 3, 3); columns are the axes' directions in (z, y, x).
        value: the label to write.
        over: the labels it may replace; others stay.
    """
    replaceable = np.zeros(256, bool)
    replaceable[list(over)] = True
    centres, axes = centres.astype(np.float32), axes.astype(np.float32)
    frames = np.broadcast_to(frames.astype(np.float32), (len(centres), 3, 3))
    reach = int(np.ceil(axes.max(initial=0.0))) + 1
    cube = np.stack(np.meshgrid(*[np.arange(-reach, reach + 1)] * 3, indexing="ij"), axis=-1).reshape(-1, 3)
    many = max(1, CHUNK // len(cube))
    for start in range(0, len(centres), many):
        part = slice(start, start + many)
        middle = np.rint(centres[part])[:, None, :]
        away = (cube.astype(np.float32) - (centres[part][:, None, :] - middle)) @ (
            frames[part] / axes[part][:, None, :]
        )
        shape, voxel = np.nonzero(np.einsum("nmi,nmi->nm", away, away) <= 1)
        voxels = middle[shape, 0].astype(int) + cube[voxel]
        voxels = voxels[((voxels >= 0) & (voxels < labels.shape)).all(1)]
        place = tuple(voxels[replaceable[labels[tuple(voxels.T)]]].T)
        labels[place] = value


def paint_tubes(labels: np.ndarray, points: np.ndarray, radii: np.ndarray, value: int, over: Sequence[int]) -> None:
    """Label the voxels within ``radii`` (N,) of ``points`` (N, 3) that lie close along lines, in place."""
    near = ((points > -radii[:, None]) & (points < labels.shape + radii[:, None])).all(1)
    points, radii = points[near], radii[near]
    paint_ellipsoids(labels, points, np.repeat(radii[:, None], 3, axis=1), np.eye(3), value, over)
