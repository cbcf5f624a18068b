"""One pair on its way into a dataset: normalised, masked, measured."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from bundle.common.errors import InputError
from bundle.preparation.pairs.masks import correspondence
from bundle.preparation.pairs.normalisation import (
    BACKGROUND_INTENSITY,
    SourceScale,
    StainScale,
    balanced,
    colour_ratios,
    normalise_source,
    normalise_stain,
    source_clipped,
    source_scale,
    stain_clipped,
    stain_scale,
)
from bundle.preparation.pairs.registered import PairImages, Registration
from bundle.preparation.pairs.rois import Rois

MOST_CLIPPED = 0.01  # of a scan's pixels; more is flagged


@dataclass(frozen=True)
class Constants:
    """What normalisation takes from a pair.

    Attributes:
        source: means of bone and background in the scan.
        stain: white balance and stretch of the section.
    """

    source: SourceScale
    stain: StainScale


@dataclass(frozen=True)
class Prepared:
    """A pair as it goes into the dataset.

    Attributes:
        source: (H, W), uint16; background's 10000 outside the field.
        target: (3, H, W), uint8; mean background outside the field.
        mask: (H, W), bool.
        facts: what preparation.json and the page say of it.
    """

    source: np.ndarray
    target: np.ndarray
    mask: np.ndarray
    facts: dict[str, Any]


def constants_of(name: str, images: PairImages, rois: dict[str, Rois], c: float, c_prime: float) -> Constants:
    """Find the constants of one pair.

    Raises:
        InputError: with a line for each image whose regions do not allow it, naming pair, image and file.
    """
    faults = []
    source: SourceScale | None = rois["source"].means
    stain: StainScale | None = None
    if source is None:
        try:
            source = source_scale(*(images.source[area] for area in (rois["source"].bone, rois["source"].background)))
        except InputError as error:
            faults.append(f"{name}, source (regions: {rois['source'].origin}): {error}")
    try:
        bone, background = (images.target[:, area] for area in (rois["target"].bone, rois["target"].background))
        stain = stain_scale(bone, background, c, c_prime)
    except InputError as error:
        faults.append(f"{name}, target (regions: {rois['target'].origin}): {error}")
    if source is None or stain is None:
        raise InputError("\n".join(faults))
    return Constants(source, stain)


def prepare_pair(
    pair: Registration, images: PairImages, rois: dict[str, Rois], constants: Constants, margin_px: float
) -> Prepared:
    """Normalise, mask and measure one pair.

    Args:
        pair: its registration.
        images: as registered.
        rois: regions of source and target.
        constants: of this pair.
        margin_px: background kept around the hulls, px.

    Returns:
        The pair.

    Raises:
        InputError: if the mask is empty.
    """
    bone, background = rois["target"].bone, rois["target"].background
    filled = np.where(images.field, images.source, constants.source.background)
    source = normalise_source(filled, constants.source)
    target = normalise_stain(images.target, constants.stain)
    glass = np.rint(target[:, background].mean(axis=1)).astype(np.uint8)
    target = np.where(images.field, target, glass[:, None, None])
    made = correspondence(source, target, images.field, images.manual, bone, margin_px)
    if not made.mask.any():
        found = [name for name, area in (("source", made.source_rigid), ("target", made.target_rigid)) if area.any()]
        raise InputError(
            f"{pair.name}: the mask is empty; bone or screw was found in {' and '.join(found) or 'neither image'}. "
            "Check registration, regions and drawn masks."
        )
    return Prepared(source, target, made.mask, _facts(pair, images, rois, constants, source, target, made.mask))


def _facts(
    pair: Registration,
    images: PairImages,
    rois: dict[str, Rois],
    constants: Constants,
    source: np.ndarray,
    target: np.ndarray,
    mask: np.ndarray,
) -> dict[str, Any]:
    bone, background = rois["target"].bone, rois["target"].background
    before = colour_ratios(balanced(images.target[:, bone], constants.stain))
    after = colour_ratios(target[:, bone])
    air = source[rois["source"].background].astype(float)
    measures = {
        **{name: value for name, value in pair.measures.items() if name in ("mutual_information", "shear")},
        **({"contrast_to_noise": 20000 / max(float(air.std()), 1.0)} if air.size else {}),
        **dict(zip(("bone_red", "bone_green", "bone_blue"), target[:, bone].mean(axis=1).tolist(), strict=True)),
        "f_min": constants.stain.low,
        "f_max": constants.stain.high,
    }
    return {
        "registration": {
            "volume": pair.volume,
            "section": pair.section,
            "accepted": "yes" if pair.accepted else "no",
            **pair.measures,
        },
        "size_px": list(mask.shape),
        "rois": {name: region.origin for name, region in rois.items()},
        "roi_px": {name: [int(region.bone.sum()), int(region.background.sum())] for name, region in rois.items()},
        "source": asdict(constants.source),
        "stain": {"gains": list(constants.stain.gains), "f_min": constants.stain.low, "f_max": constants.stain.high},
        "source_clipped": source_clipped(images.source[images.field], constants.source),
        "stain_clipped": stain_clipped(images.target[:, images.field], constants.stain),
        "bone_clipped": stain_clipped(images.target[:, bone], constants.stain),
        "bone_rg_bg_before": list(before),
        "bone_rg_bg_after": list(after),
        "background_after": [float(BACKGROUND_INTENSITY), *target[:, background].mean(axis=1).tolist()],
        "mask_share": float(mask.mean()),
        "measures": measures,
    }
