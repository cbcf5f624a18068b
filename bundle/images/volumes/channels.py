"""Scans of several channels on one grid: energies, filters, or whatever a model was trained on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from bundle.common.errors import InputError
from bundle.common.places import is_remote
from bundle.images.volumes.fill import with_air
from bundle.images.volumes.geometry import SAME
from bundle.images.volumes.volume import Volume, open_all

TURNED = 0.01  # by which directions may differ: about half a degree


def open_channels(
    given: Path | str | Sequence[Path | str], voxel_um: float | tuple[float, float, float] | None = None
) -> list[Volume]:
    """Open the channels of a scan, a grey volume each, without reading them.

    Args:
        given: a scan, or a list of them, one after another.
        voxel_um: see :func:`bundle.images.volumes.volume.open_volume`.

    Raises:
        InputError: as there, or if two differ in shape, by more than 1 % in voxel size, or in the directions of axes.
    """
    paths: Sequence[Path | str] = [given] if isinstance(given, (str, Path)) or is_remote(given) else given  # type: ignore[arg-type, assignment, list-item]
    channels = [each for path in paths for each in open_all(path, voxel_um, "--voxel_um", least_slices=1)]
    first = channels[0]
    for other in channels[1:]:
        sizes = zip(first.geometry.spacing_um, other.geometry.spacing_um, strict=True)
        if first.shape != other.shape or any(abs(one / size - 1) > SAME for one, size in sizes):
            raise InputError(
                f"{other.path} is {_grid(other)}, but {first.path} is {_grid(first)}; the channels of a scan share one "
                "grid, so resample one to the other's."
            )
        if not np.allclose(first.geometry.direction, other.geometry.direction, atol=TURNED):
            raise InputError(
                f"{other.path} has axes x, y, z along {_axes(other)} of the world (LPS), but {first.path} along "
                f"{_axes(first)}; the channels of a scan share one grid, so resample one to the other's."
            )
    return channels


def places_note(channels: Sequence[Volume]) -> list[str]:
    """A line for each channel that begins more than a voxel from where the first does, as their files say."""
    first, *others = (each.geometry for each in channels)
    far_mm = [float(np.abs(np.subtract(other.origin_mm, first.origin_mm)).max()) for other in others]
    return [
        f"note: {each.path} begins {shift_mm:g} mm from where {channels[0].path} does; they are stained voxel by voxel"
        for each, shift_mm in zip(channels[1:], far_mm, strict=True)
        if shift_mm > max(first.spacing_um) / 1000
    ]


def all_with_air(channels: Sequence[Volume], value: float | None) -> list[Volume]:
    """As :func:`bundle.images.volumes.fill.with_air`, of channels of which only some may have NaN outside a circle."""
    found, faults = list(channels), []
    for place, channel in enumerate(channels):
        try:
            found[place] = with_air(channel, value)
        except InputError as error:
            faults.append(error)
    if len(faults) == len(channels):
        raise faults[0]
    return found


def named(channels: Sequence[Volume]) -> str:
    """Their files, in words."""
    return ", ".join(dict.fromkeys(str(each.path) for each in channels))


def _axes(volume: Volume) -> str:
    """``(1, 0, 0), (0, 1, 0), (0, 0, 1)``."""
    return ", ".join(f"({', '.join(f'{each:.3g}' for each in axis + 0.0)})" for axis in volume.geometry.direction.T)


def _grid(volume: Volume) -> str:
    """``70×48×40 voxels of 5×5×5 µm``."""
    shape, size = ("×".join(f"{each:.6g}" for each in sizes) for sizes in (volume.shape, volume.geometry.spacing_um))
    return f"{shape} voxels of {size} µm"
