"""3D scans in Zarr, OME-Zarr or a bare array, a few slices at a time."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from bundle.common.errors import InputError
from bundle.common.places import zarr_store
from bundle.images.calibration import cf_line
from bundle.images.pixel_size import um_per
from bundle.images.volumes.reader import Stored, reads_folders
from bundle.images.volumes.readers.headers import three_axes

MARKS = (".zattrs", ".zgroup", ".zarray", "zarr.json")
TRANSFORMATIONS = ("identity", "scale", "translation")  # of NGFF 0.4 and 0.5
LISTED = 9  # images that a message names


def is_zarr(path: Path) -> bool:
    """Whether a folder is a Zarr group or array, of version 2 or 3."""
    return any((path / name).is_file() for name in MARKS)


@reads_folders(is_zarr)
def read_zarr(path: Path) -> Stored:
    """The finest level of an OME-Zarr, NGFF 0.4 or 0.5, or a bare array, which states no voxel size.

    Chunks that are left out are what the array's fill value says; ``scale_factor`` and ``add_offset`` of the CF
    conventions are applied.

    Raises:
        InputError: if it is none of them, or of other axes than z, y, x.
    """
    import zarr  # a second to import, and only this format needs it

    node: Any = zarr.open(zarr_store(path), mode="r")
    if not isinstance(node, zarr.Group):
        return _bare(path, node)
    attributes: dict[str, Any] = dict(node.attrs)
    multiscales = attributes.get("ome", attributes).get("multiscales", [])
    if not multiscales or not all(isinstance(axis, dict) for axis in multiscales[0].get("axes", [None])):
        raise InputError(f"{path} states no multiscales with named axes; {_inside(path, node)}")
    if len(multiscales) > 1:
        raise InputError(f"{path} holds {len(multiscales)} images in one group; write the scan alone.")
    axes, (level, *coarser) = multiscales[0]["axes"], multiscales[0]["datasets"]
    array: Any = node[level["path"]]
    others: list[Any] = [node[each["path"]] for each in coarser if each["path"] in node]
    if any(each.size > array.size for each in others):
        raise InputError(f"{path} lists a coarser level first; list the finest first, as NGFF has it.")
    names = [axis["name"].lower() for axis in axes]
    kept = [axis for axis, name in enumerate(names) if name in ("z", "y", "x")]
    if [names[axis] for axis in kept] != ["z", "y", "x"]:
        raise InputError(f"{path} has axes {', '.join(names)}; a scan has z, y, x in this order.")
    of_level, of_all = level.get("coordinateTransformations", []), multiscales[0].get("coordinateTransformations", [])
    odd = [each["type"] for each in of_all + of_level if each["type"] not in TRANSFORMATIONS]
    if odd:
        raise InputError(f"{path} has a transformation of type {odd[0]}; write scale and translation alone.")
    scale = _factors(of_all, "scale", len(axes))
    units = [um_per(axes[axis].get("unit")) for axis in kept]
    place = (scale * _factors(of_level, "translation", len(axes)) + _factors(of_all, "translation", len(axes)))[kept]
    scale = (scale * _factors(of_level, "scale", len(axes)))[kept]
    origin_mm = [float(at) * (unit or 1000.0) / 1000.0 for at, unit in zip(place, units, strict=True)][::-1]
    z, y, x = (float(step) * (unit or 1000.0) for step, unit in zip(scale, units, strict=True))
    spacing_um = (z, y, x) if all(units) and of_level + of_all else None
    return _stored(path, array, kept, spacing_um, origin_mm, names.index("c") if "c" in names else None)


def _bare(path: Path, array: Any) -> Stored:
    """An array without a group about it; the names of its dimensions, if it has any, must be z, y, x."""
    names = getattr(array.metadata, "dimension_names", None) or array.attrs.get("_ARRAY_DIMENSIONS") or []
    named = [str(name).lower() for name in names if name]
    if named and named[-3:] != ["z", "y", "x"]:
        raise InputError(f"{path} has axes {', '.join(named)}; a scan has z, y, x in this order.")
    kept = [axis for axis, size in enumerate(array.shape) if size > 1] if array.ndim != 3 else [0, 1, 2]
    return _stored(path, array, kept, None, [0.0] * 3)


def _stored(
    path: Path,
    array: Any,
    kept: list[int],
    spacing_um: tuple[float, float, float] | None,
    origin_mm: list[float],
    along: int | None = None,
) -> Stored:
    """The volume of an array; each of its places along an axis is a channel."""
    shape = three_axes(path, [1 if axis == along else size for axis, size in enumerate(array.shape)], kept)
    if 0 in array.chunks:
        raise InputError(f"{path} has chunks of {'×'.join(map(str, array.chunks))} voxels; write it anew with others.")

    def read(channel: int, start: int, stop: int) -> np.ndarray:
        index: list[Any] = [slice(None) if axis in kept else 0 for axis in range(array.ndim)]
        index[kept[0]] = slice(start, stop)
        if along is not None:
            index[along] = channel
        return np.asarray(array[tuple(index)])

    first, *others = (partial(read, channel) for channel in range(1 if along is None else array.shape[along]))
    dtype, depth = np.dtype(array.dtype), array.chunks[kept[0]]
    stored = Stored(shape, dtype, first, spacing_um, origin_mm, depth=depth, others=tuple(others))
    return stored.calibrated(cf_line(str(path), dict(array.attrs)))


def _factors(transformations: Sequence[dict[str, Any]], kind: str, axes: int) -> np.ndarray:
    """The numbers of the ``scale`` or ``translation`` of a list of them; ones or zeros without."""
    neutral = float(kind == "scale")
    found = next((each[kind] for each in transformations if each["type"] == kind), [neutral] * axes)
    if len(found) != axes:
        raise ValueError(f"its {kind} has {len(found)} numbers for {axes} axes; write one an axis.")
    return np.asarray(found, float)


def _inside(path: Path, group: Any) -> str:
    """What to give instead of a group that is no image: the images or arrays in it."""
    images = [name for name, each in group.groups() if "multiscales" in each.attrs.get("ome", each.attrs)]
    arrays = [name for name, _ in group.arrays()]
    found = sorted(images) or sorted(arrays)
    if not found:
        return "an OME-Zarr of NGFF 0.4 or 0.5 does."
    listed = ", ".join(str(path / name) for name in found[:LISTED])
    more = f" and {len(found) - LISTED} more" if len(found) > LISTED else ""
    what = "images (bioformats2raw's layout)" if images else "arrays"
    return f"it holds {what}, so give one: {listed}{more}"
