"""A stain as RGB objects of the study of its scan: Secondary Capture, of many frames or of one."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

import numpy as np
from pydicom import Dataset
from pydicom.tag import Tag

from bundle.common.atomic import whole_file
from bundle.hospital.objects.files import PIXELS, Slab, as_bytes, slabs, write_file
from bundle.hospital.objects.frames import LIMIT, add_frames, as_numbered, spans
from bundle.hospital.objects.made import Made
from bundle.hospital.objects.synthetic import new_object, positions
from bundle.images.dicom.icc import srgb
from bundle.images.dicom.marks import DESCRIPTION, MANUFACTURER, decimals
from bundle.images.dicom.source import Source

TRUE_COLOUR = "1.2.840.10008.5.1.4.1.1.7.4"  # Multi-frame True Color Secondary Capture Image Storage
SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"
FRAMES, SLICES = "frames", "slices"  # kinds, for UIDs
BYTE = np.dtype(np.uint8)
MOST_WORDS = 1024  # of a comment that are ours; LT holds ten times as many


def write_frames(folder: Path, source: Source, slab: Slab, made: Made, limit_bytes: int = LIMIT) -> list[Path]:
    """Write a stain as Multi-frame True Color Secondary Capture: one object, or a few of whole frames past the limit.

    Args:
        folder: where to; the files are named by their UIDs.
        source: the series of the scan.
        slab: gives slices start to stop of the stain, (n, Y, X, 3) uint8, on the scan's grid; asked for in order,
            or backwards where the scan's InstanceNumber falls.
        made: the model.
        limit_bytes: of the pixels of one object.

    Returns:
        The files, in order of their frames, which is that of the scan's InstanceNumber; all of them, or none if
        anything fails.

    Raises:
        InputError: if a frame is larger than the limit, or the stain is not on the scan's grid.
    """
    source, slab = as_numbered(source, slab)
    _, rows, columns = source.shape
    frame_bytes = rows * columns * 3
    written = []
    with ExitStack() as whole:
        for number, (start, stop) in enumerate(spans(source, frame_bytes, limit_bytes), 1):
            new = _picture(source, made, TRUE_COLOUR, FRAMES, number, source.instances)
            add_frames(new, source, start, stop)
            new.FrameIncrementPointer = Tag("PerFrameFunctionalGroupsSequence")
            path = folder / f"{new.SOPInstanceUID}.dcm"
            blocks = map(as_bytes, slabs(slab, start, stop, (rows, columns, 3), BYTE))
            partial = whole.enter_context(whole_file(path))
            write_file(partial, new, PIXELS, b"OB", (stop - start) * frame_bytes, blocks)
            written.append(path)
    return written


def write_slices(folder: Path, source: Source, slab: Slab, made: Made) -> list[Path]:
    """Write a stain as single-frame Secondary Capture, a file per slice, for viewers that know no frames.

    Each refers to the slice of the scan in its place alone: all 1,200 in each of 1,200 would be a third of a gigabyte.

    Args:
        folder: where to; the files are named by their UIDs.
        source: the series of the scan.
        slab: as of :func:`write_frames`.
        made: the model.

    Returns:
        The files, likewise; all of them, or none if anything fails.

    Raises:
        InputError: if the stain is not on the scan's grid.
    """
    source, slab = as_numbered(source, slab)
    slices, rows, columns = source.shape
    places = positions(source)
    written: list[Path] = []
    with ExitStack() as whole:
        for pixels in slabs(slab, 0, slices, (rows, columns, 3), BYTE):
            for picture in pixels:
                number = len(written) + 1
                new = _picture(source, made, SECONDARY_CAPTURE, SLICES, number, source.instances[number - 1 : number])
                new.ImagePositionPatient = places[number - 1]
                new.ImageOrientationPatient = decimals(source.headers[0].orientation.ravel())
                new.PixelSpacing = decimals(source.spacing_mm[1:])
                new.SliceThickness = decimals(source.spacing_mm[:1])[0]
                path = folder / f"{new.SOPInstanceUID}.dcm"
                partial = whole.enter_context(whole_file(path))
                write_file(partial, new, PIXELS, b"OB", picture.nbytes, iter([as_bytes(picture)]))
                written.append(path)
    return written


KINDS = {"multi": FRAMES, "single": SLICES}  # by what users call them
WRITERS = {"multi": write_frames, "single": write_slices}


def _cut(words: str) -> str:
    """Words of at most 1,024 characters, as a scan may be unlike the training in any number of places."""
    return words if len(words) <= MOST_WORDS else f"{words[: MOST_WORDS - 4]} ..."


def _picture(
    source: Source, made: Made, sop_class: str, kind: str, number: int, instances: Sequence[Dataset]
) -> Dataset:
    """A colour object without its frames' places."""
    new = new_object(source, made, sop_class, kind, number, [FRAMES, SLICES].index(kind), instances)
    new.ConversionType = "SYN"
    new.SecondaryCaptureDeviceManufacturer = MANUFACTURER
    new.SecondaryCaptureDeviceManufacturerModelName = made.name
    new.SecondaryCaptureDeviceSoftwareVersions = made.version
    new.ImageComments = ". ".join([DESCRIPTION, *([_cut(made.likeness)] if made.likeness else [])])
    new.SamplesPerPixel, new.PhotometricInterpretation, new.PlanarConfiguration = 3, "RGB", 0
    new.Rows, new.Columns = source.shape[1:]
    new.BitsAllocated, new.BitsStored, new.HighBit, new.PixelRepresentation = 8, 8, 7, 0
    new.ICCProfile = srgb()
    new.ColorSpace = "SRGB"
    return new
