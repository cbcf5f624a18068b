"""Does a stained volume flicker from slice to slice? Stripes across the stacking axis (Irvine et al. §3.3)."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import NamedTuple

import numpy as np

from bundle.common.atomic import whole_file
from bundle.common.places import is_remote

LUMINANCE = np.array([0.2126, 0.7152, 0.0722], np.float32)  # ITU-R BT.709
BOX = 8  # voxels; detail averages out over a box, flicker does not
APART = 2  # boxes from one to its neighbour: 16 voxels, where detail of a true stain no longer correlates
DEPTH = 32  # slices read together
QUIET = 0.5  # share of the pairs of boxes: those between which the source changes least
FLOOR = 0.15  # of the rms change of single boxes; with it, true stains of eight phantoms have 0.75 to 1.36
BINS, PER_OCTAVE = 1024, 8  # of the source's change, 2^−64 to 2^64, each 9 % wide
AXES = ("z", "y", "x")

Read = Callable[[int, int], np.ndarray]
Parts = Sequence[np.ndarray]  # of stain, source and, if there is one, mask


@dataclass(frozen=True)
class Stripes:
    """How much a stain varies from slice to slice along each axis.

    Attributes:
        flicker_levels: standard deviation of what whole regions (16 voxels and more) of a slice differ by from its
            neighbours, along (z, y, x), in grey levels of luminance.
        index: the stripe index along (z, y, x), 1 without stripes.

    Either has None along an axis where no two boxes lie in the sample.
    """

    flicker_levels: tuple[float | None, ...]
    index: tuple[float | None, ...]


class Boxes(NamedTuple):
    """Means over boxes of 8×8 voxels of D slices, all that is measured of them; float32.

    Attributes:
        z: (D, Y/8, X/8), of boxes that lie across z, in every slice.
        y: (⌈D/8⌉, Y, X/8), across y, of 8 slices each; fewer in the last.
        x: (⌈D/8⌉, Y/8, X), across x.
    """

    z: np.ndarray
    y: np.ndarray
    x: np.ndarray


@dataclass(frozen=True)
class BoxStore:
    """Box means of the slabs of several volumes on disk, until all are there.

    Attributes:
        folder: where they are.
    """

    folder: Path

    def _path(self, volume: str, start: int) -> Path:
        return self.folder / volume / f"{start:06d}.npz"

    def write(self, volume: str, start: int, slab: np.ndarray) -> None:
        """Keep the box means of a slab that begins at slice ``start`` of a volume, whole or not at all."""
        with whole_file(self._path(volume, start)) as path:
            np.savez(path, **box_means(slab)._asdict())

    def read(self, volume: str, start: int) -> Boxes:
        """Those of one slab."""
        path = self._path(volume, start)
        with np.load(BytesIO(path.read_bytes()) if is_remote(path) else path) as content:
            return Boxes(*(content[name] for name in Boxes._fields))


class Changes(NamedTuple):
    """Second differences of box means, arrays of one shape.

    Attributes:
        stain: of luminance, in grey levels.
        source: in its units.
        counts: bool, whether the box is in the sample in all three slices.
    """

    stain: np.ndarray
    source: np.ndarray
    counts: np.ndarray


def measure_stripes(
    read_stain: Read, read_source: Read, shape: tuple[int, int, int], read_mask: Read | None = None, depth: int = DEPTH
) -> Stripes:
    """Measure what a stain varies by from slice to slice and its source does not, in one pass.

    The means b of boxes of 8×8 voxels across an axis change along it by

        d_i = (b_{i−1} − 2 b_i + b_{i+1}) / √6,

    of which the standard deviation is that of flicker that is independent from slice to slice; smooth shading gives
    0. Flicker is alike in whole regions of a slice; detail and noise are not, so the mean product of the changes of
    boxes k and k′ that lie 16 voxels apart in a slice keeps flicker alone:

        flicker(axis) = √ max(0, ⟨d_k d_k′⟩).

    For the index, only the half of the pairs (of all axes together) count for which the source's max(|d_k|, |d_k′|)
    is least, so that all axes are compared where the source changes equally little. There,

        g(axis)² = max(0, ⟨d_k d_k′⟩) + 0.15² ⟨d_k²⟩,
        index(axis) = g(axis) / √(g(other) g(another)) of the stain, over the same of the source.

    The index compares axes, so a mean over volumes stained along all three has 1 whatever is left of their flicker:
    compare ``flicker_levels`` of the worst axis, before and after.

    Memory is that of ``depth`` slices; the result does not depend on ``depth``.

    Args:
        read_stain: (start, stop) → (stop − start, Y, X, 3 or more), RGB, or (stop − start, Y, X), 0–255. Called
            once for each part of the volume, in order.
        read_source: likewise, (stop − start, Y, X), any units.
        shape: (Z, Y, X).
        read_mask: likewise, (stop − start, Y, X), true in the sample; boxes count that are all inside. None counts
            all but boxes whose stain stays exactly the same for three slices, as outside a sample's hull.
        depth: slices to read together, rounded up to whole boxes.

    Returns:
        Flicker and index along each axis.

    Raises:
        ValueError: if a reader gives slices of another shape.
    """
    readers = [read for read in (read_stain, read_source, read_mask) if read is not None]
    return stripes_of(_read_boxes(readers, shape, -(-depth // BOX) * BOX))


def stripes_of(slabs: Iterable[Sequence[Boxes]]) -> Stripes:
    """The same of box means.

    Args:
        slabs: of each slab of whole layers of 8 slices, in order, the last of any number, the box means of stain,
            source and, if there is one, mask.
    """
    tallies = [np.zeros((5, BINS)) for _ in AXES]
    carried: Parts = ()  # the last two slices' boxes across z
    recent: list[deque[Changes]] = [deque(maxlen=APART) for _ in AXES]  # the last layers of boxes across y and x
    for depth, across_z, across_y, across_x in _layers(slabs):
        if carried:
            across_z = [np.concatenate(parts) for parts in zip(carried, across_z, strict=True)]
        carried = [part[-2:] for part in across_z]
        for axis in (1, 2):
            _tally_neighbours(tallies[0], _changes(across_z, 0), axis)
        if depth < BOX:
            break  # a last layer too thin for boxes across y and x
        for axis, means in ((1, across_y), (2, across_x)):
            changes = _changes(means, axis - 1)
            _tally_neighbours(tallies[axis], changes, 2 - axis)
            if len(recent[axis]) == APART:
                _tally(tallies[axis], recent[axis][0], changes)
            recent[axis].append(changes)
    return _summed_up(tallies)


def _read_boxes(readers: Sequence[Read], shape: tuple[int, int, int], depth: int) -> Iterator[list[Boxes]]:
    """Box means of each reader, of slabs of ``depth`` slices."""
    for start in range(0, shape[0], depth):
        stop = min(start + depth, shape[0])
        slabs = [read(start, stop) for read in readers]
        for slab in slabs:
            if slab.shape[:3] != (stop - start, *shape[1:]):
                raise ValueError(f"slices {start} to {stop} are {slab.shape[:3]}, not {(stop - start, *shape[1:])}")
        yield [box_means(slab) for slab in slabs]


def _layers(slabs: Iterable[Sequence[Boxes]]) -> Iterator[tuple[int, Parts, Parts, Parts]]:
    """Of each layer, its slices and the box means across z, y and x, of each volume."""
    for slab in slabs:
        for number, first in enumerate(range(0, len(slab[0].z), BOX)):
            across_z = [boxes.z[first : first + BOX] for boxes in slab]
            yield len(across_z[0]), across_z, [boxes.y[number] for boxes in slab], [boxes.x[number] for boxes in slab]


def box_means(slab: np.ndarray) -> Boxes:
    """Box means of a slab, (D, Y, X, 3 or more) in RGB or (D, Y, X)."""
    z, y, x = zip(*(_of_layer(_grey(slab[first : first + BOX])) for first in range(0, len(slab), BOX)), strict=True)
    return Boxes(np.concatenate(z), np.stack(y), np.stack(x))


def _grey(slab: np.ndarray) -> np.ndarray:
    """Luminance of (D, Y, X, 3 or more), or (D, Y, X) as it is; float32."""
    return slab[..., :3].astype(np.float32) @ LUMINANCE if slab.ndim == 4 else slab.astype(np.float32)


def _of_layer(layer: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Means of the boxes across z, y and x of up to 8 slices, (D, Y, X) → (D, Y/8, X/8), (Y, X/8), (Y/8, X)."""
    depth, height, width = layer.shape
    rows, columns = height // BOX, width // BOX
    in_x = layer[..., : columns * BOX].reshape(depth, height, columns, BOX).mean(3)
    across_z = in_x[:, : rows * BOX].reshape(depth, rows, BOX, columns).mean(2)
    across_x = layer.mean(0)[: rows * BOX].reshape(rows, BOX, width).mean(1)
    return across_z, in_x.mean(0), across_x


