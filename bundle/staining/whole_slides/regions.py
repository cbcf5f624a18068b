"""Regions of a slide that tell of all of it: how like the training it is, and whose statistics it is stained with."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from bundle.common.errors import InputError
from bundle.common.trained_bundle import share_between, value_faults
from bundle.common.verdicts import REFUSED, UNLIKE, UNLIKE_FROM, mostly_unlike, summary
from bundle.images.slide_boxes import SlideBoxes
from bundle.images.tissue import BOX
from bundle.networks.sections import spread_over
from bundle.staining.stainer import Stainer
from bundle.staining.whole_slides.source import SlideSource, at_pixels

LOOKED_AT = 24  # regions
SEEN = 512  # px, of a region whose values are looked at
AS_FULL = 0.9  # of the share of tissue of the region that has most


@dataclass(frozen=True)
class Regions:
    """Parts of an open slide that are as full of tissue as any.

    Attributes:
        source: the slide.
        boxes: of it, open.
        tissue: where it is; None for everywhere.
    """

    source: SlideSource
    boxes: SlideBoxes
    tissue: np.ndarray | None

    def of(self, height: int, width: int) -> Iterator[tuple[list[int], np.ndarray]]:
        """Some regions of a size, spread over the slide.

        Args:
            height: px of the stain, at most.
            width: likewise.

        Yields:
            Top, left, height and width; and the pixels (C, h, w), in the slide's units.
        """
        size = self.source.size
        height, width = min(height, size[0]), min(width, size[1])
        places = [
            (slice(top, top + height), slice(left, left + width))
            for top in _starts(size[0], height)
            for left in _starts(size[1], width)
        ]
        if self.tissue is not None:
            shares = [at_pixels(self.tissue, *place)[::BOX, ::BOX].mean() for place in places]
            places = [place for place, share in zip(places, shares, strict=True) if share >= AS_FULL * max(shares)]
        for rows, columns in (places[number] for number in spread_over(len(places), LOOKED_AT)):
            yield [rows.start, columns.start, height, width], self.source.read(self.boxes, rows, columns)


def _starts(side: int, part: int) -> list[int]:
    """Where parts of a side begin, side by side; the last ends with the side, else tissue there would not be seen."""
    starts = list(range(0, side - part + 1, part))
    return starts if starts[-1] + part == side else [*starts, side - part]


def find_reference(stainer: Stainer, regions: Regions) -> tuple[torch.Tensor, dict[str, Any]]:
    """Statistics of the region that is nearest to a section of the training.

    Args:
        stainer: of the slide, with the training's sections.
        regions: of the slide.

    Returns:
        Statistics (F), and what a record says of where they are from.
    """
    sections = stainer.sections
    assert sections is not None
    best: tuple[torch.Tensor, dict[str, Any]] | None = None
    for region, pixels in regions.of(*sections.size):
        statistics = stainer.learn(pixels)
        told = {"region": region, "distance": sections.distance(statistics)}
        if best is None or told["distance"] < best[1]["distance"]:
            best = statistics, told
    assert best is not None
    away = best[1]["distance"]
    usual = None if np.isinf(sections.usual) else sections.usual
    return best[0], {**best[1], "usual": usual, "unlike": away > UNLIKE_FROM * sections.usual}


def far_in_words(told: Mapping[str, Any]) -> str | None:
    """What a user is told of a reference that is unlike all sections of the training; None of another.

    Args:
        told: of :func:`find_reference`.
    """
    if not told["unlike"]:
        return None
    return (
        f"the slide is unlike every section of the training: {told['distance']:.1f} from the nearest, which are "
        f"usually {told['usual']:.1f} from each other; its stain may be wrong"
    )


def refuse_unlike(stainer: Stainer, regions: Regions) -> None:
    """See whether a slide may be stained although it is unlike the training.

    Raises:
        InputError: if most of what is looked at is.
    """
    likeness, side = stainer.trust.likeness, 4 * (stainer.window or 0)
    assert likeness is not None
    told = summary(likeness.verdict(stainer.distances(pixels[None])[0]) for _, pixels in regions.of(side, side))
    if mostly_unlike(told):
        raise InputError(
            f"{regions.source.path} is unlike the training data: of {sum(told['slices'].values())} regions that were "
            f"looked at, {told['slices'].get(UNLIKE, 0)} are; nothing was stained, as {REFUSED}"
        )


def refuse_flat(regions: Regions, levels: tuple[float, float] | None) -> None:
    """See whether the values of a slide are those of the training, by what is looked at of it.

    Args:
        regions: of the slide.
        levels: bone and background in a scan's slice; None where the dataset declared none.

    Raises:
        InputError: if next to nothing would be told apart, as in a slide of 0 to 1 for a model of 0 to 255.
    """
    given = regions.source.given
    low, high, shares = np.inf, -np.inf, []
    for _, pixels in regions.of(SEEN, SEEN):
        low, high = min(low, float(pixels.min())), max(high, float(pixels.max()))
        shares.append(share_between(pixels, levels) if levels else 1.0)
    faults = value_faults(str(regions.source.path), low, high, float(np.mean(shares)), levels, given.high - given.low)
    if faults:
        raise InputError("\n".join(faults))
