"""The region of a scan whose statistics all of it is stained with: the one most like the sections of the training."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch

from bundle.common.errors import InputError
from bundle.common.verdicts import UNLIKE_FROM
from bundle.networks.sections import Sections, regions, spread_over, warn_if_far
from bundle.staining.stainer import Stainer

Read = Callable[[str, int], np.ndarray]  # axis, number of a slice: (C, H, W), in the scan's units


def given_reference(stainer: Stainer, read: Read, axis: str, place: int) -> tuple[torch.Tensor, dict[str, Any]]:
    """Statistics of a slice that the user names.

    Args:
        stainer: of the scan.
        read: gives its slices.
        axis: across which it lies.
        place: its number.

    Returns:
        Statistics (F), and what a record says of where they are from; with the distance from the nearest section of
        the training, and how far these usually lie apart, where the trained bundle has them.

    Raises:
        InputError: if the slice is flat, so that nothing can be learnt from it.
    """
    pixels = read(axis, place)
    if pixels.min() == pixels.max():
        raise InputError(
            f"reference_slice is {place}, but all values of slice {place} across {axis} are {pixels.min():g}; name one "
            "with the specimen in it, and another --output_dir."
        )
    statistics, told = stainer.learn(pixels), {**_told(axis, place, (0, 0, *pixels.shape[1:])), "asked": True}
    if stainer.sections is not None:
        told |= _distance(statistics, stainer.sections)
        warn_if_far(told["distance"], stainer.sections, f"slice {place} across {axis}")
    return statistics, told


def find_reference(
    stainer: Stainer, read: Read, depths: Mapping[str, int], sections: Sections, report: Callable[[int, int], None]
) -> tuple[torch.Tensor, dict[str, Any]]:
    """Statistics of what in a scan is nearest to a section of the training: a slice, or a section's size of one.

    Args:
        stainer: of the scan.
        read: gives its slices.
        depths: by axis, how many slices lie across it.
        sections: of the training.
        report: called with the slices that have been looked at, and those that will be.

    Returns:
        As :func:`given_reference`.
    """
    best: tuple[torch.Tensor, dict[str, Any]] | None = None
    places = [(axis, place) for axis, depth in depths.items() for place in spread_over(depth)]
    for number, (axis, place) in enumerate(places, 1):
        pixels = read(axis, place)
        for top, left, height, width in regions(pixels.shape[1], pixels.shape[2], sections.size):
            statistics = stainer.learn(pixels[:, top : top + height, left : left + width])
            told = {**_told(axis, place, (top, left, height, width)), **_distance(statistics, sections)}
            if best is None or told["distance"] < best[1]["distance"]:
                best = statistics, told
        report(number, len(places))
    assert best is not None
    warn_if_far(best[1]["distance"], sections, "the scan")
    return best


def _told(axis: str, place: int, region: tuple[int, ...]) -> dict[str, Any]:
    return {"axis": axis, "slice": place, "region": list(region)}


def _distance(statistics: torch.Tensor, sections: Sections) -> dict[str, Any]:
    usual, far = None if np.isinf(sections.usual) else sections.usual, sections.distance(statistics)
    return {"distance": far, "usual": usual, "unlike": far > UNLIKE_FROM * sections.usual}


def reference_of(
    stainer: Stainer,
    read: Read,
    axes: str,
    shape: Sequence[int],
    place: int | None,
    report: Callable[[int, int], None],
) -> tuple[torch.Tensor, dict[str, Any]]:
    """Statistics that a scan is stained with: of the slice that the user names, or of what is most like the training's.

    Args:
        stainer: of the scan.
        read: gives its slices.
        axes: across which it is stained; a slice that is named lies across the first.
        shape: (Z, Y, X) of it.
        place: the number of that slice; None to look for it.
        report: see :func:`find_reference`.

    Returns:
        As :func:`given_reference`.
    """
    if place is not None:
        return given_reference(stainer, read, axes[0], place)
    assert stainer.sections is not None
    depths = {axis: shape["zyx".index(axis)] for axis in axes}
    return find_reference(stainer, read, depths, stainer.sections, report)


def telling_slice(read: Read, axis: str, shape: Sequence[int]) -> np.ndarray:
    """Of three slices (C, H, W) across an axis of (Z, Y, X), that with most contrast: arithmetics are tried on it."""
    return max((read(axis, place) for place in spread_over(shape["zyx".index(axis)], 3)), key=np.std)


def check_reference(stainer: Stainer, place: int | None, axis: str, shape: Sequence[int], normalisation: str) -> None:
    """See that a reference goes with the model, and that there is something to take statistics from.

    Args:
        stainer: of the scan.
        place: number of the slice that the user names; None to look for one.
        axis: across which that lies.
        shape: (Z, Y, X) of the scan.
        normalisation: of the model.

    Raises:
        InputError: if it does not, or there is not.
    """
    if stainer.by_specimen:
        reference_faults(place, shape["zyx".index(axis)], axis, stainer.sections)
    elif place is not None:
        raise InputError(f"reference_slice is given, but normalisation is {normalisation!r}; it goes with specimen.")


def reference_faults(place: int | None, depth: int, axis: str, sections: Sections | None) -> None:
    """See that there is something to take statistics from.

    Args:
        place: number of the slice that the user names; None to look for one.
        depth: how many lie across the axis.
        axis: which.
        sections: of the training.

    Raises:
        InputError: if there is not.
    """
    if place is None and sections is None:
        raise InputError(
            "normalisation is 'specimen', but the trained bundle has no models/sections.npz to find a slice by; its "
            "training command with --resume changed writes it, or name a slice like its sections: --reference_slice N."
        )
    if place is not None and not 0 <= place < depth:
        raise InputError(
            f"reference_slice is {place}, but slices across {axis} are 0 to {depth - 1}; name one of them."
        )
