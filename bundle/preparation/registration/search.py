"""Finding the plane: many poses on small images, the best of them climbed on larger and larger ones."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import numpy as np
from numba import njit
from scipy.optimize import minimize
from scipy.spatial.transform import Rotation

from bundle.preparation.registration.levels import Level
from bundle.preparation.registration.pose import AFFINE, RIGID, Pose, matrix, move
from bundle.preparation.registration.similarity import BINS, score, scores
from bundle.preparation.registration.trace import Trace
from bundle.preparation.registration.workers import share_out

SEEN_PX = 65536  # pixels used for climbing; more gain nothing
TOGETHER = 4096  # random poses that a thread scores at a time
EVALUATIONS = 450  # of a climb, about, to tell the time left; 290 to 550 seen
CORNERS = np.array([[-1, -1], [-1, 1], [1, -1], [1, 1]])


@dataclass(frozen=True)
class Effort:
    """How much is tried.

    Attributes:
        poses: random ones on the coarsest level.
        kept: how many distinct optima go on to the next level: of the random ones, of the coarsest level, of the next.
        finished: how many are brought to full size.
    """

    poses: int
    kept: tuple[int, ...]
    finished: int


# Success on phantoms: docs/registration.md. A global search of half this size missed a plane of ten that this one found
GUESSED = Effort(20_000, (60, 20, 6), 3)
GLOBAL = Effort(400_000, (300, 60, 10), 4)


@dataclass(frozen=True)
class Guess:
    """About where the section lies.

    Attributes:
        pose: the guess.
        angle_deg: how far off its orientation may be.
        shift_px: how far off its middle may be, voxels.
    """

    pose: Pose
    angle_deg: float = 15.0
    shift_px: float = 60.0


class Climbed(NamedTuple):
    """A pose, the information it gives (nats per pixel) and how often that was computed."""

    pose: Pose
    score: float
    evaluations: int


def search(
    levels: list[Level],
    size: tuple[int, ...],
    section: tuple[int, int],
    guess: Guess | None,
    effort: Effort,
    seed: int,
    trace: Trace,
) -> list[Climbed]:
    """The distinct poses that tell most, on the finest of the levels.

    Args:
        levels: coarsest first.
        size: of the volume, voxels.
        section: rows and columns of the section at the voxels' size.
        guess: None searches everywhere, either side of the section up.
        effort: how much is tried.
        seed: of the random poses.
        trace: is told of each stage.

    Returns:
        The best first, at most ``effort.finished``.
    """
    reach = reach_of(section)
    rng = np.random.default_rng(seed)
    frames, centres = (
        random_poses(rng, effort.poses, size, section) if guess is None else poses_near(guess, rng, effort.poses, reach)
    )
    coarsest = levels[0]
    values = _scores(coarsest, frames, centres, trace)
    trace(f"1/{coarsest.factor} size, {effort.poses} poses", values.max(), effort.poses)
    order = np.argsort(values, kind="stable")[::-1][: 20 * effort.kept[0]]
    starts = [Climbed(Pose(frames[n], centres[n], np.eye(2)), values[n], 1) for n in order]
    best = distinct(starts, reach, 2 * coarsest.factor, effort.kept[0])
    for number, level in enumerate(levels):
        final = number == len(levels) - 1
        climbed = _climb_all(level, best, reach, AFFINE if final else RIGID, 2.0 if number == 0 else 1.0, trace)
        count = effort.finished if final else effort.kept[min(number + 1, 2)]
        best = distinct(climbed, reach, 6, count)
        trace(f"1/{level.factor} size, {len(climbed)} starts", best[0].score, sum(c.evaluations for c in climbed))
    return best


def search_px(levels: list[Level], effort: Effort) -> int:
    """How many pixels a search compares, about."""
    sizes = [level.classes.size for level in levels]
    climbs = (effort.kept[min(number, 2)] * climbing_px(size, every_of(size)) for number, size in enumerate(sizes))
    return effort.poses * sizes[0] + sum(climbs)


def climbing_px(pixels: int, every: int) -> int:
    """How many pixels a climb compares, about, that uses one in ``every``."""
    return EVALUATIONS * (pixels // every)


def every_of(pixels: int) -> int:
    """One pixel in so many is enough for climbing."""
    return max(1, pixels // SEEN_PX)


def reach_of(section: tuple[int, ...]) -> float:
    """Root mean square distance of a section's pixels from its middle."""
    return float(np.sqrt((section[0] ** 2 + section[1] ** 2) / 12))


