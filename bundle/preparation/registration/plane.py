"""From two images to a plane: search, settle, finish, judge."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass, field, replace

import numpy as np

from bundle.preparation.registration.confidence import Verdict, judge
from bundle.preparation.registration.finish import Finished, finish, settle
from bundle.preparation.registration.levels import Level, make_levels
from bundle.preparation.registration.search import GLOBAL, GUESSED, Effort, Guess, distance, reach_of, search

TRIES = (1, 2, 2)  # efforts of the searches before "not accepted"; without a guess the first misses 1 plane in 6 or so


@dataclass
class Trace:
    """How the information rose.

    Attributes:
        rows: stage, seconds since the start, nats per pixel, evaluations.
        began: the start, seconds.
    """

    rows: list[tuple[str, float, float, int]] = field(default_factory=list)
    began: float = field(default_factory=time.monotonic)

    def __call__(self, stage: str, score: float, evaluations: int) -> None:
        """Keep a stage's result and show it."""
        seconds = time.monotonic() - self.began
        self.rows.append((stage, round(seconds, 2), round(float(score), 4), evaluations))
        print(f"[{seconds:5.1f} s] {stage}: {score:.3f} nats per pixel", file=sys.stderr, flush=True)


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

    What is not accepted is tried again from more and other random poses (``TRIES``), and what tells most is kept.

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
        found = _once(volume, section, voxel_um, levels, guess, effort, seed + number, trace)
        if found.verdict.accepted:
            return found
        if number + 1 < len(TRIES):
            trace(f"not accepted, try {number + 2} of {len(TRIES)} begins", found.finished.score, 0)
        if best is None or found.finished.score > best.finished.score:
            best = found
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
    settled = [settle(volume, section, climbed.pose, voxel_um) for climbed in found]
    settled.sort(key=lambda each: -each.best.score)
    best = settled[0]
    trace("full size, tilts and offsets", best.best.score, sum(each.best.evaluations for each in settled))
    reach = reach_of(shape)
    rivals = [(each.best.score / best.best.score, distance(each.pose(), best.pose(), reach)) for each in settled[1:]]
    finished = finish(best, trace)
    return Registration(finished, judge(finished, rivals))
