"""From two images to a plane: search, settle, finish, judge."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from bundle.preparation.registration.confidence import Verdict, judge
from bundle.preparation.registration.finish import Finished, finish, finishing_px, settle, settling_px
from bundle.preparation.registration.levels import Level, make_levels
from bundle.preparation.registration.search import (
    GLOBAL,
    GUESSED,
    Effort,
    Guess,
    distance,
    reach_of,
    search,
    search_px,
)
from bundle.preparation.registration.trace import Trace

TRIES = (1, 1, 2)  # efforts of the searches before "not accepted"; without a guess the first misses 1 plane in 6 or so
MORE = 1.01  # times the information of what is known, and a plane tells more


@dataclass(frozen=True)
class Registration:
    """What was found.

    Attributes:
        finished: the plane.
        verdict: whether it can be believed.
    """

    finished: Finished
    verdict: Verdict


def find_plane(
    volume: np.ndarray,
    section: np.ndarray,
    voxel_um: float,
    guess: Guess | None = None,
    seed: int = 0,
    trace: Trace | None = None,
) -> Registration:
    """Find the plane of a volume that a section shows, and the affine transform of the section (§2.3).

    What is not accepted is tried again from other random poses (``TRIES``), until a try finds nothing that tells more,
    and what tells most is kept.

    Args:
        volume: (Z, Y, X), any real type.
        section: (3, H, W), uint8, its pixels of the voxels' size.
        voxel_um: that size.
        guess: about where; None searches everywhere.
        seed: of the random poses.
        trace: is told of each stage.

    Returns:
        The plane and whether it can be believed.
    """
    trace = trace or Trace()
    levels = make_levels(volume, section)
    best: Registration | None = None
    usual = GUESSED if guess else GLOBAL
    for number, times in enumerate(TRIES):
        effort = replace(usual, poses=times * usual.poses, kept=tuple(times * count for count in usual.kept))
        pixels = search_px(levels, effort) + settling_px(section, effort.finished) + finishing_px(section)
        with trace.bar(f"try {number + 1} of {len(TRIES)}" if number else "finding the plane", pixels):
            found = _once(volume, section, voxel_um, levels, guess, effort, seed + number, trace)
        if found.verdict.accepted:
            return found
        score = found.finished.score
        if best is not None and score <= MORE * best.finished.score:
            trace("not accepted, and another try finds nothing that tells more", score, 0)
            return max(best, found, key=lambda each: each.finished.score)
        best = found
        if number + 1 < len(TRIES):
            trace(f"not accepted, try {number + 2} of {len(TRIES)} begins", score, 0)
    assert best is not None
    return best


def _once(
    volume: np.ndarray,
    section: np.ndarray,
    voxel_um: float,
    levels: list[Level],
    guess: Guess | None,
    effort: Effort,
    seed: int,
    trace: Trace,
) -> Registration:
    shape = section.shape[1], section.shape[2]
    found = search(levels, volume.shape, shape, guess, effort, seed, trace)
    settled = settle(volume, section, [climbed.pose for climbed in found], voxel_um, trace)
    settled.sort(key=lambda each: -each.best.score)
    best = settled[0]
    trace("full size, tilts and offsets", best.best.score, sum(each.best.evaluations for each in settled))
    reach = reach_of(shape)
    rivals = [(each.best.score / best.best.score, distance(each.pose(), best.pose(), reach)) for each in settled[1:]]
    finished = finish(best, trace)
    return Registration(finished, judge(finished, rivals))
