"""A number per voxel of a scan, such as how far a stain can be trusted, as a Parametric Map of its study."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

import numpy as np
from pydicom import Dataset
from pydicom.sequence import Sequence as Items

from bundle.common.atomic import whole_file
from bundle.common.errors import InputError
from bundle.hospital.objects.files import FLOATS, Slab, as_bytes, slabs, write_file
from bundle.hospital.objects.frames import LIMIT, add_dimension, add_frames, as_numbered, spans
from bundle.hospital.objects.made import Made
from bundle.hospital.objects.synthetic import code_item, new_object
from bundle.images.dicom.source import Source

PARAMETRIC_MAP = "1.2.840.10008.5.1.4.1.1.30"
DESCRIPTION = "SYNTHETIC map of a virtual stain - research only"
FLOAT = np.dtype(np.float32)


def write_map(
    folder: Path,
    source: Source,
    slab: Slab,
    made: Made,
    label: str,
    value_range: tuple[float, float],
    limit_bytes: int = LIMIT,
) -> list[Path]:
    """Write a map of numbers without unit as Parametric Map: one object, or a few of whole frames past the limit.

    Args:
        folder: where to; the files are named by their UIDs.
        source: the series of the scan.
        slab: gives slices start to stop of the map, (n, Y, X) float32, on the scan's grid; asked for in order.
        made: the model.
        label: what the numbers are, such as ``disagreement``; at most 16 letters, digits, spaces and ``_``.
        value_range: the least and the most that they can be; viewers begin with it.
        limit_bytes: of the pixels of one object.

    Returns:
        The files, in the order of :func:`bundle.hospital.objects.colour.write_frames`; all of them, or none if anything
        fails.

    Raises:
        InputError: if a frame is larger than the limit, the label or the range cannot be, or the map is not on the
            scan's grid.
    """
    words = label.replace("_", "").replace(" ", "")
    if not (0 < len(label) <= 16 and words.isascii() and words.isalnum()):
        raise InputError(f"label is {label!r}; it must be 1 to 16 letters, digits, spaces and _.")
    least, most = (float(each) for each in value_range)
    if not (np.isfinite([least, most]).all() and least < most):
        raise InputError(f"value_range is {value_range}; it must be two numbers, the least and the most.")
    source, slab = as_numbered(source, slab)
    _, rows, columns = source.shape
    frame_bytes = rows * columns * FLOAT.itemsize
    written = []
    with ExitStack() as whole:
        for number, (start, stop) in enumerate(spans(source, frame_bytes, limit_bytes), 1):
            new = _described(source, made, label, (least, most), number)
            add_frames(new, source, start, stop)
            add_dimension(new, source)
            _add_meaning(new.SharedFunctionalGroupsSequence[0], new, label, (least, most))
            path = folder / f"{new.SOPInstanceUID}.dcm"
            blocks = map(as_bytes, slabs(slab, start, stop, (rows, columns), FLOAT))
            partial = whole.enter_context(whole_file(path))
            write_file(partial, new, FLOATS, b"OF", (stop - start) * frame_bytes, blocks)
            written.append(path)
    return written


def _described(source: Source, made: Made, label: str, ends: tuple[float, float], number: int) -> Dataset:
    """The object without its frames."""
    kind = f"map {label} {ends}"
    new = new_object(source, made, PARAMETRIC_MAP, kind, number, 2)
    new.ImageType = ["DERIVED", "PRIMARY", "VOLUME", "NONE"]  # PRIMARY is asked for: a map is no picture of another
    new.SeriesDescription = DESCRIPTION
    new.ContentLabel = label.upper().replace(" ", "_")
    new.ContentDescription = label
    new.ContentCreatorName = None
    new.AcquisitionContextSequence = Items([])
    new.SamplesPerPixel, new.PhotometricInterpretation = 1, "MONOCHROME2"
    new.Rows, new.Columns = source.shape[1:]
    new.BitsAllocated = 32
    new.PresentationLUTShape = "IDENTITY"
    new.PixelPresentation = "MONOCHROME"
    new.RecognizableVisualFeatures = "NO"
    if "LossyImageCompression" not in new:
        new.LossyImageCompression = "00"
    return new


def _add_meaning(shared: Dataset, new: Dataset, label: str, ends: tuple[float, float]) -> None:
    """Say in the shared functional groups what the numbers are."""
    least, most = ends
    kind, identity, window, mapping = Dataset(), Dataset(), Dataset(), Dataset()
    kind.FrameType = new.ImageType
    shared.ParametricMapFrameTypeSequence = Items([kind])
    identity.RescaleIntercept, identity.RescaleSlope, identity.RescaleType = 0, 1, "US"
    shared.PixelValueTransformationSequence = Items([identity])
    window.WindowCenter, window.WindowWidth = f"{(least + most) / 2:.10g}", f"{most - least:.10g}"
    window.VOILUTFunction = "LINEAR_EXACT"
    shared.FrameVOILUTSequence = Items([window])
    mapping.LUTExplanation, mapping.LUTLabel = label, label.upper().replace(" ", "_")
    mapping.DoubleFloatRealWorldValueFirstValueMapped = least
    mapping.DoubleFloatRealWorldValueLastValueMapped = most
    mapping.RealWorldValueIntercept, mapping.RealWorldValueSlope = 0.0, 1.0
    mapping.MeasurementUnitsCodeSequence = code_item("1", "no units", "UCUM")
    shared.RealWorldValueMappingSequence = Items([mapping])
