"""Two images of one plane: the affine transform between a section and a single slice, and what it leaves.

A slice has no neighbours that could tell its plane from others, and few pixels, so what is known about each pixel
counts: where the source has no data and where the section's mask is off, nothing is compared. Unlike a volume's planes
(:func:`similarity.score`), a transform is judged by the pixels that it brings together and not by how many they are:
a real slice (scripts/bench/rat_jaw.py) ends within the section, and the charge for that pulled it 1 to 5 px aside.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter, map_coordinates
from scipy.optimize import minimize

from bundle.preparation.registration.levels import Level, classify, colour_centres, pixel_places, to_bins
from bundle.preparation.registration.pose import AFFINE, Pose
from bundle.preparation.registration.search import Climbed, distinct, reach_of
from bundle.preparation.registration.similarity import BINS, OUTSIDE, score
from bundle.preparation.registration.warp import match_blocks, smooth_field, without_folds

PLANAR = (2, 3, 4, 6, 7, 8)  # of a move's parameters: the turn in the plane, its two shifts, two scales, shear
STAGES = (8, 4, 2, 1)  # blur (standard deviation) and spacing of the pixels compared, px; 2 alone leaves a strip loose
KEPT = (12, 4, 2, 1)  # optima that each stage climbs from; twice as many find the same
RANDOM = 3000  # turns and shifts tried before the first
LEAST_INSIDE = 0.5  # share of the section's pixels that must meet data
BLOCK_PX = 64  # side of the blocks whose shifts are the warp; 32 is noisy here, 96 stiff (one real pair)
REACHES = (8, 4)  # of the local shifts in each turn, px


@dataclass(frozen=True)
class Within:
    """How far off the guess may be.

    Attributes:
        angle_deg: its turn.
        shift_px: its shift at the section's middle, px of the source.
    """

    angle_deg: float = 10.0
    shift_px: float = 30.0


@dataclass(frozen=True)
class Planar:
    """Where a section's pixels lie in the source.

    Attributes:
        matrix: (2, 3), row and column in the source = matrix @ (row, column, 1) on the section; px, from the middle of
            the first pixel.
        score: mutual information at the affine transform over the pixels compared, nats per pixel.
        warp: (2, h, w), what the affine transform leaves, px on the section: its pixel p shows the source at
            matrix @ (p + warp, 1).
    """

    matrix: np.ndarray
    score: float
    warp: np.ndarray

    def places(self) -> np.ndarray:
        """Rows and columns (2, h, w) in the source of the section's pixels, affine transform and warp."""
        moved = np.indices(self.warp.shape[1:]) + self.warp
        return np.tensordot(self.matrix[:, :2], moved, 1) + self.matrix[:, 2, None, None]

    def sample(self, source: np.ndarray) -> np.ndarray:
        """The source (H, W) on the section's grid, (h, w), between its pixels linearly; NaN where it has no data."""
        return map_coordinates(source.astype(float), self.places(), order=1, cval=np.nan)


def find_affine(
    source: np.ndarray,
    section: np.ndarray,
    mask: np.ndarray | None = None,
    guess: np.ndarray | None = None,
    within: Within | None = None,
    seed: int = 0,
) -> Planar:
    """Find the affine transform from a section to a slice of the same plane, then the smooth warp that it leaves.

    Maximises I(a; b) = Σ p(a, b) ln [p(a, b) / p(a) p(b)] of the section's colour classes a and the source's grey
    values b, over turn, shifts, two scales and shear.

    Args:
        source: (H, W), any real type, its pixels of about the section's size; NaN where it has no data.
        section: (3, h, w), uint8.
        mask: (h, w), True where the section may be compared; None is everywhere.
        guess: (2, 3), as :attr:`Planar.matrix`; None is middle on middle.
        within: how far off the guess may be.
        seed: of the random starts.

    Returns:
        The best transform and warp.

    Raises:
        ValueError: if the mask is empty or the guess and its surroundings bring under half of it onto data.
    """
    within = within or Within()
    mask = np.ones(section.shape[1:], bool) if mask is None else mask.astype(bool)
    if not mask.any():
        raise ValueError("mask: no pixel of the section may be compared; set it to None to compare all")
    shape = (section.shape[1], section.shape[2])
    reach = reach_of(shape)
    best = _random(make_level(source, section, mask, STAGES[0]), pose_from(source.shape, shape, guess), within, seed)
    for blur, kept in zip(STAGES, KEPT, strict=True):
        level = make_level(source, section, mask, blur)
        best = distinct([climb(level, each.pose, reach, blur) for each in best], reach, 1.0, kept)
        if not best or best[0].score <= 0:
            raise ValueError(
                f"source: under {LEAST_INSIDE:.0%} of the section's mask meets data within {within.shift_px:g} px and "
                f"{within.angle_deg:g}° of the guess; give a better guess or a larger within"
            )
    return Planar(_matrix(best[0].pose, shape), best[0].score, local_shifts(source, section, mask, best[0].pose))


