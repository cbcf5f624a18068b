"""A number for each cube of voxels of a stained volume, such as its expected error, as an OME-Zarr of its own.

Of the same version of NGFF as the stain's: a multiscale with one channel of float32, NaN where nothing is known. It
lies in a stained OME-Zarr, or beside a stain of another format.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from bundle.common.errors import InputError
from bundle.images.slides import reading
from bundle.images.stained.formats import DEPTH, Box, Stain, geometry_of
from bundle.images.stained.ngff import LAYOUTS, begin, end, layout_of
from bundle.images.stained.ome_zarr import COLOURS, Arrays, attributes_of, level_shapes
from bundle.images.stained.spec import StainSpec
from bundle.images.volumes.geometry import Geometry

FLOAT = np.dtype("<f4")


@dataclass(frozen=True)
class MapSpec:
    """What is to be written.

    Attributes:
        stain: what the map is of.
        cube: side of a cube, voxels of the stain; divides ``DEPTH``.
        name: of the map.
        label: what the numbers are, and their unit.
        shown: between which values a viewer begins.
    """

    stain: StainSpec
    cube: int
    name: str
    label: str
    shown: tuple[float, float]

    @property
    def shape(self) -> tuple[int, int, int]:
        """(Z, Y, X), cubes."""
        z, y, x = (-(-size // self.cube) for size in self.stain.shape)
        return z, y, x

    @property
    def depth(self) -> int:
        """Cubes along z that are written together."""
        return DEPTH // self.cube

    @property
    def levels(self) -> list[tuple[int, int, int]]:
        """Shapes of all levels, finest first: no more than a slab can be halved."""
        return level_shapes(self.shape)[: self.depth.bit_length()]

    @property
    def arrays(self) -> Arrays:
        """What is written of it."""
        return Arrays(self.levels, 1, FLOAT, self.depth)

    @property
    def geometry(self) -> Geometry:
        """Where the cubes' centres lie."""
        given = self.stain.geometry
        z, y, x = given.spacing_um
        inward_mm = np.array([x, y, z]) * (self.cube - 1) / 2 / 1000
        place = np.array(given.origin_mm) + np.asarray(given.direction, float) @ inward_mm
        return Geometry((z * self.cube, y * self.cube, x * self.cube), (place[0], place[1], place[2]), given.direction)

    def attributes(self) -> dict[str, Any]:
        """What a viewer is told of it, as NGFF 0.4 has it."""
        least, most = self.shown
        window = {"start": least, "end": most, "min": least, "max": most}
        channel = {"label": self.label, "color": COLOURS["Alpha"], "window": window, "active": True, "coefficient": 1}
        channels = [{**channel, "family": "linear", "inverted": False}]
        stamp = replace(self.stain, geometry=self.geometry).stamp()
        return attributes_of(self.name, self.geometry, len(self.levels), channels, "greyscale", stamp)


def halve(slab: np.ndarray) -> np.ndarray:
    """Mean of cubes 2×2×2 of what is known in each, (D, Y, X) float32 → (⌈D/2⌉, ⌈Y/2⌉, ⌈X/2⌉); NaN where nothing is."""
    padded = np.pad(slab, [(0, size % 2) for size in slab.shape], constant_values=np.nan)
    z, y, x = (size // 2 for size in padded.shape)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # of a mean of nothing
        return np.asarray(np.nanmean(padded.reshape(z, 2, y, 2, x, 2), (1, 3, 5), dtype=np.float64), FLOAT)


def create(path: Path, spec: MapSpec) -> None:
    """Make the arrays, without what makes them an OME-Zarr; one process does it before any writes a slab."""
    begin(path, spec.stain.ngff, spec.arrays)


def write_slab(path: Path, spec: MapSpec, start: int, slab: np.ndarray) -> None:
    """Write cubes, in any order and from any process; writing anew repairs what was cut short.

    Args:
        path: as given to :func:`create`.
        spec: likewise.
        start: the first along z, a multiple of ``spec.depth``.
        slab: (D, Y, X), float32, of ``spec.depth`` cubes or those up to the last.
    """
    expected = (min(spec.depth, spec.shape[0] - start), *spec.shape[1:])
    if start % spec.depth or slab.shape != expected or slab.dtype != FLOAT:
        raise ValueError(f"slab {slab.shape} of {slab.dtype} at {start}; it is {expected} of float32")
    for level in range(len(spec.levels)):
        if level:
            slab = halve(slab)
        LAYOUTS[spec.stain.ngff].write(path, spec.arrays, level, start // spec.depth, slab[..., None])


def finish(path: Path, spec: MapSpec) -> None:
    """Write what makes the arrays an OME-Zarr."""
    end(path, spec.stain.ngff, spec.arrays, spec.attributes())


def open_map(path: Path) -> Stain:
    """Open a finished map.

    Args:
        path: its folder.

    Returns:
        Boxes of it are (D, H, W, 1), float32.

    Raises:
        InputError: if it is missing, not finished or corrupt.
    """
    if not path.is_dir():
        raise InputError(f"{path} does not exist.")
    with reading(str(path)):
        layout = layout_of(path)
        if layout is None:
            raise ValueError("it is no OME-Zarr")
        stamp, shape, channels, depth = layout.header(path)
        arrays = Arrays(level_shapes(shape)[: depth.bit_length()], channels, FLOAT, depth)

        def boxes(level: int, box: Box) -> np.ndarray:
            return layout.read(path, arrays, level, box)

        return Stain(path, shape, channels, geometry_of(path, stamp), stamp["about"], arrays.levels, boxes)
