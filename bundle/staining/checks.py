"""What of an image or a scan is checked before it is stained, whether it comes from files or is in memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from bundle.common.errors import InputError
from bundle.common.trained_bundle import share_between, value_faults
from bundle.common.verdicts import REFUSED, UNLIKE, mostly_unlike, summary
from bundle.data.datalist import Modality
from bundle.data.load import image_faults
from bundle.images.volumes.channels import named
from bundle.images.volumes.volume import Volume
from bundle.networks.sections import spread_over
from bundle.staining.model import modality
from bundle.staining.stainer import Stainer

LEAST_PX, RGB = 8, 3  # a side that the network takes; channels


def values_taken(source: Modality, calibrated: bool) -> Modality:
    """What a scan may hold: any values where its own levels map it to the declared range.

    Args:
        source: what the model was trained on.
        calibrated: whether the scan has levels of its own, see :func:`bundle.common.trained_bundle.recalibrated`.
    """
    return replace(source, low=-np.inf, high=np.inf) if calibrated else source


def pixel_faults(
    what: str, pixels: np.ndarray, given: Modality, levels: tuple[float, float] | None = None
) -> list[str]:
    """What is wrong with an image that is to be stained, a line each.

    Args:
        what: the image, for messages.
        pixels: (C, H, W), in its own units.
        given: the values that it may hold.
        levels: bone and background in it; None where the dataset declared none.
    """
    faults = image_faults(what, pixels, given)
    if given.channels != RGB and not faults:  # a blank colour tile is a tile; of other channels one may be flat
        span = given.high - given.low
        shares = [share_between(channel, levels) if levels else 1.0 for channel in pixels]
        ends = [(float(channel.min()), float(channel.max())) for channel in pixels]
        flat = [value_faults(what, *end, share, levels, span) for end, share in zip(ends, shares, strict=True)]
        faults = flat[0] if all(flat) else []
    if min(pixels.shape[1:]) < LEAST_PX:
        faults.append(f"{what} is {pixels.shape[1]}×{pixels.shape[2]} px; the network needs at least 8×8.")
    return faults


def rgb_alone(target: Mapping[str, Any]) -> None:
    """Raise an :class:`InputError` if what a model makes is not RGB, of which volumes are."""
    if target["channels"] != RGB:
        raise InputError(
            f"this model makes {modality(target, 'target')}; volumes are stained in RGB only: stain its slices "
            "as images (configs/inference.json)."
        )


def flat_channels(channels: Sequence[Volume], scans: Sequence[str], flat: Sequence[list[str]]) -> list[str]:
    """A line for each channel of a scan that is flat, as some of several may be.

    Args:
        channels: of the scan.
        scans: their checksums.
        flat: of each, what :func:`bundle.staining.job.survey` says.

    Raises:
        InputError: if all are flat, or two are the same.
    """
    lines = [line for each in flat for line in each]
    if all(flat):
        raise InputError("\n".join(lines))
    for number, scan in enumerate(scans):
        if scan in scans[:number] and not flat[number]:
            one, same = channels[number].path, f"{channels[scans.index(scan)].path}, channel {scans.index(scan)}"
            raise InputError(f"channel {number}, {one}, is the same as {same}; list the scan of each.")
    return [f"one channel is flat: {line}" for line in lines]


def refuse_unlike(channels: Sequence[Volume], stainer: Stainer) -> None:
    """See whether a volume may be stained although it is unlike the training, by some of its slices across z.

    Args:
        channels: of the scan.
        stainer: of it.

    Raises:
        InputError: if most of them are, where that is to be refused.
    """
    trust, places = stainer.trust, spread_over(channels[0].shape[0])
    if not trust.refuse or trust.likeness is None:
        return
    slices = (np.stack([channel.read(at, at + 1) for channel in channels], axis=1) for at in places)
    told = summary(trust.likeness.verdict(distance) for each in slices for distance in stainer.distances(each))
    if mostly_unlike(told):
        counts, looked = told["slices"].get(UNLIKE, 0), f"{len(places)} of its {channels[0].shape[0]} slices"
        raise InputError(
            f"{named(channels)} is unlike the training data: of {looked} that were looked at, {counts} are; "
            f"nothing was stained, as {REFUSED}"
        )
