"""Which objects a result consists of, known before it is made, and before a single pixel is fetched."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from bundle.hospital.objects.colour import KINDS, LIMIT
from bundle.hospital.objects.made import Made
from bundle.hospital.objects.parametric import FLOAT
from bundle.hospital.pacs.series import Answer, Series
from bundle.images.dicom.source import Source


@dataclass(frozen=True)
class Listed:
    """What of a :class:`bundle.images.dicom.source.Source` the UIDs of a result depend on, from a PACS's list."""

    series_uid: str
    instance_uids: list[str]
    shape: tuple[int, int, int]


def as_listed(series: Series, listed: Mapping[str, Answer]) -> Listed | None:
    """A series as far as a PACS's list tells.

    Args:
        series: which.
        listed: its objects.

    Returns:
        What goes for a source where UIDs are made; None if the list does not say how large slices are: it need not.
    """
    size = next(iter(listed.values()))
    try:
        shape = (len(listed), int(size["Rows"]), int(size["Columns"]))
    except ValueError:
        return None
    return Listed(series.series_uid, list(listed), shape)


def map_uids(made_by: Made, source: Source | Listed, kind: str, cube: int) -> list[str]:
    """SOP Instance UIDs of all objects of a map beside a result.

    Args:
        made_by: the model and its settings.
        source: the scan.
        kind: as of :class:`bundle.hospital.objects.parametric.Numbers`.
        cube: likewise.
    """
    count, rows, columns = (-(-size // cube) for size in source.shape)
    count = math.ceil(count / max(1, LIMIT // (rows * columns * FLOAT.itemsize)))
    return [made_by.instance_uid(source, kind, number) for number in range(1, count + 1)]


def expected_uids(made_by: Made, source: Source | Listed, frames: str) -> list[str]:
    """SOP Instance UIDs of all objects of a result.

    Args:
        made_by: the model and its settings.
        source: the scan.
        frames: ``multi`` or ``single``.
    """
    count, rows, columns = source.shape
    if frames == "multi":
        count = math.ceil(count / max(1, LIMIT // (rows * columns * 3)))
    return [made_by.instance_uid(source, KINDS[frames], number) for number in range(1, count + 1)]
