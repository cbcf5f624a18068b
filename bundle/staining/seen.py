"""What of a stained volume and its scan is shown, read in one pass over each."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from bundle.common.region import spread
from bundle.images.averaging import blocks
from bundle.images.slides import to_8bit
from bundle.images.stained.stored import DEPTH, Stain
from bundle.images.volumes.planes import Collector, Copy, Planes, pixel_for, sweep
from bundle.images.volumes.volume import Volume

FRAMES, FRAME_PX = 25, 360  # along each axis; an odd number, so that the middle plane is one
VIEW_PX = 600  # longest side of a plane in views.png
COPY = 256  # voxels, longest side of what is rendered
SHOWN = (0.5, 99.5)  # percentiles of the scan's grey values that become black and white
SCAN, STAIN = "µCT", "virtual stain"

Report = Callable[[int, int], None]


@dataclass(frozen=True)
class Seen:
    """What of a volume is shown.

    Attributes:
        shape: (Z, Y, X).
        spacing_um: voxel size along (z, y, x), µm.
        places: of the planes across z, y and x, voxels.
        frames: by volume, planes across z, y and x for the sliders, (N, H, W) or (N, H, W, 3), uint8.
        frame_um: their pixel size, µm.
        views: by volume, the middle plane across each axis, (H, W) or (H, W, 3), uint8.
        view_um: their pixel size, µm.
        window: grey values of the scan that are black and white; None without a scan.
        copy: (Z, Y, X, 3), uint8, the stain in coarse voxels.
        copy_um: size of those along (z, y, x), µm.
    """

    shape: Sequence[int]
    spacing_um: Sequence[float]
    places: Sequence[Sequence[int]]
    frames: Mapping[str, Sequence[np.ndarray]]
    frame_um: float
    views: Mapping[str, Sequence[np.ndarray]]
    view_um: float
    window: tuple[float, float] | None
    copy: np.ndarray
    copy_um: Sequence[float]


def look(stain: Stain, scan: Volume | None, report: Report | None = None) -> Seen:
    """Read a stained volume and its scan once each, slab by slab, and keep what is shown.

    Args:
        stain: the result.
        scan: what it was made from, on the same grid; None if it is not there any more.
        report: called with the slices read and the slices in all.

    Raises:
        InputError: if a file is truncated or corrupt.
    """
    shape, spacing_um = stain.shape, stain.geometry.spacing_um
    places = [spread(size, FRAMES) for size in shape]
    middle = [[along[len(along) // 2]] for along in places]
    frame_um, view_um = pixel_for(shape, spacing_um, FRAME_PX), pixel_for(shape, spacing_um, VIEW_PX)
    longest_um = max(size * step for size, step in zip(shape, spacing_um, strict=True))
    view_um /= max(1, int(VIEW_PX * view_um / longest_um))  # a small volume's voxels are drawn as whole squares
    frames: dict[str, list[np.ndarray]] = {}
    views: dict[str, list[np.ndarray]] = {}
    window = None
    total = shape[0] * (1 if scan is None else 2)
    if scan is not None:
        several, single = Planes(shape, spacing_um, places, frame_um, 1), Planes(shape, spacing_um, middle, view_um, 1)
        sweep(_counted(_scan_slabs(scan), 0, total, report), [several, single])
        window = grey_window(several.pictures(0))
        frames[SCAN] = [to_8bit(several.pictures(axis)[..., 0], *window) for axis in range(3)]
        views[SCAN] = [to_8bit(single.pictures(axis)[0, ..., 0], *window) for axis in range(3)]
    several, single = Planes(shape, spacing_um, places, frame_um, 3), Planes(shape, spacing_um, middle, view_um, 3)
    level = coarse_level(stain.levels)
    step_um = [size * step / now for size, step, now in zip(shape, spacing_um, stain.levels[level], strict=True)]
    copy = Copy(stain.levels[level], step_um, COPY, 3)
    collectors: list[Collector] = [several, single, *([] if level else [copy])]
    sweep(_counted(_stain_slabs(stain, 0), total - shape[0], total, report), collectors)
    if level:
        sweep(_stain_slabs(stain, level), [copy])
    frames[STAIN] = [_rounded(several.pictures(axis)) for axis in range(3)]
    views[STAIN] = [_rounded(single.pictures(axis)[0]) for axis in range(3)]
    return Seen(shape, spacing_um, places, frames, frame_um, views, view_um, window, copy.voxels(), copy.voxel_um)


def coarse_level(levels: Sequence[Sequence[int]], longest: int = COPY) -> int:
    """The coarsest level of a pyramid, finest first, that is not coarser than ``longest`` voxels a side asks for."""
    return max((number for number, shape in enumerate(levels) if max(shape) >= longest), default=0)


def grey_window(planes: np.ndarray) -> tuple[float, float]:
    """Grey values that become black and white, one pair for a whole scan: percentiles ``SHOWN`` of some planes."""
    low, high = np.percentile(planes, SHOWN)
    return float(low), float(max(high, low + 1e-9))


def _scan_slabs(scan: Volume) -> Iterator[tuple[int, np.ndarray]]:
    depth, height, width = scan.shape
    for start, stop in blocks(depth, height * width, scan.depth):
        slab = scan.read(start, stop)[..., None]
        yield start, np.nan_to_num(slab) if slab.dtype.kind == "f" else slab


def _stain_slabs(stain: Stain, level: int) -> Iterator[tuple[int, np.ndarray]]:
    depth, height, width = stain.levels[level]
    for start, stop in blocks(depth, 3 * height * width, DEPTH):
        yield start, stain.read((slice(start, stop), slice(0, height), slice(0, width)), level)[..., :3]


def _counted(
    slabs: Iterator[tuple[int, np.ndarray]], before: int, total: int, report: Report | None
) -> Iterator[tuple[int, np.ndarray]]:
    for start, slab in slabs:
        yield start, slab
        if report:
            report(before + start + len(slab), total)


def _rounded(pictures: np.ndarray) -> np.ndarray:
    return np.clip(np.rint(pictures), 0, 255).astype(np.uint8)
