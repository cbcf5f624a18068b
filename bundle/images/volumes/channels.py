"""Scans of several channels on one grid: energies, filters, or whatever a model was trained on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from bundle.common.errors import InputError
from bundle.images.volumes.geometry import SAME
from bundle.images.volumes.volume import Volume, open_all


def open_channels(
    given: Path | str | Sequence[Path | str], voxel_um: float | tuple[float, float, float] | None = None
) -> list[Volume]:
    """Open the channels of a scan, a grey volume each, without reading them.

    Args:
        given: a scan, or a list of them, one after another.
        voxel_um: see :func:`bundle.images.volumes.volume.open_volume`.

    Raises:
        InputError: as there, or if two differ in shape or, by more than 1 %, in voxel size.
    """
    paths = [given] if isinstance(given, (str, Path)) else given
    channels = [each for path in paths for each in open_all(path, voxel_um, "--voxel_um", least_slices=1)]
    first = channels[0]
    for other in channels[1:]:
        sizes = zip(first.geometry.spacing_um, other.geometry.spacing_um, strict=True)
        if first.shape != other.shape or any(abs(one / size - 1) > SAME for one, size in sizes):
            raise InputError(
                f"{other.path} is {_grid(other)}, but {first.path} is {_grid(first)}; the channels of a scan share one "
                "grid, so resample one to the other's."
            )
    return channels


def named(channels: Sequence[Volume]) -> str:
    """Their files, in words."""
    return ", ".join(dict.fromkeys(str(each.path) for each in channels))


def _grid(volume: Volume) -> str:
    """``70×48×40 voxels of 5×5×5 µm``."""
    shape, size = ("×".join(f"{each:.6g}" for each in sizes) for sizes in (volume.shape, volume.geometry.spacing_um))
    return f"{shape} voxels of {size} µm"
