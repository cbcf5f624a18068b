"""What a run on a volume leaves besides the stain: its expected error, and which slices are unlike the training."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from bundle.common.verdicts import UNLIKE, Verdict, summary
from bundle.images.stained import number_map
from bundle.images.stained.number_map import MapSpec
from bundle.images.stained.spec import StainSpec
from bundle.networks.cells import CELL
from bundle.staining.error_map import rounded
from bundle.staining.job import ERROR_MAP, map_of
from bundle.staining.slices import ErrorStore
from bundle.staining.stainer import Stained
from bundle.staining.trust import Trust

LABEL = "expected colour error (levels of 255)"
SHOWN = 4  # times the mean error, that a viewer shows as white


@dataclass(frozen=True)
class ErrorLayer:
    """Of one volume that is being stained.

    Attributes:
        trust: what the model knows of where to believe it.
        stain: what is written of the stain.
        result: the stained volume, while it is being made.
        axes: across which slices are stained.
        store: of single slices.
    """

    trust: Trust
    stain: StainSpec
    result: Path
    axes: str
    store: ErrorStore

    @cached_property
    def spec(self) -> MapSpec | None:
        """What is written; None where the model has no error map."""
        calibration = self.trust.calibration
        if calibration is None:
            return None
        stain = replace(self.stain, about={**self.stain.about, "expected_error": self.trust.bound})
        return MapSpec(stain, CELL, ERROR_MAP, LABEL, (0.0, float(np.ceil(SHOWN * calibration.mean))))

    def create(self) -> None:
        """Make room for it, once the stain's is made."""
        if self.spec is not None:
            number_map.create(map_of(self.result), self.spec)

    def keep(self, axis: str, numbers: Sequence[int], stained: Stained) -> None:
        """Keep what is expected of slices."""
        if stained.errors is not None:
            for number, cells in zip(numbers, stained.errors, strict=True):
                self.store.write(axis, number, cells)

    def join(self, start: int, stop: int, distances: Sequence[float]) -> None:
        """Write a slab: of several stains the mean of their errors, which that of their mean does not exceed.

        Args:
            start: the first slice along z.
            stop: behind the last.
            distances: of these slices from the training, as far as that is known: of what is unlike nothing is.
        """
        if self.spec is None:
            return
        error = np.stack([self.store.slab(axis, start, stop) for axis in self.axes]).mean(0, np.float64)
        for place, verdict in enumerate(self._verdicts(distances)):
            if verdict.word == UNLIKE:
                error[place // CELL] = np.nan
        number_map.write_slab(map_of(self.result), self.spec, start // CELL, rounded(error))

    def finish(self) -> None:
        """Make it readable."""
        if self.spec is not None:
            number_map.finish(map_of(self.result), self.spec)

    def move(self, folder: Path) -> None:
        """Move it to the folder of the finished stain, unless it lies within that or an earlier try has done so."""
        path = map_of(self.result)
        if path.parent == self.result.parent != folder and path.exists():
            os.rename(path, folder / path.name)

    def told(self, distances: Sequence[float]) -> dict[str, Any]:
        """What is known, for the record.

        Args:
            distances: from the training, of the slices across z in order, as far as that is known.
        """
        told: dict[str, Any] = {}
        verdicts = self._verdicts(distances)
        if verdicts:
            ratios = [verdict.ratio and round(verdict.ratio, 3) for verdict in verdicts]
            told["likeness"] = {"z": {**summary(verdicts), "distance": ratios}}
        if self.spec is not None:
            told["expected_error"] = {"result": str(map_of(Path(self.result.name))), **self.trust.bound}
        return told

    def _verdicts(self, distances: Sequence[float]) -> list[Verdict]:
        likeness = self.trust.likeness
        return [] if likeness is None else [likeness.verdict(distance) for distance in distances]
