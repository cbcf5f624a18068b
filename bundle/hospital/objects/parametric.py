"""A number per cube of voxels of a scan, such as the expected error of a stain, as a Parametric Map of its study."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pydicom import Dataset
from pydicom.sequence import Sequence as Items

from bundle.common.atomic import whole_file
from bundle.common.errors import InputError
from bundle.hospital.objects.files import FLOATS, Slab, as_bytes, slabs, write_file
from bundle.hospital.objects.frames import LIMIT, add_dimension, add_frames, as_numbered, coarser, spans
from bundle.hospital.objects.made import Made
from bundle.hospital.objects.synthetic import new_object
from bundle.images.dicom.marks import code_item
from bundle.images.dicom.source import Source

PARAMETRIC_MAP = "1.2.840.10008.5.1.4.1.1.30"
DESCRIPTION = "SYNTHETIC map of a virtual stain - research only"
FLOAT = np.dtype(np.float32)
UNKNOWN = float("nan")  # the standard lets pixels be that (PS3.5 section 8), and padding too (PS3.3 C.7.6.24)


@dataclass(frozen=True)
class Numbers:
    """What the numbers of a map are.

    Attributes:
        kind: of object, for its UIDs: the same for the same model, settings and scan alone.
        label: such as ``expected error``; at most 16 letters, digits, spaces and ``_``.
        words: what they mean, with their unit; at most 64 characters of ASCII.
        unit: a code of UCUM, and what it means.
        most: the largest that they can be; the least is 0.
        shown: the largest that a viewer begins with.
        cube: side of the cubes of voxels that each is of.
    """

    kind: str
    label: str
    words: str
    unit: tuple[str, str]
    most: float
    shown: float
    cube: int = 1

    def check(self) -> None:
        """See that the tags take it.

        Raises:
            InputError: if not.
        """
        letters = self.label.replace("_", "").replace(" ", "")
        if not (0 < len(self.label) <= 16 and letters.isascii() and letters.isalnum()):
            raise InputError(f"label is {self.label!r}; it must be 1 to 16 letters, digits, spaces and _.")
        if not (0 < len(self.words) <= 64 and self.words.isascii() and self.words.isprintable()):
            raise InputError(f"words are {self.words!r}; they must be 1 to 64 characters of ASCII.")
        if not 0 < self.shown <= self.most < np.inf:
            raise InputError(f"numbers are from 0 to {self.most}, shown to {self.shown}; both must be above 0.")


def write_map(
    folder: Path, source: Source, slab: Slab, made: Made, numbers: Numbers, limit_bytes: int = LIMIT
) -> list[Path]:
    """Write a map of numbers as Parametric Map: one object, or a few of whole frames past the limit.

    Args:
        folder: where to; the files are named by their UIDs.
        source: the series of the scan.
        slab: gives planes start to stop of the map, (n, ⌈Y/cube⌉, ⌈X/cube⌉) float32, in cubes of the scan's grid; NaN
            where nothing is known; asked for in order, or backwards where the scan's InstanceNumber falls.
        made: the model.
        numbers: what they are; past their most, that is written.
        limit_bytes: of the pixels of one object.

    Returns:
        The files, in the order of :func:`bundle.hospital.objects.colour.write_frames`; all of them, or none if anything
        fails.

    Raises:
        InputError: if a frame is larger than the limit, the tags do not take what the numbers are, or the map is not
            on the scan's grid.
    """
    numbers.check()
    grid, slab = as_numbered(coarser(source, numbers.cube), slab)
    _, rows, columns = grid.shape
    frame_bytes = rows * columns * FLOAT.itemsize
    written = []
    with ExitStack() as whole:
        for number, (start, stop) in enumerate(spans(grid, frame_bytes, limit_bytes), 1):
            new = _described(source, made, numbers, number)
            new.Rows, new.Columns = rows, columns
            add_frames(new, grid, start, stop)
            add_dimension(new, grid)
            _add_meaning(new.SharedFunctionalGroupsSequence[0], new, numbers)
            path = folder / f"{new.SOPInstanceUID}.dcm"
            most = FLOAT.type(numbers.most)
            blocks = (as_bytes(np.minimum(part, most)) for part in slabs(slab, start, stop, (rows, columns), FLOAT))
            partial = whole.enter_context(whole_file(path))
            write_file(partial, new, FLOATS, b"OF", (stop - start) * frame_bytes, blocks)
            written.append(path)
    return written


def _described(source: Source, made: Made, numbers: Numbers, number: int) -> Dataset:
    """The object without its frames."""
    new = new_object(source, made, PARAMETRIC_MAP, numbers.kind, number, 2)
    new.ImageType = ["DERIVED", "PRIMARY", "VOLUME", "NONE"]  # PRIMARY is asked for: a map is no picture of another
    new.SeriesDescription = DESCRIPTION
    new.ContentLabel = _name_of(numbers)
    new.ContentDescription = numbers.words
    new.ContentCreatorName = None
    new.AcquisitionContextSequence = Items([])
    new.SamplesPerPixel, new.PhotometricInterpretation = 1, "MONOCHROME2"
    new.BitsAllocated = 32
    new.FloatPixelPaddingValue = new.FloatPixelPaddingRangeLimit = UNKNOWN
    new.PresentationLUTShape = "IDENTITY"
    new.PixelPresentation = "MONOCHROME"
    new.RecognizableVisualFeatures = "NO"
    if "LossyImageCompression" not in new:
        new.LossyImageCompression = "00"
    return new


def _name_of(numbers: Numbers) -> str:
    return numbers.label.upper().replace(" ", "_")


def _add_meaning(shared: Dataset, new: Dataset, numbers: Numbers) -> None:
    """Say in the shared functional groups what the numbers are."""
    kind, identity, window, mapping = Dataset(), Dataset(), Dataset(), Dataset()
    kind.FrameType = new.ImageType
    shared.ParametricMapFrameTypeSequence = Items([kind])
    identity.RescaleIntercept, identity.RescaleSlope, identity.RescaleType = 0, 1, "US"
    shared.PixelValueTransformationSequence = Items([identity])
    window.WindowCenter, window.WindowWidth = f"{numbers.shown / 2:.10g}", f"{numbers.shown:.10g}"
    window.VOILUTFunction = "LINEAR_EXACT"
    shared.FrameVOILUTSequence = Items([window])
    mapping.LUTExplanation, mapping.LUTLabel = numbers.words, _name_of(numbers)
    mapping.DoubleFloatRealWorldValueFirstValueMapped = 0.0
    mapping.DoubleFloatRealWorldValueLastValueMapped = float(numbers.most)
    mapping.RealWorldValueIntercept, mapping.RealWorldValueSlope = 0.0, 1.0
    mapping.MeasurementUnitsCodeSequence = code_item(*numbers.unit, "UCUM")
    shared.RealWorldValueMappingSequence = Items([mapping])