def random_poses(
    rng: np.random.Generator, count: int, size: tuple[int, ...], section: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray]:
    """Frames (N, 3, 3), uniform over all orientations, and centres (N, 3), such that much of the section is inside."""
    frames = Rotation.random(count, random_state=rng).as_matrix()
    spread = np.maximum(0.5 * np.array(size) - 0.25 * min(section), 0.1 * np.array(size))
    return frames, (np.array(size) - 1) / 2 + rng.uniform(-1, 1, (count, 3)) * spread


def poses_near(guess: Guess, rng: np.random.Generator, count: int, reach: float) -> tuple[np.ndarray, np.ndarray]:
    """Frames (N, 3, 3) and centres (N, 3), uniform over a ball of turns and one of shifts about a guess."""
    turns = Rotation.from_rotvec(_in_ball(rng, count) * np.deg2rad(guess.angle_deg)).as_matrix()
    shifts = _in_ball(rng, count) * guess.shift_px
    turns[0], shifts[0] = np.eye(3), 0  # the guess itself
    return guess.pose.frame @ turns, guess.pose.centre + shifts


def _in_ball(rng: np.random.Generator, count: int) -> np.ndarray:
    """Points (N, 3), uniform in the unit ball."""
    directions = rng.standard_normal((count, 3))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    return directions * rng.random((count, 1)) ** (1 / 3)


def _scores(level: Level, frames: np.ndarray, centres: np.ndarray, trace: Trace) -> np.ndarray:
    """Scores of many unstretched poses, (N,)."""
    poses = np.concatenate([frames[:, :, :2], ((centres + 0.5) / level.factor - 0.5)[:, :, None]], axis=2)
    parts = np.array_split(poses, -(-len(poses) // TOGETHER))
    found = share_out(
        lambda part: scores(level.volume, level.points, level.classes, part, level.colours),
        parts,
        partial(trace.compared, len(poses) * level.classes.size // len(parts)),
    )
    return np.concatenate(found)


def _climb_all(
    level: Level, starts: list[Climbed], reach: float, free: int, step: float, trace: Trace
) -> list[Climbed]:
    """:func:`climb` from each."""
    size = level.classes.size
    every = every_of(size)
    return share_out(
        lambda start: climb(level, start.pose, reach, free, step, every),
        starts,
        partial(trace.compared, climbing_px(size, every)),
    )


def distance(one: Pose, other: Pose, reach: float) -> float:
    """Mean distance of two sections' corners (of a square of that reach), voxels."""
    corners = CORNERS * reach
    return float(np.linalg.norm(one.points(corners) - other.points(corners), axis=1).mean())


def distinct(found: list[Climbed], reach: float, least: float, count: int) -> list[Climbed]:
    """The best of them that are at least ``least`` voxels apart, best first."""
    kept: list[Climbed] = []
    for candidate in sorted(found, key=lambda each: -each.score):
        if all(distance(candidate.pose, other.pose, reach) > least for other in kept):
            kept.append(candidate)
            if len(kept) == count:
                break
    return kept


@njit(nogil=True, cache=True)
def _moved_score(
    parameters: np.ndarray,
    frame: np.ndarray,
    centre: np.ndarray,
    linear: np.ndarray,
    reach: float,
    factor: float,
    volume: np.ndarray,
    points: np.ndarray,
    classes: np.ndarray,
    counts: np.ndarray,
) -> float:
    every = np.zeros(AFFINE)
    every[: parameters.size] = parameters * factor
    turned, shifted, stretched = move(frame, centre, linear, every, reach)
    return score(volume, points, classes, matrix(turned, shifted, stretched, factor), counts)


def climb(
    level: Level, pose: Pose, reach: float, free: int, step: float = 1.0, every: int = 1, rounds: int = 20
) -> Climbed:
    """Climb to the nearest optimum, by Powell's method.

    Args:
        level: the images.
        pose: where to start.
        reach: of the section, voxels.
        free: how many of a move's parameters: ``RIGID`` or ``AFFINE``.
        step: first step, in pixels of the level.
        every: use one pixel in so many.
        rounds: at most.

    Returns:
        The optimum.
    """
    points, classes = level.points[::every], level.classes[::every]
    counts = np.zeros((level.colours, BINS))
    images = (level.volume, points, classes, counts)

    def loss(parameters: np.ndarray) -> float:
        return -_moved_score(parameters, pose.frame, pose.centre, pose.linear, reach, float(level.factor), *images)

    options = {"direc": np.eye(free) * step, "xtol": 0.02, "ftol": 1e-4, "maxiter": rounds}
    found = minimize(loss, np.zeros(free), method="Powell", options=options)
    return Climbed(pose.moved(found.x * level.factor, reach), -float(found.fun), int(found.nfev))
