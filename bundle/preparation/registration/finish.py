"""From the search's plane to the final one: a thick slab about it, other tilts, and local shifts taken out.

Local warps of the section pull the plane aside (1.06 voxels at the corners on average, 0.75 without them; eight
phantoms), so blocks are matched, the section is warped back and the plane is climbed again, in turn.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from scipy.ndimage import gaussian_filter1d

from bundle.preparation.registration.levels import Level, classify, colour_centres, pixel_places, to_bins
from bundle.preparation.registration.pose import AFFINE, RIGID, Pose
from bundle.preparation.registration.search import Climbed, climb, climbing_px, every_of, reach_of
from bundle.preparation.registration.similarity import OUTSIDE, reslice
from bundle.preparation.registration.trace import Trace
from bundle.preparation.registration.warp import Blocks, match_blocks, smooth_field, weight_field
from bundle.preparation.registration.workers import share_out

DEPTH_UM = 7.5  # standard deviation along the normal; dye stays near the surface of a section of 40 µm. 5 to 12 tried
HALF_SLAB = 24  # voxels of the slab on each side of the plane
MARGIN = 12  # voxels of the slab around the section
TILTS, OFFSETS = (6.0, 12.0), (5.0,)  # further starts, voxels at the rim and along the normal
ROUGHER = 8  # one in so many of the pixels for climbing is enough from these starts, and twice as many after them
REACHES = (6, 3, 3)  # of the local shifts in each turn, pixels


@dataclass(frozen=True)
class Finished:
    """A section in its plane.

    Attributes:
        pose: the plane, and the affine transform that fits the section best, local shifts included.
        score: information at that plane with local shifts taken out, nats per pixel.
        warp: (2, H, W), rows and columns that the affine transform leaves, px on the section: the section's pixel p
            shows what ``pose`` expects at p + warp.
        slab: the images about the plane, for further looking; ``pose_in_slab`` is the plane in it.
        pose_in_slab: see there.
        blocks: the last match.
    """

    pose: Pose
    score: float
    warp: np.ndarray
    slab: Level
    pose_in_slab: Pose
    blocks: Blocks


@dataclass(frozen=True)
class Settled:
    """A plane in a slab of its own, before local shifts are looked for.

    Attributes:
        start: the search's pose, which the slab lies about.
        slab: section and slab, full size.
        best: the optimum in it.
    """

    start: Pose
    slab: Level
    best: Climbed

    @property
    def into(self) -> np.ndarray:
        """(3, 3), voxels of the volume for one step of the slab along (z, row, column)."""
        return np.column_stack([self.start.frame[:, 2], self.start.steps])

    def pose(self) -> Pose:
        """The optimum in the volume."""
        centre = self.start.centre + self.into @ (self.best.pose.centre - middle_of(self.slab).centre)
        return Pose.of_matrix(self.into @ self.best.pose.steps, centre)


def settle(volume: np.ndarray, section: np.ndarray, starts: list[Pose], voxel_um: float, trace: Trace) -> list[Settled]:
    """Bring poses of the search to full size.

    Args:
        volume: (Z, Y, X), any real type.
        section: (3, H, W), uint8, at the voxels' size.
        starts: each within some 10 voxels of what may be the truth.
        voxel_um: size of voxels.
        trace: is told how far it is.

    Returns:
        The nearest plane of each that tells most.
    """
    reach, moves = reach_of(section.shape[1:]), _starts()
    slabs = [make_slab(volume, section, start, DEPTH_UM / voxel_um) for start in starts]
    size = slabs[0].classes.size
    every = ROUGHER * every_of(size)
    middle = middle_of(slabs[0])
    tries = share_out(
        lambda one: climb(one[0], middle.moved(one[1], reach), reach, AFFINE, 1.5, every, 6),
        [(slab, move) for slab in slabs for move in moves],
        partial(trace.compared, climbing_px(size, every)),
    )
    of_each = [tries[n : n + len(moves)] for n in range(0, len(tries), len(moves))]
    best = share_out(
        lambda one: climb(one[0], max(one[1], key=lambda each: each.score).pose, reach, AFFINE, 1.0, every // 2),
        list(zip(slabs, of_each, strict=True)),
        partial(trace.compared, climbing_px(size, every // 2)),
    )
    return [
        Settled(start, slab, last._replace(evaluations=last.evaluations + sum(each.evaluations for each in first)))
        for start, slab, last, first in zip(starts, slabs, best, of_each, strict=True)
    ]


def middle_of(slab: Level) -> Pose:
    """The search's pose in a slab about it."""
    middle = [size / 2 - 0.5 for size in slab.volume.shape]
    return Pose(np.array([[0.0, 0, 1], [1, 0, 0], [0, 1, 0]]), np.array(middle), np.eye(2))


