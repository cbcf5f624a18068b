"""Whether a registration can be believed. Information alone does not tell: one screw fits any screw.

What a wrong plane cannot fake is detail: that every part of the section, taken alone, matches best just where the whole
puts it, in the plane and across it, and that no other plane comes near.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from scipy.ndimage import uniform_filter

from bundle.preparation.registration.finish import Finished
from bundle.preparation.registration.similarity import reslice
from bundle.preparation.registration.warp import BLOCK_PX, Blocks, match_blocks

WIDE_PX = 10  # blocks may shift so far
NEAR_PX = 2.5  # and agree with the whole if they stay so near
LIFT_PX = 8.0  # above and below the plane, where blocks must match worse
TOLD = 0.05  # nats per pixel by which a block's best shift must stand out to be asked
FEWEST = 12  # such blocks, or nothing is believed
RIVAL_PX = 15.0  # a rival is at least so far away at the corners
ACCEPTED = 0.5
PLACED, HELD, RIVAL = 0.70, 0.815, 0.9  # where each speaks neither for nor against
MOST_STRETCH = 0.1  # sections shrink by a few per cent; beyond it a size is wrong


@dataclass(frozen=True)
class Verdict:
    """What speaks for a registration.

    Attributes:
        confidence: 0 to 1, chance that it is right if half of all were.
        placed: share of the blocks that match best where the whole puts them.
        held: share of the blocks, weighted by how much they tell, that match better in the plane than 8 voxels above
            and below it.
        rival: information of the best other plane over that of this one, 0 if there is none.
        blocks: how many were asked.
        doubts: what speaks against it all the same, in words.
    """

    confidence: float
    placed: float
    held: float
    rival: float
    blocks: int
    doubts: tuple[str, ...] = ()

    @property
    def accepted(self) -> bool:
        """Whether to train on it without a second look."""
        return self.confidence >= ACCEPTED and not self.doubts

    @property
    def sentence(self) -> str:
        """In words."""
        word = "accepted" if self.accepted else "NOT accepted"
        other = (
            f"the best other plane tells {self.rival:.0%} of this one" if self.rival else "no other plane comes near"
        )
        return "; ".join(
            [
                f"{word}, confidence {self.confidence:.2f}: {self.placed:.0%} of {self.blocks} blocks match best where "
                f"the whole puts them (usual limit {PLACED:.0%}), {self.held:.0%} match better in the plane than above "
                f"or below it ({HELD:.0%}), {other} ({RIVAL:.0%} at most)",
                *self.doubts,
            ]
        )


def judge(finished: Finished, rivals: list[tuple[float, float]]) -> Verdict:
    """Weigh the evidence.

    Args:
        finished: the plane.
        rivals: other optima: their information over this one's, and how far away they are at the corners, voxels.

    Returns:
        The verdict.
    """
    slab, pose = finished.slab, finished.pose_in_slab
    wide = match_blocks(slab, pose, WIDE_PX)
    field = finished.warp[:, wide.rows[:, None], wide.columns[None]]
    near = np.hypot(*(wide.shifts - field)) < NEAR_PX
    every = wide.matches.reshape(-1, *near.shape)
    told = every.max(0) - np.median(every, axis=0)
    asked = told > TOLD
    lifted = [
        match_blocks(slab, replace(pose, centre=pose.centre + lift * pose.frame[:, 2]), 3, finished.warp).best
        for lift in (-LIFT_PX, 0.0, LIFT_PX)
    ]
    held = (lifted[1] > np.maximum(lifted[0], lifted[2])) & _seen_around(finished, wide)
    blocks = int(asked.sum())
    placed = float(near[asked].mean()) if blocks else 0.0
    share = float((np.sqrt(told) * held).sum() / max(np.sqrt(told).sum(), 1e-12))
    rival = max((score for score, away in rivals if away > RIVAL_PX), default=0.0)
    confidence = chance(placed, share, rival) if blocks >= FEWEST else 0.0
    stretch = max(finished.pose.scale, key=lambda scale: abs(np.log(scale)))
    doubts = (
        (f"structures are {stretch:.2f} times as large on the section as in the scan: is --pixel_um right?",)
        if abs(np.log(stretch)) > MOST_STRETCH
        else ()
    )
    return Verdict(confidence, placed, share, rival, blocks, doubts)


def _seen_around(finished: Finished, blocks: Blocks) -> np.ndarray:
    """Blocks that mostly lie in the scan above and below the plane too, (R, C); the others prove nothing there."""
    slab, pose = finished.slab, finished.pose_in_slab
    share = np.ones((len(blocks.rows), len(blocks.columns)))
    for lift in (-LIFT_PX, LIFT_PX):
        lifted = replace(pose, centre=pose.centre + lift * pose.frame[:, 2])
        inside = (reslice(slab.volume, slab.points, lifted.matrix()) >= 0).reshape(slab.shape)
        mean = uniform_filter(inside.astype(np.float32), BLOCK_PX, mode="nearest")
        share = np.minimum(share, mean[np.ix_(blocks.rows, blocks.columns)])
    return share > 0.5


def chance(placed: float, held: float, rival: float) -> float:
    """Logistic in the evidence. Weights and zero are ours, set on phantoms other than those of docs/registration.md."""
    return float(1 / (1 + np.exp(-(16 * (placed - PLACED) + 20 * (held - HELD) - 20 * max(rival - RIVAL, 0)))))