def _changes(means: Parts, axis: int) -> Changes:
    """Second differences of the box means of stain, source and, if there is one, mask."""
    stain, source, *inside = (np.moveaxis(part, axis, 0) for part in means)
    differences = [(part[:-2] - 2 * part[1:-1] + part[2:]) / np.sqrt(6) for part in (stain, source)]
    if inside:
        counts = np.minimum(np.minimum(inside[0][:-2], inside[0][1:-1]), inside[0][2:]) > 0.999
    else:
        counts = (stain[:-2] != stain[1:-1]) | (stain[1:-1] != stain[2:])
    return Changes(*(np.moveaxis(part, 0, axis) for part in (*differences, counts)))


def _tally_neighbours(table: np.ndarray, changes: Changes, axis: int) -> None:
    """Add the pairs of boxes that lie apart along an axis of the arrays."""
    first, second = ((slice(None),) * axis + (part,) for part in (slice(None, -APART), slice(APART, None)))
    _tally(table, Changes(*(part[first] for part in changes)), Changes(*(part[second] for part in changes)))


def _tally(table: np.ndarray, first: Changes, second: Changes) -> None:
    """Add pairs of boxes to a table, in place.

    Args:
        table: (5, BINS): pairs, products in the stain, in the source, mean squares in the stain, in the source, by
            the larger of the two changes of the source.
        first: one box of each pair.
        second: the other.
    """
    both = first.counts & second.counts
    stain, other_stain, source, other_source = (
        part[both].astype(np.float64) for part in (first.stain, second.stain, first.source, second.source)
    )
    loudness = np.maximum(np.abs(source), np.abs(other_source))
    place = np.floor(PER_OCTAVE * np.log2(np.maximum(loudness, 2.0**-64))).astype(int) + BINS // 2
    place = np.clip(place, 0, BINS - 1)
    table[0] += np.bincount(place, minlength=BINS)
    values = (stain * other_stain, source * other_source, stain**2 + other_stain**2, source**2 + other_source**2)
    for row, weights, share in zip(table[1:], values, (1, 1, 0.5, 0.5), strict=True):
        row += share * np.bincount(place, weights, BINS)