def make_level(source: np.ndarray, section: np.ndarray, mask: np.ndarray, blur: int) -> Level:
    """Both images blurred, the section's known pixels on a grid of the blur's spacing.

    Args:
        source: (H, W), NaN where it has no data.
        section: (3, h, w), uint8.
        mask: (h, w), bool.
        blur: standard deviation, px, and spacing.

    Returns:
        A level of full size with only those points; its volume is the source twice, (2, H, W).
    """
    grid = np.s_[..., blur // 2 :: blur, blur // 2 :: blur]
    used = mask[grid].ravel()
    smooth = np.stack([blurred(colour, mask, blur) for colour in section])
    centres = colour_centres(smooth[:, mask][:, None])
    places = pixel_places(mask.shape, mask.shape, 1).T.reshape(2, *mask.shape)[grid].reshape(2, -1).T[used]
    classes = classify(smooth[grid], centres)[used]
    return Level(1, stacked(source, blur), np.ascontiguousarray(places), classes, section.shape[1:])


def blurred(image: np.ndarray, known: np.ndarray, blur: float) -> np.ndarray:
    """A Gaussian mean over the known pixels only, (H, W) → float; what is unknown stays a guess from around."""
    total = gaussian_filter(np.where(known, image, 0).astype(float), blur)
    return total / np.maximum(gaussian_filter(known.astype(float), blur), 1e-6)


def stacked(source: np.ndarray, blur: float) -> np.ndarray:
    """The source as grey bins in two equal slices, (2, H, W); far below 0 where it has no data."""
    known = np.isfinite(source)
    smooth = blurred(source, known, blur)
    bins = np.where(known, to_bins(smooth, smooth[known]), OUTSIDE * 1e6).astype(np.float32)
    return np.stack([bins, bins])


def pose_from(source: tuple[int, ...], section: tuple[int, int], guess: np.ndarray | None) -> Pose:
    """The guess as a pose in two equal slices."""
    middle = (np.array(section) - 1) / 2
    if guess is None:
        guess = np.column_stack([np.eye(2), (np.array(source) - 1) / 2 - middle])
    steps = np.vstack([np.zeros(2), guess[:, :2]])
    return Pose.of_matrix(steps, np.append(0.5, guess[:, :2] @ middle + guess[:, 2]))


def _matrix(pose: Pose, section: tuple[int, int]) -> np.ndarray:
    """:attr:`Planar.matrix` of a pose."""
    linear = pose.steps[1:]
    return np.column_stack([linear, pose.centre[1:] - linear @ (np.array(section) - 1) / 2])


def _random(level: Level, start: Pose, within: Within, seed: int) -> list[Climbed]:
    """The best distinct ones of many turns and shifts about a pose, the pose itself among them."""
    reach = reach_of(level.shape)
    rng = np.random.default_rng(seed)
    radius = within.shift_px * np.sqrt(rng.random(RANDOM))
    around = rng.uniform(0, 2 * np.pi, RANDOM)
    turns = rng.uniform(-1, 1, RANDOM) * np.deg2rad(within.angle_deg) * reach
    moves = np.stack([turns, radius * np.cos(around), radius * np.sin(around)], axis=1)
    moves[0] = 0
    poses = [_moved(start, move, reach) for move in moves]
    counts = np.zeros((int(level.classes.max()) + 1, BINS))
    return distinct([Climbed(pose, information(level, pose, counts), 1) for pose in poses], reach, 6.0, KEPT[0])


def _moved(pose: Pose, parameters: np.ndarray, reach: float) -> Pose:
    """The pose after a move in its plane, (up to 6,) in the order of ``PLANAR``."""
    every = np.zeros(AFFINE)
    every[list(PLANAR[: len(parameters)])] = parameters
    return pose.moved(every, reach)


def information(level: Level, pose: Pose, counts: np.ndarray) -> float:
    """Mutual information over the pixels that meet data, nats; 0 if they are under ``LEAST_INSIDE`` of all."""
    of_all = score(level.volume, level.points, level.classes, pose.matrix(), counts)
    share = counts.sum() / len(level.points)
    return of_all / share if share > LEAST_INSIDE else 0.0


def climb(level: Level, pose: Pose, reach: float, step: float) -> Climbed:
    """Climb to the nearest optimum over ``PLANAR``, by Powell's method; ``step`` is the first, px."""
    counts = np.zeros((int(level.classes.max()) + 1, BINS))
    options = {"direc": np.eye(len(PLANAR)) * step, "xtol": 0.02, "ftol": 1e-5}
    found = minimize(
        lambda move: -information(level, _moved(pose, move, reach), counts),
        np.zeros(len(PLANAR)),
        method="Powell",
        options=options,
    )
    return Climbed(_moved(pose, found.x, reach), -float(found.fun), int(found.nfev))


def local_shifts(source: np.ndarray, section: np.ndarray, mask: np.ndarray, pose: Pose) -> np.ndarray:
    """What an affine transform leaves, by blocks of ``BLOCK_PX`` (:func:`warp.match_blocks`).

    Args:
        source: (H, W), NaN where it has no data.
        section: (3, h, w), uint8.
        mask: (h, w), bool; what it leaves out is a colour class of its own.
        pose: the transform, as a pose in two equal slices.

    Returns:
        (2, h, w), px on the section, without folds.
    """
    shape = section.shape[1:]
    smooth = np.stack([blurred(colour, mask, STAGES[-1]) for colour in section])
    classes = classify(smooth, colour_centres(smooth[:, mask][:, None]))
    classes[~mask.ravel()] = classes.max() + 1
    level = Level(1, stacked(source, STAGES[-1]), pixel_places(shape, shape, 1), classes, shape)
    warp = np.zeros((2, *shape))
    for shift in REACHES:
        warp = warp + smooth_field(match_blocks(level, pose, shift, warp, BLOCK_PX), shape)
    return without_folds(warp)
