"""Whether two slides lie on one another: blocks, each alone, must find the place where the whole puts them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bundle.preparation.registration.two_slides.blocks import BLOCK_PX, Both
from bundle.preparation.registration.two_slides.models import Model
from bundle.preparation.registration.two_slides.placing import Placing
from bundle.preparation.registration.warp import match_blocks

WIDE_PX = 10  # blocks may shift so far
NEAR_PX = 3.5  # and agree with the whole if they stay so near; a ninth of the places within reach
TOLD = 0.05  # nats per pixel by which a block's best shift must stand out to be asked
FEWEST = 8  # such blocks, or nothing is believed
PLACED, RIVAL = 0.12, 0.85  # where each speaks neither for nor against
LEAST_RIVAL = 0.6  # below it a rival speaks for the result no more
LEAST_PLACED = 0.05  # and no rival at all makes up for less; blocks placed at random would be 0.09
ACCEPTED = 0.5
MOST_STRETCH = 0.12
LEAST_COMMON = 0.1  # of the source that must lie on the target


@dataclass(frozen=True)
class Verdict:
    """What speaks for a registration of two slides.

    Attributes:
        confidence: 0 to 1.
        placed: share of the blocks that match best where the whole puts them.
        rival: information of the best other way to lie over that of this one, 0 if there is none.
        blocks: how many were asked.
        doubts: what speaks against it all the same, in words.
        landmarks: what landmarks say in its place, in words; they overrule.
    """

    confidence: float
    placed: float
    rival: float
    blocks: int
    doubts: tuple[str, ...] = ()
    landmarks: str = ""

    @property
    def accepted(self) -> bool:
        """Whether to train on it without a second look."""
        return not self.doubts and (bool(self.landmarks) or self.confidence >= ACCEPTED)

    @property
    def sentence(self) -> str:
        """In words."""
        other = (
            f"the best other way to lay it fits {self.rival:.0%} as well (right pairs: under {RIVAL:.0%})"
            if self.rival
            else "no other way to lay it fits"
        )
        told = (
            f"{'accepted' if self.accepted else 'NOT accepted'}, confidence {self.confidence:.2f}: {self.placed:.0%} "
            f"of {self.blocks} blocks match best where the whole puts them (right pairs: over {PLACED:.0%}), {other}"
        )
        return "; ".join([told, *([self.landmarks] if self.landmarks else []), *self.doubts])


def judge(both: Both, model: Model, rival: float) -> Verdict:
    """Weigh the evidence.

    Args:
        both: the slides.
        model: the result.
        rival: of the start.
    """
    warp = model.warp if model.warp is not None else np.zeros((2, *both.shape))
    wide = match_blocks(both.level, both.pose(model.placing), WIDE_PX, warp, BLOCK_PX)
    near = np.hypot(*wide.shifts) < NEAR_PX
    every = wide.matches.reshape(-1, *near.shape)
    known = both.known[np.ix_(wide.rows, wide.columns)]
    asked = (every.max(0) - np.median(every, axis=0) > TOLD) & known
    blocks = int(asked.sum())
    placed = float(near[asked].mean()) if blocks else 0.0
    confidence = chance(placed, rival) if blocks >= FEWEST else 0.0
    doubts = []
    if blocks < FEWEST:
        doubts.append(f"only {blocks} blocks show enough to be asked ({FEWEST} are needed)")
    elif placed < LEAST_PLACED:
        doubts.append(f"blocks match anywhere but where the whole puts them ({placed:.0%})")
    least, most = model.placing.scales
    stretch = max(least, most, key=lambda scale: abs(np.log(scale)))
    if abs(np.log(stretch)) > np.log1p(MOST_STRETCH):
        doubts.append(f"structures are {stretch:.2f} times as large on the target: are both pixel sizes right?")
    common = common_share(both, model.placing)
    if common < LEAST_COMMON:
        doubts.append(f"only {common:.0%} of the source lies on the target")
    return Verdict(confidence, placed, rival, blocks, tuple(doubts))


def common_share(both: Both, placing: Placing) -> float:
    """Share of the source's pixels that may be compared and lie on the target."""
    matrix = placing.in_pixels(both.pixel_um)
    places = np.tensordot(matrix[:, :2], np.indices(both.shape), 1) + matrix[:, 2, None, None]
    limits = np.array(both.seen.shape)[:, None, None] - 1
    return float(((places >= 0) & (places <= limits)).all(0)[both.known].mean())


def chance(placed: float, rival: float) -> float:
    """Logistic in the evidence. Weights and zero are ours; docs/registration.md says on what they were set."""
    return float(1 / (1 + np.exp(-(20 * (placed - PLACED) - 25 * (max(rival, LEAST_RIVAL) - RIVAL)))))
