"""From two images to a plane: search, settle, finish, judge."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from bundle.preparation.registration.confidence import RIVAL_PX, Verdict, judge
from bundle.preparation.registration.finish import Finished, finish, finishing_px, settle, settling_px
from bundle.preparation.registration.levels import Level, make_levels
from bundle.preparation.registration.pose import Pose
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


@dataclass(frozen=True)
class Registration:
    """What was found.

    Attributes:
        finished: the plane.
        verdict: whether it can be believed.
        looked_at: the planes that the search ended with, best first; the first of them became this one.
    """

    finished: Finished
    verdict: Verdict
    looked_at: tuple[Pose, ...]


def find_plane(
    volume: np.ndarray,
    section: np.ndarray,
    voxel_um: float,
    guess: Guess | None = None,
    seed: int = 0,
    trace: Trace | None = None,
) -> Registration:
    """Find the plane of a volume that a section shows, and the affine transform of the section (§2.3).

    What is not accepted is tried again from other random poses (``TRIES``), until a try ends in a plane that one before
    had looked at too: then nothing fits better. What tells most is kept.

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
    reach = reach_of(section.shape[1:])
    usual = GUESSED if guess else GLOBAL
    best: Registration | None = None
    known: tuple[Pose, ...] = ()
    for number, times in enumerate(TRIES):
        if best is not None:
            trace(f"not accepted, try {number + 1} of {len(TRIES)} begins", best.finished.score, 0)
        effort = replace(usual, poses=times * usual.poses, kept=tuple(times * count for count in usual.kept))
        pixels = search_px(levels, effort) + settling_px(section, effort.finished) + finishing_px(section)
        with trace.bar(f"try {number + 1} of {len(TRIES)}", pixels):
            found = _once(volume, section, voxel_um, levels, guess, effort, seed + number, trace)
        if found.verdict.accepted:
            return found
        if best is None or found.finished.score > best.finished.score:
            best = found
        if any(distance(pose, found.looked_at[0], reach) < RIVAL_PX for pose in known):
            trace("not accepted: this try ends in a plane that is known", found.finished.score, 0)
            break
        known += found.looked_at
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
    return Registration(finished, judge(finished, rivals), tuple(each.pose() for each in settled))
