"""Slides of one tissue as two stains, one of them laid any way on glass."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from scipy.ndimage import affine_transform, gaussian_filter
from skimage.color import rgb2hed
from skimage.data import immunohistochemistry

from bundle.images.slides import write_slide

GLASS = 240.0


def tissue(size: int = 240) -> np.ndarray:
    """Colon with hematoxylin and DAB, cut out irregularly and laid on glass, (3, size, size), uint8."""
    image = immunohistochemistry()[:: 512 // size, :: 512 // size][:size, :size].transpose(2, 0, 1)
    outline = gaussian_filter(np.random.default_rng(2).standard_normal((size, size)), size / 10)
    rows, columns = np.indices((size, size)) / size - 0.5
    inside = np.hypot(rows, 0.8 * columns) + 0.1 * outline / outline.std() < 0.42
    return np.where(inside, image, GLASS).astype(np.uint8)


def restained(image: np.ndarray) -> np.ndarray:
    """The same tissue as another stain shows it: its hematoxylin alone, in brown."""
    hematoxylin = np.clip(rgb2hed(image.transpose(1, 2, 0))[..., 0], 0, None)
    share = hematoxylin / np.quantile(hematoxylin, 0.99)
    brown = np.exp(-np.clip(share, 0, 1.2) * np.array([0.5, 0.9, 1.3])[:, None, None])
    return np.rint(GLASS * brown).astype(np.uint8)


def laid(
    image: np.ndarray, turn_deg: float, shift: tuple[float, float], scale: float = 1.0, mirrored: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """An image turned about its middle on a larger glass.

    Returns:
        (3, S, S), uint8, and the matrix (2, 3): row and column there = matrix @ (row, column, 1) on the image.
    """
    angle = np.deg2rad(turn_deg)
    linear = scale * np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    if mirrored:
        linear = linear @ np.diag([1.0, -1.0])
    side = round(1.5 * max(image.shape[1:]))
    middle, centre = (np.array(image.shape[1:]) - 1) / 2, np.full(2, (side - 1) / 2)
    offset = centre + shift - linear @ middle
    back = np.linalg.inv(linear)
    moved = [
        affine_transform(each.astype(float), back, -back @ offset, (side, side), order=1, cval=GLASS) for each in image
    ]
    return np.rint(np.stack(moved)).astype(np.uint8), np.column_stack([linear, offset])


def errors_px(found: np.ndarray, planted: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Distances (N,) of where two matrices (2, 3) put the pixels of a slide."""
    places = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), axis=-1).reshape(-1, 2)
    both = [places @ matrix[:, :2].T + matrix[:, 2] for matrix in (found, planted)]
    return np.hypot(*(both[0] - both[1]).T)


def write_two(
    folder: Path, source: np.ndarray, target: np.ndarray, um: tuple[float, float] = (2.0, 2.0)
) -> dict[str, str]:
    """Write both as TIFF; the options that name them."""
    paths = {"source": folder / "source.tif", "target": folder / "target.tif"}
    for path, image, pixel_um in zip(paths.values(), (source, target), um, strict=True):
        write_slide(path, image, pixel_um)
    return {name: str(path) for name, path in paths.items()}
