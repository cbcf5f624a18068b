"""What a stained slide says of itself in DICOM: whose it is, by what it was made, and that it is synthetic."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pydicom import Dataset
from pydicom.sequence import Sequence as Items

from bundle.common.errors import InputError
from bundle.images.dicom.headers import uid_of
from bundle.images.dicom.icc import srgb
from bundle.images.dicom.marks import (
    ALWAYS,
    DESCRIPTION,
    FIRST_SERIES,
    FRAME,
    LOSSY,
    MANUFACTURER,
    PART,
    PATIENT,
    STUDY,
    SYNTHETIC,
    code_item,
    decimals,
)
from bundle.images.dicom.slices import begins_as_dicom, read_file
from bundle.images.dicom.tags import quietly, value_of
from bundle.images.dicom.verbatim import CHARACTERS, copy_text
from bundle.images.dicom.words import plain, printable, uid_for
from bundle.images.stained_slides.formats import Packing
from bundle.images.stained_slides.ome_xml import note_of, stamp_text
from bundle.images.stained_slides.spec import SlideSpec

WHOLE_SLIDE = "1.2.840.10008.5.1.4.1.1.77.1.6"  # VL Whole Slide Microscopy Image Storage
GLASS = (  # of the source's own slide: which it is, and where its pixels lie on it
    "ContainerIdentifier",
    "IssuerOfTheContainerIdentifierSequence",
    "AcquisitionDateTime",
    "ImageOrientationSlide",
    "TotalPixelMatrixOriginSequence",
)
SPECIMEN = ("SpecimenIdentifier", "SpecimenUID", "IssuerOfTheSpecimenIdentifierSequence")
NO_DEPTH_UM = 1.0  # a picture has none, and DICOM takes no 0
UNKNOWN = "UNKNOWN"  # where DICOM demands a value and nothing is known
UPRIGHT = [0, -1, 0, -1, 0, 0]  # seen through the cover glass, as PS3.3 C.8.12.4.1.1 has it in its figure
BLOCK, CREATOR = 0x0021, "VIRTUAL_STAINING"  # of private tags: the stamp


@dataclass(frozen=True)
class Level:
    """One level as it was packed.

    Attributes:
        number: 0 for the finest.
        photometric: what its frames hold.
        ratio: bytes of pixels by bytes of frames, where that lost something.
    """

    number: int
    photometric: str
    ratio: float | None


def source_of(packing: Packing) -> Dataset | None:
    """The header of the slide that a stain is of; None if it is no DICOM.

    Raises:
        InputError: if it cannot be read, or names no study.
    """
    path = packing.source
    if path is None or not path.is_file():
        return None
    with path.open("rb") as file:
        if not begins_as_dicom(file.read(132)):
            return None
    source = read_file(path)
    try:
        for keyword in ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "SOPClassUID"):
            uid_of(source, keyword)
    except InputError as error:
        raise InputError(f"{printable(path)}: {error}.") from error
    return source


@quietly()
def tags_of(spec: SlideSpec, packing: Packing, level: Level, source: Dataset | None) -> Dataset:
    """All of an instance but the number of frames, their size and the frames; what we add is ASCII.

    Nothing in it depends on the clock: the same slide and model give the same bytes.

    Args:
        spec: what is written.
        packing: how.
        level: which.
        source: of :func:`source_of`.
    """
    uids = _Uids(spec, packing, source)
    new = Dataset()
    new.SOPClassUID, new.SOPInstanceUID = WHOLE_SLIDE, uids.new(f"level {level.number}")
    _whose(new, uids, source)
    _series(new, spec, uids, source)
    _made_by(new, spec, source)
    _image(new, spec, level, source)
    _slide(new, uids, source)
    _light(new)
    block = new.private_block(BLOCK, CREATOR, create=True)
    block.add_new(1, "UT", stamp_text(spec))
    return new


@dataclass(frozen=True)
class _Uids:
    """UIDs that follow from what is written, how, and of what."""

    spec: SlideSpec
    packing: Packing
    source: Dataset | None

    def new(self, what: str) -> str:
        how = [self.spec.name, self.spec.shape, self.packing.compression, self.packing.quality]
        origin = None if self.source is None else str(self.source.SOPInstanceUID)
        return uid_for(json.dumps([stamp_text(self.spec), how, origin, what]).encode())


def _whose(new: Dataset, uids: _Uids, source: Dataset | None) -> None:
    """Patient, study and frame of reference: to the byte those of the source, or empty."""
    for keyword in (CHARACTERS, *PATIENT, *STUDY, *FRAME, *PART):
        if source is not None:
            copy_text(new, source, keyword)
    for keyword in ALWAYS:
        if keyword not in new:
            setattr(new, keyword, None)
    if "StudyInstanceUID" not in new:
        new.StudyInstanceUID = uids.new("study")
    if "FrameOfReferenceUID" not in new:
        new.FrameOfReferenceUID = uids.new("frame of reference")
    if "PositionReferenceIndicator" not in new:
        new.PositionReferenceIndicator = "SLIDE_CORNER"


def _series(new: Dataset, spec: SlideSpec, uids: _Uids, source: Dataset | None) -> None:
    """Which images belong together, and that they are synthetic."""
    new.Modality = "SM"  # which a whole slide has to be
    new.SeriesInstanceUID, new.PyramidUID = uids.new("series"), uids.new("pyramid")
    number = None if source is None else value_of(source, "SeriesNumber")
    new.SeriesNumber = FIRST_SERIES + (abs(int(number)) % 1000 if isinstance(number, int) else 0)
    new.SeriesDescription = new.PyramidDescription = DESCRIPTION
    new.ImageComments = f"{DESCRIPTION}. {_ascii(note_of(spec))}"
    new.add_new(SYNTHETIC, "CS", "YES")
    new.ContentQualification = "RESEARCH"
    moment = _digits(spec.about.get("started"))
    if moment:
        new.ContentDate = new.InstanceCreationDate = moment[:8]
        new.ContentTime = new.InstanceCreationTime = moment[8:14]
    else:
        new.ContentDate = new.ContentTime = None


def _made_by(new: Dataset, spec: SlideSpec, source: Dataset | None) -> None:
    """By which model, of what."""
    about = spec.about
    fingerprint = about.get("fingerprint")
    weights = fingerprint.get("model") if isinstance(fingerprint, Mapping) else None
    item = Dataset()
    for target in (new, item):
        target.Manufacturer = MANUFACTURER
        target.ManufacturerModelName = _word(about.get("model") or "virtual-staining")
        target.DeviceSerialNumber = _word(weights or UNKNOWN)  # the SHA-256 of the weights: as long as may be
        target.SoftwareVersions = _word(about.get("version") or UNKNOWN)
    words = f"{_ascii(note_of(spec))} Predicted by artificial intelligence; settings {stamp_text(spec)}"
    new.DerivationDescription = item.ContributionDescription = words[:1024]
    item.PurposeOfReferenceCodeSequence = code_item("109100", "Synthesizing Equipment")
    new.ContributingEquipmentSequence = Items([item])
    if source is None:
        return
    origin, series, reference = Dataset(), Dataset(), Dataset()
    for each in (origin, reference):
        each.ReferencedSOPClassUID = str(source.SOPClassUID)
        each.ReferencedSOPInstanceUID = str(source.SOPInstanceUID)
    origin.PurposeOfReferenceCodeSequence = code_item("121322", "Source image for image processing operation")
    new.SourceImageSequence = Items([origin])
    series.SeriesInstanceUID = str(source.SeriesInstanceUID)
    series.ReferencedInstanceSequence = Items([reference])
    new.ReferencedSeriesSequence = Items([series])


def _image(new: Dataset, spec: SlideSpec, level: Level, source: Dataset | None) -> None:
    """Its pixels, and which part of the slide they are."""
    rows, columns = spec.levels[level.number]
    new.InstanceNumber = level.number + 1
    new.ImageType = ["DERIVED", "PRIMARY", "VOLUME", "RESAMPLED" if level.number else "NONE"]
    new.SamplesPerPixel, new.PhotometricInterpretation, new.PlanarConfiguration = 3, level.photometric, 0
    new.BitsAllocated, new.BitsStored, new.HighBit, new.PixelRepresentation = 8, 8, 7, 0
    new.BurnedInAnnotation = new.SpecimenLabelInImage = new.ExtendedDepthOfField = "NO"
    new.VolumetricProperties, new.FocusMethod = "VOLUME", "AUTO"
    new.TotalPixelMatrixRows, new.TotalPixelMatrixColumns = rows, columns
    new.TotalPixelMatrixFocalPlanes = new.NumberOfOpticalPaths = 1
    new.DimensionOrganizationType = "TILED_FULL"
    mm = spec.pixel_um * 2**level.number / 1000
    new.ImagedVolumeHeight, new.ImagedVolumeWidth = rows * mm, columns * mm
    depth_um = _depth_um(source)
    new.ImagedVolumeDepth = depth_um
    if level.ratio is not None:
        new.LossyImageCompression, new.LossyImageCompressionMethod = "01", "ISO_10918_1"
        new.LossyImageCompressionRatio = f"{level.ratio:.4g}"
    else:
        for keyword in LOSSY:
            if source is not None:
                copy_text(new, source, keyword)
        if "LossyImageCompression" not in new:
            new.LossyImageCompression = "00"
    measures, kind, path = Dataset(), Dataset(), Dataset()
    measures.PixelSpacing, measures.SliceThickness = decimals([mm, mm]), decimals([depth_um / 1000])[0]
    kind.FrameType = new.ImageType
    path.OpticalPathIdentifier = "1"
    shared = Dataset()
    shared.PixelMeasuresSequence = Items([measures])
    shared.WholeSlideMicroscopyImageFrameTypeSequence = Items([kind])
    shared.OpticalPathIdentificationSequence = Items([path])
    new.SharedFunctionalGroupsSequence = Items([shared])


def _depth_um(source: Dataset | None) -> float:
    """Depth of what was imaged, as the source has it."""
    try:
        depth = float(value_of(source, "ImagedVolumeDepth")) if source is not None else NO_DEPTH_UM
    except (TypeError, ValueError):
        return NO_DEPTH_UM
    return depth if 0 < depth < 1e6 else NO_DEPTH_UM


def _slide(new: Dataset, uids: _Uids, source: Dataset | None) -> None:
    """The glass and what is on it."""
    for keyword in GLASS:
        if source is not None:
            copy_text(new, source, keyword)
    if "ContainerIdentifier" not in new:
        new.ContainerIdentifier = UNKNOWN
    if "IssuerOfTheContainerIdentifierSequence" not in new:
        new.IssuerOfTheContainerIdentifierSequence = Items()
    new.ContainerTypeCodeSequence = code_item("433466003", "Microscope slide", "SCT")
    new.SpecimenDescriptionSequence = Items(_specimens(uids, source))
    new.AcquisitionContextSequence = Items()
    if "AcquisitionDateTime" not in new:
        new.AcquisitionDateTime = _digits(uids.spec.about.get("started"))
    if "ImageOrientationSlide" not in new:
        new.ImageOrientationSlide = UPRIGHT
    if "TotalPixelMatrixOriginSequence" not in new:
        corner = Dataset()
        corner.XOffsetInSlideCoordinateSystem = corner.YOffsetInSlideCoordinateSystem = 0
        new.TotalPixelMatrixOriginSequence = Items([corner])
    organization = Dataset()
    organization.DimensionOrganizationUID = uids.new("dimensions")
    new.DimensionOrganizationSequence = Items([organization])


def _specimens(uids: _Uids, source: Dataset | None) -> Sequence[Dataset]:
    """What is on the glass by name; how it was stained is the source's own."""
    found = [] if source is None else value_of(source, "SpecimenDescriptionSequence") or []
    specimens = []
    for theirs in found or [Dataset()]:
        item = Dataset()
        for keyword in (CHARACTERS, *SPECIMEN):
            copy_text(item, theirs, keyword)
        if "SpecimenIdentifier" not in item:
            item.SpecimenIdentifier = UNKNOWN
        if "SpecimenUID" not in item:
            item.SpecimenUID = uids.new("specimen")
        if "IssuerOfTheSpecimenIdentifierSequence" not in item:
            item.IssuerOfTheSpecimenIdentifierSequence = Items()
        item.SpecimenPreparationSequence = Items()
        specimens.append(item)
    return specimens


def _light(new: Dataset) -> None:
    """The path of light that there was none of, with what the numbers mean as colours."""
    path = Dataset()
    path.OpticalPathIdentifier, path.OpticalPathDescription = "1", DESCRIPTION
    path.IlluminationTypeCodeSequence = code_item("111744", "Brightfield illumination")
    path.IlluminationColorCodeSequence = code_item("371251000", "White", "SCT")
    path.ICCProfile, path.ColorSpace = srgb(), "SRGB"
    new.OpticalPathSequence = Items([path])


def _digits(moment: object) -> str | None:
    """A moment of ISO 8601 as DT; None if there is none."""
    digits = "".join(filter(str.isdigit, str(moment)[:19])) if isinstance(moment, str) else ""
    return digits if len(digits) == 14 else None


def _ascii(text: object) -> str:
    return str(text).encode("ascii", "replace").decode()


def _word(text: object) -> str:
    """A text as LO takes it; a backslash would part it in two."""
    return _ascii(plain(text)).replace("\\", "/")