def settling_px(section: np.ndarray, count: int) -> int:
    """How many pixels :func:`settle` compares, about, for so many poses."""
    size = section[0].size
    every = ROUGHER * every_of(size)
    return count * (len(_starts()) * climbing_px(size, every) + climbing_px(size, every // 2))


def finishing_px(section: np.ndarray) -> int:
    """How many pixels :func:`finish` compares, about."""
    return (1 + len(REACHES)) * climbing_px(section[0].size, every_of(section[0].size))


def finish(settled: Settled, trace: Trace) -> Finished:
    """Take local shifts out, and climb to the final plane.

    Args:
        settled: the best of the candidates.
        trace: is told of each turn.

    Returns:
        The final plane.
    """
    slab, best = settled.slab, settled.best
    reach = reach_of(slab.shape)
    every = every_of(slab.classes.size)
    pixels = climbing_px(slab.classes.size, every)
    best = climb(slab, best.pose, reach, AFFINE, 0.5, every)
    trace.compared(pixels)
    trace("full size", best.score, best.evaluations)
    warp = np.zeros((2, *slab.shape))
    for turn, shift in enumerate(REACHES):
        blocks = match_blocks(slab, best.pose, shift, warp)
        warp = warp + smooth_field(blocks, slab.shape)
        best = climb(warped(slab, warp), best.pose, reach, RIGID, 1.0, every)
        trace.compared(pixels)
        trace(f"full size, local shifts {turn + 1}", best.score, best.evaluations)
    return _whole(replace(settled, best=best), warp, blocks)


def _starts() -> list[np.ndarray]:
    """Moves of the search's plane: none, tilts about both axes, offsets along the normal."""
    moves = [np.zeros(RIGID)]
    for place, sizes in ((0, TILTS), (1, TILTS), (5, OFFSETS)):
        for size in sizes:
            for sign in (-1, 1):
                moves.append(np.eye(RIGID)[place] * sign * size)
    return moves


def make_slab(volume: np.ndarray, section: np.ndarray, pose: Pose, depth: float) -> Level:
    """The volume on the section's grid, from below the plane to above it, blurred along the normal.

    Args:
        volume: (Z, Y, X).
        section: (3, H, W), uint8.
        pose: the plane.
        depth: standard deviation of the blur, voxels.

    Returns:
        A level of full size whose volume is (2 ``HALF_SLAB`` + 1, H + 2 ``MARGIN``, W + 2 ``MARGIN``).
    """
    shape = section.shape[1:]
    grown = tuple(size + 2 * MARGIN for size in shape)
    places = pixel_places(grown, grown, 1).astype(np.float64)
    slab = np.empty((2 * HALF_SLAB + 1, *grown), np.float32)

    def fill(n: int) -> None:
        lifted = replace(pose, centre=pose.centre + (n - HALF_SLAB) * pose.frame[:, 2])
        slab[n] = _sliced(volume, places, lifted).reshape(grown)

    share_out(fill, range(len(slab)))
    empty = np.isnan(slab)
    slab[empty] = np.nanmin(slab)
    slab = gaussian_filter1d(slab, depth, axis=0, output=np.float32)
    slab = to_bins(slab, slab[HALF_SLAB - 2 : HALF_SLAB + 3][~empty[HALF_SLAB - 2 : HALF_SLAB + 3]])
    slab[empty] = OUTSIDE * 1e6  # so that no neighbour of it counts either
    classes = classify(section, colour_centres(section))
    return Level(1, slab, pixel_places(shape, shape, 1), classes, shape)


def _sliced(volume: np.ndarray, places: np.ndarray, pose: Pose) -> np.ndarray:
    """A plane of a volume of any values, NaN outside."""
    points = pose.points(places)
    beyond = ((points < 0) | (points > np.array(volume.shape) - 1)).any(axis=1)
    return np.where(beyond, np.nan, reslice(volume, places, pose.matrix()))


def warped(level: Level, warp: np.ndarray) -> Level:
    """The level with its pixels' places shifted by a warp (2, H, W)."""
    return replace(level, points=level.points + warp.reshape(2, -1).T.astype(np.float32))


def _whole(settled: Settled, warp: np.ndarray, blocks: Blocks) -> Finished:
    """Put slab and local shifts together: the affine part of the shifts becomes the pose's."""
    slab, best = settled.slab, settled.best.pose
    sure = np.sqrt(np.maximum(weight_field(blocks, slab.shape), 0)).ravel()[:, None]
    places = slab.points.astype(np.float64)
    moved = places + warp.reshape(2, -1).T
    affine = np.linalg.lstsq(np.column_stack([places, np.ones(len(places))]) * sure, moved * sure, rcond=None)[0].T
    linear, offset = affine[:, :2], affine[:, 2]
    left = np.linalg.solve(linear, (moved - places @ linear.T - offset).T).reshape(warp.shape)
    stretched = Pose.of_matrix(best.steps @ linear, best.centre + best.steps @ offset)
    whole = replace(settled, best=settled.best._replace(pose=stretched))
    return Finished(whole.pose(), settled.best.score, left, slab, stretched, blocks)
