"""A stained volume as OME-Zarr, in either of two versions of NGFF."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from bundle.common.places import is_remote
from bundle.images.stained.formats import DEPTH, Box, Format, Stain, geometry_of, register
from bundle.images.stained.ome_zarr import COLOURS, Arrays, Layout, Plain, attributes_of, halve, level_shapes
from bundle.images.stained.spec import OLDEST, StainSpec
from bundle.images.stained.zarr3 import Sharded

LAYOUTS: dict[str, Layout] = {OLDEST: Plain(), "0.5": Sharded()}  # by version of NGFF


def ngff_faults(version: str, output_format: str) -> list[str]:
    """A line if a version of NGFF is none, or goes with no such format."""
    if version not in LAYOUTS:
        return [f"ngff is {version}; it must be {' or '.join(LAYOUTS)}."]
    if version != OLDEST and output_format != OmeZarr.name:
        way = f"pass --output_format {OmeZarr.name}, or leave --ngff out"
        return [f"ngff is {version}, but output_format is {output_format!r}, which has no such versions; {way}."]
    return []


def as_begun(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings as a run's fingerprint has them: with no version of NGFF where it is the one that runs began with."""
    return {name: value for name, value in settings.items() if (name, value) != ("ngff", OLDEST)}


def layout_of(path: Path) -> Layout | None:
    """The layout of an image that is there, finished or not; None if it is none."""
    return next((each for each in LAYOUTS.values() if any((path / name).is_file() for name in each.marks)), None)


def begin(path: Path, version: str, arrays: Arrays) -> None:
    """Make the arrays of an image, without what makes them an OME-Zarr.

    In an object store, where it is made at its place, nothing says that there is an array before all of it is there.
    """
    if not is_remote(path):
        LAYOUTS[version].create(path, arrays)


def end(path: Path, version: str, arrays: Arrays, told: dict[str, Any]) -> None:
    """Write what makes the arrays of an image an OME-Zarr, the attributes ``told`` at last."""
    if is_remote(path):
        LAYOUTS[version].create(path, arrays)
    LAYOUTS[version].finish(path, arrays, told)


def attributes(spec: StainSpec) -> dict[str, Any]:
    """What a viewer is told of a stained volume, as NGFF 0.4 has it."""
    window = {"start": 0, "end": 255, "min": 0, "max": 255}
    channels = [
        {"label": label, "color": colour, "window": window, "active": label != "Alpha", "coefficient": 1}
        | {"family": "linear", "inverted": False}
        for label, colour in list(COLOURS.items())[: spec.channels]
    ]
    return attributes_of("stained", spec.geometry, len(level_shapes(spec.shape)), channels, "color", spec.stamp())


class OmeZarr(Format):
    """OME-Zarr."""

    name, file_name, title = "ome-zarr", "stained.ome.zarr", "OME-Zarr"
    remote = True

    def holds(self, path: Path) -> bool:
        """As of :class:`Format`."""
        return layout_of(path) is not None

    def create(self, path: Path, spec: StainSpec) -> None:
        """Make the arrays, without what makes them an OME-Zarr."""
        begin(path, spec.ngff, self._arrays(spec))

    def write_slab(self, path: Path, spec: StainSpec, start: int, slab: np.ndarray) -> None:
        """Write a slab's chunks of every level."""
        arrays = self._arrays(spec)
        for level in range(len(arrays.levels)):
            if level:
                slab = halve(slab)
            LAYOUTS[spec.ngff].write(path, arrays, level, start // DEPTH, slab)

    def finish(self, path: Path, spec: StainSpec) -> None:
        """Write what makes the arrays an OME-Zarr."""
        end(path, spec.ngff, self._arrays(spec), attributes(spec))

    def open(self, path: Path) -> Stain:
        """As of :class:`Format`."""
        layout = layout_of(path)
        assert layout is not None
        stamp, shape, channels, _ = layout.header(path)
        arrays = Arrays(level_shapes(shape), channels)

        def boxes(level: int, box: Box) -> np.ndarray:
            return layout.read(path, arrays, level, box)

        return Stain(path, shape, channels, geometry_of(path, stamp), stamp["about"], arrays.levels, boxes)

    @staticmethod
    def _arrays(spec: StainSpec) -> Arrays:
        return Arrays(level_shapes(spec.shape), spec.channels)


register(OmeZarr())
