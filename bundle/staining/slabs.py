"""Slabs of a scan in memory, or of a block of one, stained across z as ``configs/volume.json`` stains them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from monai.bundle import ConfigParser

from bundle.common.config import unknown_ids
from bundle.common.errors import InputError, input_error
from bundle.common.ids import settle
from bundle.common.verdicts import UNLIKE, Verdict
from bundle.images.stained.formats import DEPTH
from bundle.images.volumes.geometry import Geometry
from bundle.images.volumes.volume import Volume
from bundle.staining.error_map import rounded
from bundle.staining.model import open_configs
from bundle.staining.progress import slabs_of
from bundle.staining.source import SmoothedScan
from bundle.staining.stainer import Stainer

NAME = Path("the array")  # in messages
ACROSS_Z = {"axes": "z", "hull": False, "alpha": False}  # what is stained here of all that volume.json can do
_one_at_a_time = threading.Lock()  # PyTorch uses every core already


class Slab(NamedTuple):
    """Some slices of a volume, stained.

    Attributes:
        rgb: (n, Y, X, 3), uint8.
        errors: expected, (n, ⌈Y/4⌉, ⌈X/4⌉), float32, levels of 255, NaN in slices that are unlike the training; None
            without an error map.
        verdicts: of each slice; none where nothing is known.
    """

    rgb: np.ndarray
    errors: np.ndarray | None
    verdicts: list[Verdict]


def checked_config(bundle_root: str, overlays: Sequence[str], **ids: Any) -> ConfigParser:
    """The config of a trained bundle with ids set, all of which it has, to values that they may have.

    Args:
        bundle_root: the folder.
        overlays: see :func:`bundle.staining.model.open_configs`.
        ids: to set.

    Raises:
        InputError: with a line for each fault.
    """
    parser = open_configs(bundle_root, *overlays)
    parser.update({"bundle_root": bundle_root, **ids})
    if unknown := unknown_ids(parser.get()):
        raise InputError("\n".join(unknown))
    settle(parser)
    return parser


def made(parser: ConfigParser, name: str) -> Any:
    """An item of a config; what is the user's fault in making it is told without MONAI's words around it."""
    try:
        return parser.get_parsed_content(name)
    except Exception as error:
        fault = input_error(error)
        if fault is None:
            raise
        raise InputError(str(fault)) from error


def channels_of(array: Any, spacing_um: Sequence[float], depth: int = 1) -> list[Volume]:
    """An array as what a scan's files are opened as: a volume a channel, of which slices are read when asked for.

    Args:
        array: (Z, Y, X), or (C, Z, Y, X); whatever has a shape and a type, and gives parts by slicing.
        spacing_um: voxel size, (z, y, x).
        depth: slices that it keeps together.
    """
    z, y, x = (float(size) for size in spacing_um)
    depth_px, height, width = (int(side) for side in array.shape[-3:])
    places: list[tuple[int, ...]] = [()] if len(array.shape) == 3 else [(place,) for place in range(array.shape[0])]
    dtype, geometry = np.dtype(array.dtype).newbyteorder("="), Geometry((z, y, x), (0.0, 0.0, 0.0), np.eye(3))
    reads = [partial(_read, array, place) for place in places]
    return [Volume(NAME, (depth_px, height, width), dtype, geometry, depth, read) for read in reads]


def _read(array: Any, place: tuple[int, ...], start: int, stop: int) -> np.ndarray:
    return np.asarray(array[(*place, slice(start, stop))])


@dataclass(frozen=True)
class SlabStainer:
    """Stains slabs of one scan, all of them alike; another process may have it, and loads the bundle for itself.

    Attributes:
        bundle_root: the trained bundle.
        ids: of its configs.
        statistics: of the region that all is stained with, (F); None where each window has its own.
        arithmetic: in which it computes; None where the bundle leaves no choice.
    """

    bundle_root: str
    ids: Mapping[str, Any]
    statistics: np.ndarray | None = None
    arithmetic: str | None = None

    def __getstate__(self) -> dict[str, Any]:
        """Without the network."""
        return {name: vars(self)[name] for name in ("bundle_root", "ids", "statistics", "arithmetic")}

    @cached_property
    def config(self) -> ConfigParser:
        """What the scan is stained by, with its weights loaded.

        Raises:
            InputError: if the bundle stains no volumes, or an id is not what it may be.
        """
        parser = checked_config(self.bundle_root, ["volume.json"], **{**self.ids, **ACROSS_Z})
        made(parser, "network")
        return parser

    @cached_property
    def stainer(self) -> Stainer:
        """Of its slices."""
        stainer: Stainer = made(self.config, "stainer")
        if self.statistics is not None:
            stainer.settle(torch.from_numpy(self.statistics))
        if self.arithmetic is not None:
            stainer.take(self.arithmetic)
        return stainer

    def smoothed(self, channels: Sequence[Volume]) -> list[SmoothedScan]:
        """The channels of a scan, or of a block of it, as slices are stained of them."""
        return [SmoothedScan(channel, float(self.config["sigma"])) for channel in channels]

    def verdicts(self, slices: np.ndarray) -> list[Verdict]:
        """How like the training slices (N, C, H, W) are, in the scan's units; none where nothing is known."""
        likeness = self.stainer.trust.likeness
        return [] if likeness is None else [likeness.verdict(each) for each in self.stainer.distances(slices)]

    def slab(
        self, sources: Sequence[SmoothedScan], start: int, stop: int, report: Callable[[int], None] | None = None
    ) -> Slab:
        """Stain slices.

        Args:
            sources: of :meth:`smoothed`.
            start: the first slice, in these.
            stop: behind the last.
            report: called with the number behind the last that is done, again and again.
        """
        slices = np.stack([source.slab("z", start, stop) for source in sources], axis=1)
        as_read = np.stack([source.as_read for source in sources], axis=1)
        with _one_at_a_time:
            together, verdicts, parts = self.stainer.at_once(slices.shape[2:]), self.verdicts(as_read), []
            for first in range(0, len(slices), together):
                parts.append(self.stainer(slices[first : first + together]))
                if report:
                    report(start + min(first + together, len(slices)))
        errors = None
        if self.stainer.trust.calibration is not None:
            errors = rounded(np.concatenate([part.errors for part in parts if part.errors is not None]))
            errors[[verdict.word == UNLIKE for verdict in verdicts] or slice(0)] = np.nan
        return Slab(np.concatenate([part.pixels for part in parts]), errors, verdicts)

    def slabs(
        self, channels: Sequence[Volume], report: Callable[[int], None] = lambda number: None
    ) -> Iterator[tuple[int, int, Slab]]:
        """Stain a scan, slab by slab: where each begins, where it stops, and it.

        Args:
            channels: of the scan.
            report: called with how many slices are done, again and again.
        """
        sources = self.smoothed(channels)
        for _, start, stop in slabs_of(channels[0].shape, "z", DEPTH).values():
            report(start)
            yield start, stop, self.slab(sources, start, stop, report)
