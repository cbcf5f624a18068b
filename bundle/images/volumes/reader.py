"""What a reader of scans gives, and which there are: each registers itself in its own module of ``readers/``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from bundle.images.calibration import Line, in_real_values, real_dtype

Slices = Callable[[int, int], np.ndarray]  # (start, stop) → (stop − start, Y, X)


@dataclass(frozen=True)
class Stored:
    """A volume as its file describes it.

    Attributes:
        shape: (Z, Y, X).
        dtype: type of what ``read`` gives.
        read: reads slices start to stop.
        spacing_um: (z, y, x), None if the file states none; z alone None if it states only a pixel size.
        origin_mm: (x, y, z) of the first voxel, LPS.
        direction: (3, 3), columns are the x, y and z axes, LPS.
        depth: slices that are decoded together, so best read together.
        others: likewise, each a further channel on the same grid; ``read`` gives the first.
        if_mm_um: spacing (z, y, x) in µm of the header's numbers, as mm where they have no unit; None if it has none.
            ``origin_mm`` is of the same unit.
    """

    shape: tuple[int, int, int]
    dtype: np.dtype
    read: Slices
    spacing_um: tuple[float | None, float, float] | None
    origin_mm: Sequence[float] = (0.0, 0.0, 0.0)
    direction: np.ndarray = field(default_factory=lambda: np.eye(3))
    depth: int = 1
    others: tuple[Slices, ...] = ()
    if_mm_um: tuple[float, float, float] | None = None

    def calibrated(self, line: Line | None) -> Stored:
        """The volume in real values; itself where stored ones are those.

        Args:
            line: None, or one that changes nothing, leaves it alone.
        """
        if line is None or line.is_nothing:
            return self

        def real(read: Slices) -> Slices:
            return lambda start, stop: in_real_values(read(start, stop), line)

        others = tuple(map(real, self.others))
        return replace(self, dtype=real_dtype(self.dtype, line), read=real(self.read), others=others)


Reader = Callable[[Path], Stored]  # opens a file or folder; what is raised for a broken one names no path
# All are there once ``volume`` is imported.
FILES: dict[str, Reader] = {}  # by suffix, in lower case; of several that fit a name, the longest counts
FOLDERS: list[tuple[Callable[[Path], bool], Reader]] = []  # each behind what tells its folders from others


def reads(*suffixes: str) -> Callable[[Reader], Reader]:
    """Register a reader of files.

    Args:
        suffixes: of its files, in lower case.

    Raises:
        ValueError: if another reads one of them.
    """

    def register(reader: Reader) -> Reader:
        taken = [suffix for suffix in suffixes if suffix in FILES]
        if taken:
            raise ValueError(f"there is a reader of {', '.join(taken)} already")
        FILES.update(dict.fromkeys(suffixes, reader))
        return reader

    return register


def reads_folders(holds: Callable[[Path], bool]) -> Callable[[Reader], Reader]:
    """Register a reader of folders that are one scan and not slices.

    Args:
        holds: whether a folder is one, by a mark, without a look at all that is in it.
    """

    def register(reader: Reader) -> Reader:
        FOLDERS.append((holds, reader))
        return reader

    return register
