"""What masks hide from the losses: colours that the section has nowhere inside them, such as a pen's or a label's."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping

import numpy as np

from bundle.data.datalist import Datalist, Modality
from bundle.data.patches import PatchDataset

logger = logging.getLogger("bundle")
LEVELS = 8  # of a channel, into which colours are sorted
RARE = 1e-4  # of the pixels inside the masks; a colour with less does not count as there
LEAST_HIDDEN, LEAST_OF_ALL = 0.05, 1e-3  # shares worth a line; the rat jaw's green marks are 0.28 and 0.014
ENOUGH = 1 << 20  # pixels of a pair that are looked at


def foreign_colours(
    images: Iterable[Mapping[str, np.ndarray]], source: Modality, target: Modality
) -> tuple[float, float]:
    """How many pixels outside the masks have a colour of the target that is rare inside.

    Only those count whose grey of the source (the mean of its channels) is found inside: glass around the tissue is no
    mark, as the source shows air there, from which a generator can tell it.

    Args:
        images: ``source`` and ``target`` (C, H, W), ``mask`` (1, H, W), bool.
        source: what the source's values mean.
        target: likewise.

    Returns:
        The share of them outside the masks, and of all pixels; 0 where the masks hide nothing or everything.
    """
    counts = np.zeros((2, LEVELS, LEVELS**target.channels))
    for pair in images:
        step = max(1, int((pair["mask"].size / ENOUGH) ** 0.5))
        shown = pair["mask"][0, ::step, ::step]
        grey = _sorted(pair["source"][:, ::step, ::step].mean(0, keepdims=True), source)
        colour = _sorted(pair["target"][:, ::step, ::step], target)
        for side, mask in enumerate((shown, ~shown)):
            np.add.at(counts[side], (grey[mask], colour[mask]), 1)
    inside, outside = counts
    if not inside.any() or not outside.any():
        return 0.0, 0.0
    known = inside.sum(1) / inside.sum() > RARE
    rare = inside.sum(0) / inside.sum() <= RARE
    foreign = outside[np.ix_(known, rare)].sum()
    return float(foreign / outside.sum()), float(foreign / counts.sum())


def _sorted(pixels: np.ndarray, kind: Modality) -> np.ndarray:
    """(C, H, W) → (H, W), the number of the colour that each pixel counts as."""
    share = (pixels.astype(np.float32) - kind.low) / (kind.high - kind.low)
    levels = np.clip((share * LEVELS).astype(np.int64), 0, LEVELS - 1)
    return np.ravel_multi_index(tuple(levels), (LEVELS,) * len(levels))


def warn_of_marks(data: Datalist, dataset: PatchDataset, mask_discriminator: bool) -> None:
    """Say before a training that its discriminators will see what the masks hide, where that has colours of its own.

    Args:
        data: the checked dataset; unpaired ones have no such masks.
        dataset: holds the training images.
        mask_discriminator: the id, which keeps it from the discriminators.
    """
    if mask_discriminator or not data.paired:
        return
    hidden, of_all = foreign_colours(dataset.images, data.source, data.target)
    if hidden >= LEAST_HIDDEN and of_all >= LEAST_OF_ALL:
        logger.warning(
            "%.0f %% of what the masks hide in the training targets (%.1f %% of all pixels) has colours that are not "
            "found inside them; the discriminators see it and the stain may come out with it. If these are marks, "
            "labels or pen, pass --mask_discriminator true.",
            100 * hidden,
            100 * of_all,
        )