def _summed_up(tallies: list[np.ndarray]) -> Stripes:
    total = np.cumsum(np.sum(tallies, axis=0)[0])
    quiet = int(np.searchsorted(total, QUIET * total[-1])) + 1
    flicker = [_mean(table, BINS, 1) for table in tallies]
    strengths = [[_strength(table, quiet, row) for table in tallies] for row in (1, 2)]
    index = [_index(strengths[0], strengths[1], axis) for axis in range(len(AXES))]
    return Stripes(tuple(None if value is None else float(np.sqrt(max(value, 0))) for value in flicker), tuple(index))


def _mean(table: np.ndarray, stop: int, row: int) -> float | None:
    pairs = table[0, :stop].sum()
    return float(table[row, :stop].sum() / pairs) if pairs else None


def _strength(table: np.ndarray, stop: int, row: int) -> float | None:
    """Coherent change g of the stain (row 1) or the source (row 2)."""
    product, square = _mean(table, stop, row), _mean(table, stop, row + 2)
    return None if product is None or square is None else float(np.sqrt(max(product, 0) + FLOOR**2 * square))


def _index(stain: list[float | None], source: list[float | None], axis: int) -> float | None:
    """The ratio of ratios; a source that does not change at all counts as alike along all axes."""
    order = [axis, *(other for other in range(len(AXES)) if other != axis)]
    own, *others = (stain[place] for place in order)
    theirs, *rest = (source[place] for place in order)
    if own is None or theirs is None or None in others or None in rest:
        return None
    beside = float(np.sqrt(np.prod(np.array(others, float))))
    if own == 0 and beside == 0:
        return None
    expected = float(np.sqrt(np.prod(np.array(rest, float))))
    ratio = theirs / expected if theirs > 0 and expected > 0 else 1.0
    return own / (beside * ratio) if beside > 0 else float("inf")
