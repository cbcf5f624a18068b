"""A DICOM series as a scan: the folder that holds its files."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from bundle.images.slides import SUFFIXES
from bundle.images.volumes.reader import Stored

MEND = "a scan is one series, so put it into a folder of its own"


def holds_dicom(folder: Path) -> bool:
    """Whether a folder holds a file that is DICOM by content or name; where it has no slices itself, one in it, too."""
    from bundle.images.dicom.folder import may_be_dicom  # not every user of scans has pydicom

    def others(paths: Iterable[Path]) -> Iterator[Path]:
        return (path for path in paths if path.suffix.lower() not in SUFFIXES)

    if any(map(may_be_dicom, others(folder.iterdir()))):
        return True
    slices = any(path.suffix.lower() in SUFFIXES for path in folder.iterdir())
    return not slices and any(map(may_be_dicom, others(folder.rglob("*"))))


def read_series(path: Path) -> Stored:
    """The only series in a folder; voxels are stored · RescaleSlope + RescaleIntercept.

    Raises:
        InputError: if there are several, or what is wrong with it, a line per fault.
    """
    from bundle.images.dicom.source import open_folder

    source = open_folder(path, mend=MEND)
    z, y, x = (size * 1000 for size in source.spacing_mm)
    return Stored(source.shape, source.dtype, source.read, (z, y, x), source.origin_mm, source.direction)
