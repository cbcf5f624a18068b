"""Volumes stained as their slices are asked for, of scans that are Dask arrays."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from bundle.common.verdicts import Verdict
from bundle.images.volumes.volume import Volume
from bundle.networks.cells import cells_of
from bundle.networks.sections import spread_over
from bundle.staining.slabs import SlabStainer, channels_of

RGB = 3
ANY_UM = (1.0, 1.0, 1.0)  # the size of voxels does not matter to a slab


def stained_lazily(
    stainer: SlabStainer, array: Any, channels: Sequence[Volume], fill_nan: float | None, slices: int
) -> tuple[Any, Any, dict[int, Verdict]]:
    """A volume of which nothing is stained until it is asked for.

    Args:
        stainer: which has decided all that the whole scan decides.
        array: a Dask array, (Z, Y, X) or (C, Z, Y, X).
        channels: the same.
        fill_nan: grey value in place of NaN; None where there is none.
        slices: that are stained together, a chunk of the result each.

    Returns:
        Stain and expected error, as of :class:`bundle.staining.loaded.JudgedVolume`, and verdicts of some slices.
    """
    import dask  # here, as it comes with the array
    import dask.array

    if fill_nan is not None:  # all NaN that a survey leaves lies outside the circle
        array = array.map_blocks(_filled, fill_nan, dtype=array.dtype)
    (depth, height, width), reach = channels[0].shape, stainer.smoothed(channels)[0].reach
    block, stained, expected = dask.delayed(_block, pure=False, nout=2), [], []
    for start in range(0, depth, slices):
        stop, first = min(start + slices, depth), max(start - reach, 0)
        part = array[..., first : stop + reach, :, :]
        rgb, errors = block(stainer, part, start - first, stop - first)
        shape = (stop - start, cells_of(height), cells_of(width))
        stained.append(dask.array.from_delayed(rgb, (stop - start, height, width, RGB), np.uint8))
        expected.append(dask.array.from_delayed(errors, shape, np.float32))
    known = None if stainer.stainer.trust.calibration is None else dask.array.concatenate(expected)
    verdicts: dict[int, Verdict] = {}
    for place in spread_over(depth):
        pixels = np.stack([channel.read(place, place + 1) for channel in channels], axis=1)
        verdicts.update(enumerate(stainer.verdicts(pixels), place))
    return dask.array.concatenate(stained), known, verdicts


def _filled(block: np.ndarray, value: float) -> np.ndarray:
    return np.where(np.isnan(block), np.asarray(value, block.dtype), block)


def _block(stainer: SlabStainer, block: np.ndarray, start: int, stop: int) -> tuple[np.ndarray, np.ndarray | None]:
    """What a task of Dask does."""
    made = stainer.slab(stainer.smoothed(channels_of(block, ANY_UM)), start, stop)
    return made.rgb, made.errors
