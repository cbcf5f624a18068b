"""The expected error of a stained volume in colours, plane by plane, beside the planes of the stain."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib
import numpy as np

from bundle.common.palette import HATCHED, HEAT, PAGE, rgb
from bundle.images.stained.formats import Stain

STRIPE = 6  # px from one hatch to the next


def error_planes(error: Stain, shape: Sequence[int], places: Sequence[Sequence[int]]) -> list[np.ndarray]:
    """Planes of a map across z, y and x.

    Args:
        error: opened by :func:`bundle.images.stained.number_map.open_map`.
        shape: (Z, Y, X) of the stain.
        places: of the planes, voxels of the stain.

    Returns:
        (N, h, w), float32, cubes of the map; NaN where nothing is known.
    """
    whole = slice(None)
    cubes = [np.minimum(np.asarray(along) * now // size, now - 1) for along, now, size in _sides(error, shape, places)]
    across_z = np.stack([error.read((slice(place, place + 1), whole, whole))[0, ..., 0] for place in cubes[0]])
    others: list[list[np.ndarray]] = [[], []]
    for start in range(error.shape[0]):
        slab = error.read((slice(start, start + 1), whole, whole))[0, ..., 0]
        others[0].append(slab[cubes[1]])
        others[1].append(slab[:, cubes[2]].T)
    return [across_z, *(np.stack(each, axis=1) for each in others)]


def _sides(error: Stain, shape: Sequence[int], places: Sequence[Sequence[int]]) -> zip:
    return zip(places, error.shape, shape, strict=True)


def in_colours(planes: np.ndarray, size: Sequence[int], most: float) -> np.ndarray:
    """Planes of a map as pictures: dark where no error is expected, bright where much is, hatched where none is known.

    Args:
        planes: (N, h, w), NaN where nothing is known.
        size: (height, width) of the pictures, px.
        most: what is brightest.

    Returns:
        (N, height, width, 3), uint8.
    """
    down, along = (np.arange(now) * then // now for now, then in zip(size, planes.shape[1:], strict=True))
    enlarged = planes[:, down][:, :, along]
    known = np.isfinite(enlarged)
    shades = matplotlib.colormaps[HEAT](np.where(known, enlarged, 0) / most)[..., :3]
    pictures = np.rint(255 * shades).astype(np.uint8)
    pictures[~known] = np.broadcast_to(hatches(size), pictures.shape)[~known]
    return pictures


def hatches(size: Sequence[int]) -> np.ndarray:
    """Lines from upper right to lower left, (height, width, 3), uint8."""
    place = np.add.outer(np.arange(size[0]), np.arange(size[1])) % STRIPE < STRIPE // 3
    return np.where(place[..., None], np.array(rgb(PAGE["edge"]), np.uint8), np.array(rgb(HATCHED), np.uint8))
