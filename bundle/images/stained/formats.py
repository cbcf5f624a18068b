"""What a format of stained volumes is, and those that there are: each registers itself in its own module."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bundle.common.errors import InputError
from bundle.images.stained.spec import StainSpec
from bundle.images.volumes.geometry import Geometry

DEPTH = 32  # slices written together; 2^5, so that they are whole at each of OME-Zarr's 5 coarser levels
Box = tuple[slice, slice, slice]


@dataclass(frozen=True)
class Stain:
    """A finished stained volume of which boxes are read when asked for.

    Attributes:
        path: its file or folder.
        shape: (Z, Y, X).
        channels: 3 for RGB, 4 for RGBA.
        geometry: where the voxels of the finest level lie.
        about: what was told of their origin.
        levels: shapes (Z, Y, X), finest first; one, where a format has no coarser ones.
        boxes: reads a box, within the shape, of a level.
    """

    path: Path
    shape: tuple[int, int, int]
    channels: int
    geometry: Geometry
    about: dict[str, Any]
    levels: list[tuple[int, int, int]]
    boxes: Callable[[int, Box], np.ndarray]

    def read(self, box: Box, level: int = 0) -> np.ndarray:
        """Read a box of one level.

        Args:
            box: slices along z, y and x, of step 1; as for an array, they may be open or count from the end.
            level: 0 for the finest.

        Returns:
            (D, H, W, C), uint8.

        Raises:
            IndexError: if there is no such level.
            ValueError: if a slice has another step.
            InputError: if a part cannot be read.
        """
        if not 0 <= level < len(self.levels):
            raise IndexError(f"{self.path} has levels 0 to {len(self.levels) - 1}, no level {level}")
        places = [part.indices(size) for part, size in zip(box, self.levels[level], strict=True)]
        if any(step != 1 for _, _, step in places):
            raise ValueError(f"{box} has steps; a box is read whole")
        z, y, x = (slice(start, max(start, stop)) for start, stop, _ in places)
        return self.boxes(level, (z, y, x))


class Format(ABC):
    """A format of stained volumes; ``bundle.images.stained.stored`` checks what its methods are given.

    Attributes:
        name: as ``output_format`` gives it.
        file_name: of a result.
        title: for pages.
        remote: whether it is written to, and read from, a place that only takes whole files.
    """

    name: str
    file_name: str
    title: str
    remote = False

    @abstractmethod
    def holds(self, path: Path) -> bool:
        """Whether a file or folder that is there is to be read as this format, finished or not."""

    def check(self, spec: StainSpec) -> None:  # noqa: B027  most hold any
        """Raise an :class:`InputError` if the format cannot hold a volume."""

    @abstractmethod
    def create(self, path: Path, spec: StainSpec) -> None:
        """Make room for a volume where nothing is, without what lets a viewer open it."""

    @abstractmethod
    def write_slab(self, path: Path, spec: StainSpec, start: int, slab: np.ndarray) -> None:
        """Write (D, Y, X, C), uint8, from slice ``start`` on; any process may, in any order, and again."""

    @abstractmethod
    def finish(self, path: Path, spec: StainSpec) -> None:
        """Write what makes it readable; once all slabs are written, again does no harm."""

    @abstractmethod
    def open(self, path: Path) -> Stain:
        """Open a finished volume; what is raised for one that is not names no path."""


FORMATS: dict[str, Format] = {}  # by name; all are there once ``stored`` is imported


def register(one: Format) -> None:
    """Make a format known.

    Raises:
        ValueError: if another has its name, or its name of a result.
    """
    if any(one.name == other.name or one.file_name == other.file_name for other in FORMATS.values()):
        raise ValueError(f"there is a format {one.name} or {one.file_name} already")
    FORMATS[one.name] = one


def geometry_of(path: Path, stamp: dict[str, Any]) -> Geometry:
    """Where voxels lie, by the stamp that :meth:`StainSpec.stamp` made.

    Raises:
        InputError: if it is none.
    """
    if "direction_lps" not in stamp:
        raise InputError(f"{path} is no stained volume that this program has written.")
    spacing_um, origin_mm = stamp["spacing_um_zyx"], stamp["origin_mm_xyz_lps"]
    return Geometry(tuple(spacing_um), tuple(origin_mm), np.asarray(stamp["direction_lps"], float))
