"""How like the training data a whole volume is, where MONAI's own parts stain it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from bundle.common.errors import InputError
from bundle.common.run_folder import read_record
from bundle.common.trained_bundle import LIKENESS
from bundle.common.verdicts import FEW, REFUSED, in_words, mostly_unlike, summary
from bundle.networks.likeness import Likeness


@dataclass(frozen=True)
class VolumeLikeness:
    """A verdict on one volume.

    Attributes:
        told: of its slices across z, see :func:`bundle.common.verdicts.summary`; None where nothing can be said.
        why: not; empty where the bundle simply holds nothing to judge by.
    """

    told: Mapping[str, Any] | None
    why: str = ""

    @property
    def words(self) -> str:
        """It in one line; empty where the bundle holds nothing to judge by."""
        return self.why if self.told is None else in_words(self.told)

    @property
    def unlike(self) -> bool:
        """Whether most slices are unlike the training data."""
        return self.told is not None and mostly_unlike(self.told)


def volume_likeness(bundle_root: str | Path, volume: Tensor, refuse_unlike: bool = False) -> VolumeLikeness:
    """Judge each slice of a volume.

    Args:
        bundle_root: the trained bundle.
        volume: (C, Z, Y, X) in [−1, 1], as the network is shown it.
        refuse_unlike: whether a volume that is unlike the training data is refused.

    Raises:
        InputError: if it is refused, or nothing can be called unlike although such are to be.
    """
    path = Path(bundle_root) / LIKENESS
    if not path.is_file():
        return VolumeLikeness(None)
    likeness, series = Likeness.load(path), Path(bundle_root) / "configs" / "series.json"
    sigma = read_record(series).get("sigma") if series.is_file() else 0
    if sigma:
        why = f"not judged: this model smooths a scan first (sigma {sigma}), and not the sections of its training"
        if refuse_unlike:
            raise InputError(f"refuse_unlike is true, but the scan is {why}; stain by volume.json, or leave it out.")
        return VolumeLikeness(None, why)
    if refuse_unlike and not np.isfinite(likeness.usual):
        raise InputError(
            f"refuse_unlike is true, but {bundle_root} was trained on fewer than {FEW} sources, so nothing can be "
            "called unlike; leave it out."
        )
    judged = VolumeLikeness(summary(likeness.judge(volume[:, place]) for place in range(volume.shape[1])))
    if refuse_unlike and judged.unlike:
        raise InputError(f"the scan is unlike the training data: {judged.words}; {REFUSED}")
    return judged
