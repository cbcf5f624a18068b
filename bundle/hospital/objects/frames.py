"""Where the frames of one object lie: shared and per-frame functional groups."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import pairwise

import numpy as np
from pydicom import Dataset
from pydicom.sequence import Sequence as Items
from pydicom.tag import Tag

from bundle.common.errors import InputError
from bundle.hospital.objects.files import Slab
from bundle.hospital.objects.synthetic import positions
from bundle.images.dicom.marks import decimals
from bundle.images.dicom.source import Source
from bundle.images.dicom.words import uid_for

LIMIT = 2**32 - 2  # bytes: the longest even length that PixelData can state; one longer would mean "unknown"


def as_numbered(source: Source, slab: Slab) -> tuple[Source, Slab]:
    """A scan and its stain from the other end where the scan's InstanceNumber falls along the normal.

    Viewers show slices in the order of their InstanceNumber and frames as they come (OHIF does), and a stain is to run
    the way that its scan runs. Numbers that neither rise nor fall throughout say nothing.

    Args:
        source: the series.
        slab: gives slices start to stop of its stain.

    Returns:
        Both as they are, or both turned round.
    """
    numbers = [header.number for header in source.headers if header.number is not None]
    count = source.shape[0]
    if len(numbers) < count or any(after >= before for before, after in pairwise(numbers)):
        return source, slab
    last = source.headers[-1].position_mm
    turned = replace(
        source,
        instances=source.instances[::-1],
        headers=source.headers[::-1],
        paths=source.paths[::-1],
        origin_mm=(float(last[0]), float(last[1]), float(last[2])),
        direction=source.direction * (1, 1, -1),
    )
    return turned, lambda start, stop: slab(count - stop, count - start)[::-1]


def coarser(source: Source, cube: int) -> Source:
    """The grid of cubes of voxels of a scan: where their centres lie; at the ends, those of whole cubes.

    Args:
        source: the series; of the result only its place counts, not its slices.
        cube: side of a cube, voxels.
    """
    z, y, x = source.spacing_mm
    inward = source.direction @ np.array([x, y, z]) * (cube - 1) / 2
    headers = tuple(replace(each, position_mm=each.position_mm + inward) for each in source.headers[::cube])
    depth, height, width = (-(-size // cube) for size in source.shape)
    first = headers[0].position_mm
    return replace(
        source,
        headers=headers,
        shape=(depth, height, width),
        spacing_mm=(z * cube, y * cube, x * cube),
        origin_mm=(float(first[0]), float(first[1]), float(first[2])),
    )


def spans(source: Source, frame_bytes: int, limit_bytes: int) -> list[tuple[int, int]]:
    """First slice, and the one after the last, of each of the fewest objects that keep to a limit.

    Raises:
        InputError: if one slice is past it.
    """
    slices, rows, columns = source.shape
    most = limit_bytes // frame_bytes
    if most < 1:
        raise InputError(f"one slice of {columns}×{rows} px is {frame_bytes} bytes, past the limit of {limit_bytes}.")
    objects = math.ceil(slices / most)
    ends = [slices * part // objects for part in range(objects + 1)]
    return list(zip(ends[:-1], ends[1:], strict=True))


def add_frames(new: Dataset, source: Source, start: int, stop: int) -> None:
    """Say of an object that its frames are slices start to stop of a series."""
    new.NumberOfFrames = stop - start
    new.SharedFunctionalGroupsSequence = Items([_shared(source)])
    places = positions(source)[start:stop]
    new.PerFrameFunctionalGroupsSequence = Items(_frame(place) for place in places)


def _shared(source: Source) -> Dataset:
    measures, orientation, shared = Dataset(), Dataset(), Dataset()
    measures.PixelSpacing = decimals(source.spacing_mm[1:])
    measures.SliceThickness = measures.SpacingBetweenSlices = decimals(source.spacing_mm[:1])[0]
    orientation.ImageOrientationPatient = decimals(source.headers[0].orientation.ravel())
    shared.PixelMeasuresSequence = Items([measures])
    shared.PlaneOrientationSequence = Items([orientation])
    return shared


def _frame(place: list[str]) -> Dataset:
    position, frame = Dataset(), Dataset()
    position.ImagePositionPatient = place
    frame.PlanePositionSequence = Items([position])
    return frame


def add_dimension(new: Dataset, source: Source) -> None:
    """Number the frames of an object by their place in the stack; where its kind asks for that."""
    organization, index = Dataset(), Dataset()
    organization.DimensionOrganizationUID = uid_for(f"slices of {source.series_uid}".encode())
    index.DimensionOrganizationUID = organization.DimensionOrganizationUID
    index.DimensionIndexPointer = Tag("ImagePositionPatient")
    index.FunctionalGroupPointer = Tag("PlanePositionSequence")
    index.DimensionDescriptionLabel = "slice"
    new.DimensionOrganizationSequence = Items([organization])
    new.DimensionOrganizationType = "3D"
    new.DimensionIndexSequence = Items([index])
    for number, frame in enumerate(new.PerFrameFunctionalGroupsSequence, 1):
        content = Dataset()
        content.StackID, content.InStackPositionNumber, content.DimensionIndexValues = "1", number, number
        frame.FrameContentSequence = Items([content])
