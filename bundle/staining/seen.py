"""What of a stained volume and its scan is shown, collected in one pass over each."""

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


@dataclass(frozen=True)
class Grey:
    """What of a scan is shown.

    Attributes:
        frames: planes across z, y and x for the sliders, (N, H, W), uint8.
        views: the middle plane across each axis, (H, W), uint8.
        window: grey values of the scan that are black and white.
    """

    frames: Sequence[np.ndarray]
    views: Sequence[np.ndarray]
    window: tuple[float, float]


class Shown:
    """The planes of a volume that are shown, collected as its slabs go by.

    Args:
        shape: (Z, Y, X).
        spacing_um: voxel size along (z, y, x), µm.
        channels: of its voxels.

    Attributes:
        places: of the planes across z, y and x, voxels.
        frame_um: pixel size of those for the sliders, µm.
        view_um: of the middle ones, µm.
    """

    def __init__(self, shape: Sequence[int], spacing_um: Sequence[float], channels: int) -> None:
        self.places = [spread(size, FRAMES) for size in shape]
        middle = [[along[len(along) // 2]] for along in self.places]
        self.frame_um = pixel_for(shape, spacing_um, FRAME_PX)
        self.view_um = pixel_for(shape, spacing_um, VIEW_PX)
        longest_um = max(size * step for size, step in zip(shape, spacing_um, strict=True))
        self.view_um /= max(1, int(VIEW_PX * self.view_um / longest_um))  # a small one's voxels are whole squares
        self._several = Planes(shape, spacing_um, self.places, self.frame_um, channels)
        self._single = Planes(shape, spacing_um, middle, self.view_um, channels)

    def add(self, start: int, slab: np.ndarray) -> None:
        """Take in a slab (D, Y, X, C) that begins at slice ``start``; of a grey one (D, Y, X) will do."""
        if slab.ndim == 3:
            slab = slab[..., None]
        if slab.dtype.kind == "f":
            slab = np.nan_to_num(slab)
        for planes in (self._several, self._single):
            planes.add(start, slab)

    def frames(self, axis: int) -> np.ndarray:
        """The planes across an axis for its slider, (N, H, W, C), float32, when every slab was added."""
        return self._several.pictures(axis)

    def view(self, axis: int) -> np.ndarray:
        """The middle one, (H, W, C)."""
        return self._single.pictures(axis)[0]

    def grey(self) -> Grey:
        """All of them in 8 bits, of a scan."""
        window = grey_window(self.frames(0))
        frames = [to_8bit(self.frames(axis)[..., 0], *window) for axis in range(3)]
        return Grey(frames, [to_8bit(self.view(axis)[..., 0], *window) for axis in range(3)], window)


def look_at_scan(scan: Volume) -> Grey:
    """Read a scan once, slab by slab, and keep what is shown.

    Args:
        scan: what a stain was made from.

    Raises:
        InputError: if a file is truncated or corrupt.
    """
    shown = Shown(scan.shape, scan.geometry.spacing_um, 1)
    sweep(_scan_slabs(scan), [shown])
    return shown.grey()


def look(stain: Stain, scan: Grey | None, report: Report | None = None) -> Seen:
    """The same of a stained volume.

    Args:
        stain: the result.
        scan: what is shown of its scan, on the same grid; None if that is not there any more.
        report: called with the slices read and the slices in all.

    Raises:
        InputError: if a file is truncated or corrupt.
    """
    shape, spacing_um = stain.shape, stain.geometry.spacing_um
    shown = Shown(shape, spacing_um, 3)
    level = coarse_level(stain.levels)
    step_um = [size * step / now for size, step, now in zip(shape, spacing_um, stain.levels[level], strict=True)]
    copy = Copy(stain.levels[level], step_um, COPY, 3)
    collectors: list[Collector] = [shown, *([] if level else [copy])]
    sweep(_counted(_stain_slabs(stain, 0), shape[0], report), collectors)
    if level:
        sweep(_stain_slabs(stain, level), [copy])
    frames = {} if scan is None else {SCAN: scan.frames}
    views = {} if scan is None else {SCAN: scan.views}
    return Seen(
        shape,
        spacing_um,
        shown.places,
        {**frames, STAIN: [_rounded(shown.frames(axis)) for axis in range(3)]},
        shown.frame_um,
        {**views, STAIN: [_rounded(shown.view(axis)) for axis in range(3)]},
        shown.view_um,
        None if scan is None else scan.window,
        copy.voxels,
        copy.voxel_um,
    )


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
        yield start, scan.read(start, stop)


def _stain_slabs(stain: Stain, level: int) -> Iterator[tuple[int, np.ndarray]]:
    depth, height, width = stain.levels[level]
    for start, stop in blocks(depth, 3 * height * width, DEPTH):
        yield start, stain.read((slice(start, stop), slice(0, height), slice(0, width)), level)[..., :3]


def _counted(
    slabs: Iterator[tuple[int, np.ndarray]], total: int, report: Report | None
) -> Iterator[tuple[int, np.ndarray]]:
    for start, slab in slabs:
        yield start, slab
        if report:
            report(start + len(slab), total)


def _rounded(pictures: np.ndarray) -> np.ndarray:
    return np.clip(np.rint(pictures), 0, 255).astype(np.uint8)
