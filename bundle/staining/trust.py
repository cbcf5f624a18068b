"""Where a stain is not to be believed: what is unlike the training, and what error is to be expected elsewhere."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bundle.common.checks import sha256_of
from bundle.common.errors import InputError
from bundle.common.verdicts import FEW, LIKE, NEITHER, NO_ERROR_MAP, UNKNOWN, UNLIKE, UNLIKE_FROM, Verdict
from bundle.networks.error_map import Calibration, ErrorMap
from bundle.networks.likeness import Likeness

logger = logging.getLogger("bundle")

LIKENESS, ERROR_MAP = "likeness.npz", "error_map.pt"  # beside the weights


@dataclass(frozen=True)
class Trust:
    """What a trained bundle knows of where to believe it.

    Attributes:
        likeness: to its training's sources; None in bundles of before there was any, and where a stain is taken off.
        calibration: of its error map; None where it has none.
        missing: what to tell of what there is not, a line; empty where nothing is to be told.
        refuse: whether what is unlike the training is refused.
        digests: SHA-256 of the files that this is from, by what they are.
    """

    likeness: Likeness | None = None
    calibration: Calibration | None = None
    missing: str = ""
    refuse: bool = False
    digests: Mapping[str, str] = field(default_factory=dict)

    def judge(self, source: Tensor, statistics: float | None = None) -> Verdict | None:
        """How like the training an image is.

        Args:
            source: (C, H, W) in [−1, 1], as the network is shown it.
            statistics: see :class:`bundle.common.verdicts.Verdict`; None where the network was not asked.

        Returns:
            None if nothing can be said.
        """
        if self.likeness is None:
            return None if (statistics or 0) < UNLIKE_FROM else Verdict(None, statistics)
        return replace(self.likeness.judge(source), statistics=statistics)

    def record(self, verdict: Verdict | None, error: np.ndarray | None) -> dict[str, Any]:
        """What a record says of one image, plain JSON.

        Args:
            verdict: of :meth:`judge`.
            error: expected, levels; NaN where nothing is.
        """
        told: dict[str, Any] = {}
        if verdict is not None:
            told["likeness"] = {"is": verdict.word, "distance": _rounded(verdict.ratio)}
            if verdict.statistics is not None:
                told["likeness"]["statistics"] = _rounded(verdict.statistics)
        if error is not None and self.calibration is not None:
            told["expected_error"] = {"mean": _rounded(mean_of(error)), **self.bound}
        return told

    @property
    def bound(self) -> dict[str, float]:
        """What an expected error is multiplied with for a bound, and for which share of the pixels that holds."""
        told = self.calibration
        return {} if told is None else {"bound": _rounded(told.bound) or 0.0, "level": told.level}


UNTOLD = Trust(missing=NEITHER)  # of a bundle whose configs are of before there was any


def _rounded(value: float | None) -> float | None:
    return None if value is None or not np.isfinite(value) else round(float(value), 3)


def known_of(error: np.ndarray, verdict: Verdict | None) -> np.ndarray:
    """What is expected of an image, as far as the training's sections can tell: of one that is unlike them nothing."""
    return np.full_like(error, np.nan) if verdict is not None and verdict.word == UNLIKE else error


def statistics_of(inferer: Any) -> float | None:
    """How far the image that an inferer has stained last is from the training's sections, where it takes note."""
    return getattr(inferer, "ratio", None)


def statistics_before(inferer: Any, network: Any, device: torch.device) -> Callable[[Tensor], float | None] | None:
    """The same as a function of an image that is not stained yet.

    Args:
        inferer: of the bundle.
        network: that it will stain with.
        device: of that.
    """
    ratio_of = getattr(inferer, "ratio_of", None)
    return ratio_of and (lambda image: ratio_of(image.as_subclass(Tensor).to(device), network))


def mean_of(error: np.ndarray) -> float:
    """Mean of what is expected; NaN if nothing is anywhere."""
    known = np.isfinite(error)
    return float(error[known].mean()) if known.any() else float("nan")


def load_trust(
    bundle_root: str,
    error_map: str | None = None,
    refuse_unlike: bool = False,
    direction: str = "forward",
    channels: int | None = None,
) -> Trust:
    """What a trained bundle knows of where to believe it.

    Args:
        bundle_root: the bundle.
        error_map: the file of its error map; None makes none, and says nothing of it.
        refuse_unlike: refuse what is unlike the training; else it is warned of.
        direction: in ``reverse`` nothing is known.
        channels: of the sources; None for whatever they have.

    Raises:
        InputError: if a file is corrupt or of another bundle, another error map than the bundle's own is missing, or
            there is nothing to judge by although what is unlike is to be refused.
    """
    if direction != "forward":
        if refuse_unlike:
            raise InputError("refuse_unlike is true, but it goes with direction 'forward' only; leave it out.")
        return Trust()
    models = Path(bundle_root) / "models"
    if error_map is not None and Path(error_map) != models / ERROR_MAP and not Path(error_map).is_file():
        raise InputError(f"error_map {error_map} is no file; leave it out for the bundle's own, or null for none.")
    path = models / LIKENESS
    likeness = Likeness.load(path) if path.is_file() else None
    if likeness is not None and channels not in (None, likeness.channels):
        raise InputError(
            f"{path} is made of sources of {likeness.channels} channel(s), but the network takes {channels}; copy both "
            "from the same run."
        )
    if refuse_unlike and (likeness is None or not np.isfinite(likeness.usual)):
        why = f"has no models/{LIKENESS}" if likeness is None else f"was trained on fewer than {FEW} sources"
        raise InputError(
            f"refuse_unlike is true, but {bundle_root} {why}, so nothing can be called unlike; leave it out."
        )
    calibration, missing = None, NEITHER if likeness is None else NO_ERROR_MAP
    if error_map is None or Path(error_map).is_file():
        calibration, missing = None if error_map is None else ErrorMap.load(error_map).calibration, ""
    known = {"likeness": likeness and path, "error_map": calibration and Path(str(error_map))}
    digests = {name: str(sha256_of(file)) for name, file in known.items() if file}
    return Trust(likeness, calibration, missing, refuse_unlike, digests)


def begin(
    trust: Trust, images: Sequence[Mapping[str, Any]] = (), statistics: Callable[[Tensor], float | None] | None = None
) -> None:
    """Say what is not known; and where what is unlike the training is refused, look at all images before the first.

    Args:
        trust: of the bundle.
        images: prepared for the network, with their files in their meta data.
        statistics: how far an image (1, C, H, W) is from the training's sections in what the network's norms meet;
            None where that is not known.

    Raises:
        InputError: with a line for each image that is refused.
    """
    if trust.missing:
        print(trust.missing)
    if not trust.refuse:
        return
    faults = []
    for number in range(len(images)):
        image = images[number]["image"]
        verdict = trust.judge(image, statistics and statistics(image[None]))
        if verdict is not None and verdict.word == UNLIKE:
            faults.append(f"{image.meta['filename_or_obj']} is {verdict}; it is refused, as refuse_unlike is true.")
    if faults:
        left = f"of {len(images)} images {len(faults)} are refused, and none was stained; take these out of the input."
        raise InputError("\n".join([*faults, left]))


def tell(name: str, verdict: Verdict | None) -> None:
    """Say in one line how like the training an image is; a warning where its stain may be wrong."""
    if verdict is None:
        return
    if verdict.word in (LIKE, UNKNOWN):
        logger.info("%s is %s", name, verdict)
    else:
        logger.warning("%s is %s; its stain may be wrong%s.", name, verdict, " everywhere" * (verdict.word == UNLIKE))
