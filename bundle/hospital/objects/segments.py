"""Slices of a scan whose stain is not to be believed, as segments of a DICOM Segmentation of its study."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from itertools import chain
from pathlib import Path

import numpy as np
from pydicom import Dataset
from pydicom.tag import Tag

from bundle.common.atomic import whole_file
from bundle.hospital.objects.files import PIXELS, write_file
from bundle.hospital.objects.made import Made
from bundle.hospital.objects.synthetic import new_object, positions
from bundle.images.dicom.marks import decimals
from bundle.images.dicom.source import Source

DESCRIPTION = "SYNTHETIC stain not to be believed here - research only"
NAME = "Likeness to the training data"  # of the algorithm
SCHEME = "99VSTAIN"  # ours: no vocabulary has a code for it
LIMIT = 1 << 28  # bytes of the pixels of one object, which highdicom holds in memory
PIXEL_DATA = Tag("PixelData")


def write_segments(
    folder: Path,
    source: Source,
    made: Made,
    kind: str,
    segments: Mapping[str, Sequence[Sequence[int]]],
    limit_bytes: int = LIMIT,
) -> list[Path]:
    """Write slices as segments, a frame for each: one object, or a few of whole frames past the limit.

    Args:
        folder: where to; the files are named by their UIDs.
        source: the series of the scan.
        made: the model.
        kind: of object, for its UIDs.
        segments: by name, in the order of their numbers, first and last slice of each run; runs do not overlap.
        limit_bytes: of the pixels of one object.

    Returns:
        The files; none if no slice is in a segment; all of them, or none if anything fails.
    """
    _, rows, columns = source.shape
    numbers = {
        place: number
        for number, runs in enumerate(segments.values(), 1)
        for place in chain.from_iterable(range(first, last + 1) for first, last in runs)
    }
    places, most = sorted(numbers), max(1, 8 * limit_bytes // (rows * columns))
    written = []
    with ExitStack() as whole:
        for number, start in enumerate(range(0, len(places), most), 1):
            part = places[start : start + most]
            built = _built(source, made, list(segments), part, [numbers[place] for place in part])
            new = _marked(source, made, kind, number, built)
            path = folder / f"{new.SOPInstanceUID}.dcm"
            partial = whole.enter_context(whole_file(path))
            write_file(partial, new, PIXELS, b"OB", len(built.PixelData), iter([built.PixelData]))
            written.append(path)
    return written


def _built(source: Source, made: Made, names: Sequence[str], places: Sequence[int], numbers: Sequence[int]) -> Dataset:
    """What highdicom makes of whole slices.

    Args:
        source: the scan.
        made: the model.
        names: of all segments.
        places: of slices.
        numbers: of the segment that each is in, from 1.
    """
    # here, since it takes a second to import, and most scans have no such slice
    from highdicom import AlgorithmIdentificationSequence
    from highdicom.seg import Segmentation, SegmentDescription
    from pydicom.sr.codedict import codes
    from pydicom.sr.coding import Code

    algorithm = AlgorithmIdentificationSequence(NAME, codes.DCM.ArtificialIntelligence, made.version)
    described = [
        SegmentDescription(
            number,
            name,
            codes.SCT.SpatialAndRelationalConcept,
            Code(name.upper(), SCHEME, f"{name} compared with the training data"),
            "AUTOMATIC",
            algorithm,
        )
        for number, name in enumerate(names, 1)
    ]
    pixels = np.broadcast_to(np.array(numbers, np.uint8)[:, None, None], (len(places), *source.shape[1:]))
    return Segmentation(
        [_plain_slice(source, place) for place in places],
        pixels,
        "BINARY",
        described,
        series_instance_uid=source.series_uid,  # this and what follows is ours to say, see _marked
        series_number=1,
        sop_instance_uid=source.series_uid,
        instance_number=1,
        manufacturer=" ",
        manufacturer_model_name=" ",
        software_versions=" ",
        device_serial_number=" ",
        content_label="WHERE_NOT",
        content_description="slices that are not like the training data",
    )


def _plain_slice(source: Source, place: int) -> Dataset:
    """What highdicom asks of a slice, from what was checked of it: it would stumble over a faulty tag."""
    given, header, new = source.instances[place], source.headers[place], Dataset()
    new.SOPClassUID, new.SOPInstanceUID = str(given.SOPClassUID), header.uid
    new.StudyInstanceUID, new.SeriesInstanceUID = str(given.StudyInstanceUID), source.series_uid
    new.FrameOfReferenceUID, new.Modality = str(given.FrameOfReferenceUID), "CT"
    new.PatientID = new.PatientName = new.PatientBirthDate = new.PatientSex = ""
    new.AccessionNumber = new.StudyID = new.StudyDate = new.StudyTime = new.ReferringPhysicianName = ""
    new.Rows, new.Columns = source.shape[1:]
    new.ImagePositionPatient = positions(source)[place]
    new.ImageOrientationPatient = decimals(source.headers[0].orientation.ravel())
    new.PixelSpacing = decimals(source.spacing_mm[1:])
    new.SliceThickness = new.SpacingBetweenSlices = decimals(source.spacing_mm[:1])[0]
    return new


def _marked(source: Source, made: Made, kind: str, number: int, built: Dataset) -> Dataset:
    """An object that says what all of ours say, and for the rest what highdicom has made of it, but its pixels."""
    new = new_object(source, made, str(built.SOPClassUID), kind, number, 3)
    del new.PatientOrientation
    new.Modality, new.ImageType = built.Modality, built.ImageType
    new.SeriesDescription = DESCRIPTION
    for tag in built.keys() - new.keys() - {PIXEL_DATA}:
        new[tag] = built[tag]
    return new
