"""Where to begin: as the slides lie, or any other way round, whichever tells most."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bundle.common.errors import InputError
from bundle.preparation.registration.two_slides.blocks import Both, information, is_odd, squares
from bundle.preparation.registration.two_slides.models import SURE, Images, compared, mean_of
from bundle.preparation.registration.two_slides.placing import Placing, apart
from bundle.preparation.registration.two_slides.turns import find_starts

STARTS = 6
RIVAL = 0.05  # of the source's longer side, by which another way to lie is another


@dataclass(frozen=True)
class Chosen:
    """A start.

    Attributes:
        placing: of the source on the target.
        lying: the slides corner on corner, as their files have them.
        rival: information of the best other way to lie over this one's; 0 without one.
        ways: how many were looked at.
    """

    placing: Placing
    lying: Placing
    rival: float
    ways: int


def find_start(images: Images, both: Both, coarse: Images, seed: int) -> Chosen:
    """Try the best ways to lay one slide on the other, each climbed a little.

    Args:
        images: at the size at which elastix sees them.
        both: at the size of the blocks.
        coarse: smaller still, to climb quickly.
        seed: of elastix' samples.

    Raises:
        InputError: if no way gives them anything in common.
    """
    lying = Placing(np.eye(2), np.zeros(2))
    starts = find_starts(images.source, images.target, (images.known, images.seen), images.pixel_um, STARTS)
    tried = [each for start in starts if (each := coarse.refined(start.placing, "rigid", 3, seed)) is not None]
    climbed = coarse.refined(lying, "rigid", 3, seed)
    tried += [climbed] if climbed is not None else []
    told = {number: _told(both, placing) for number, placing in enumerate(tried)}
    as_it_lies = _told(both, lying)
    order = sorted(told, key=lambda number: -mean_of(told[number]))
    if not order or max(mean_of(told[order[0]]), mean_of(as_it_lies)) <= 0:
        raise InputError(
            "source and target have nothing in common, whichever way round they are laid: no overlap. Check that they "
            "show the same tissue, and their pixel sizes."
        )
    best = tried[order[0]]
    gain, error = compared(as_it_lies, told[order[0]])
    if gain <= SURE * error and mean_of(as_it_lies) > 0 and error < np.inf:
        best = lying
    size_um = np.array(images.source.shape) * images.pixel_um
    top = max(mean_of(told[order[0]]), mean_of(as_it_lies))
    others = [mean_of(told[number]) for number in order if apart(tried[number], best, size_um) > RIVAL * size_um.max()]
    return Chosen(best, lying, max(max(others, default=0.0) / top, 0.0), len(tried) + 1)


def _told(both: Both, placing: Placing) -> dict[int, float]:
    """Information of every square, by what the squares of the other colour have taught."""
    black = is_odd(squares(both.shape))
    return information(both, placing, None, black & both.known) | information(both, placing, None, ~black & both.known)
