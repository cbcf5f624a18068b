"""What all objects made from a series say: whose it is, from what it was made, by what, and that it is synthetic."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime

from pydicom import Dataset
from pydicom.sequence import Sequence as Items

from bundle.hospital.objects.made import Made
from bundle.images.dicom.marks import (
    ALWAYS,
    DESCRIPTION,
    FIRST_SERIES,
    FRAME,
    LOSSY,
    MANUFACTURER,
    OF_UNLIKE,
    PART,
    PATIENT,
    STUDY,
    SYNTHETIC,
    code_item,
    decimals,
)
from bundle.images.dicom.source import Source
from bundle.images.dicom.tags import quietly, value_of
from bundle.images.dicom.verbatim import CHARACTERS, copy_text, first_of


@quietly()
def new_object(
    source: Source,
    made: Made,
    sop_class: str,
    kind: str,
    number: int,
    series: int = 0,
    instances: Sequence[Dataset] | None = None,
) -> Dataset:
    """An object made from a series, without its pixels; what we add is ASCII, the same in any character set.

    Args:
        source: the series.
        made: the model.
        sop_class: what it is.
        kind: of object, for its UIDs.
        number: its number in its series, from 1.
        series: which of the series of objects that are made from a series.
        instances: of the series that it refers to; all if not given.
    """
    now = datetime.now()
    date, time = now.strftime("%Y%m%d"), now.strftime("%H%M%S")
    new = Dataset()
    new.SOPClassUID = sop_class
    new.SOPInstanceUID = made.instance_uid(source, kind, number)
    whose(new, source)
    new.SeriesInstanceUID = made.series_uid(source, kind)
    new.SeriesNumber = FIRST_SERIES + 1000 * series + _series_number(source) % 1000
    new.InstanceNumber = number
    new.Modality = "OT"  # not the source's: who asks a study for its CT must not be given a picture
    new.SeriesDescription = OF_UNLIKE if made.unlike else DESCRIPTION
    new.ContentDate = new.InstanceCreationDate = date
    new.ContentTime = new.InstanceCreationTime = time
    new.PatientOrientation = ""  # type 2C: where it lies is said in full
    new.ImageType = ["DERIVED", "SECONDARY"]
    new.add_new(SYNTHETIC, "CS", "YES")
    new.BurnedInAnnotation = "NO"
    new.ContentQualification = "RESEARCH"
    new.Manufacturer = MANUFACTURER
    new.ManufacturerModelName = made.name
    new.DeviceSerialNumber = made.sha256  # the model's fingerprint: 64 digits, as long as may be
    new.SoftwareVersions = [made.version, f"code {made.code}"]
    new.DerivationDescription = _how(made)
    new.SourceImageSequence = Items(_origin(each) for each in instances or source.instances)
    new.ReferencedSeriesSequence = Items([_references(source, instances or source.instances)])
    new.ContributingEquipmentSequence = Items([_equipment(made, date + time)])
    return new


def whose(new: Dataset, source: Source) -> None:
    """Copy character set, patient, study, frame of reference, part of the body and losses, to the byte."""
    first = first_of(source)
    for keyword in (CHARACTERS, *PATIENT, *STUDY, *FRAME, *PART, *LOSSY):
        copy_text(new, first, keyword)
    for keyword in (*ALWAYS, "PositionReferenceIndicator"):
        if keyword not in new:
            setattr(new, keyword, None)
    if not any(keyword in new for keyword in PART):
        new.Laterality = ""  # type 2C: unknown


def _series_number(source: Source) -> int:
    try:
        return abs(int(value_of(source.instances[0], "SeriesNumber")))
    except (TypeError, ValueError):
        return 0


def _how(made: Made) -> str:
    """ST, at most 1024 characters."""
    settings = json.dumps(dict(made.settings), sort_keys=True, ensure_ascii=True)
    return (
        f"Virtual stain, predicted from the source series by artificial intelligence: {made.name} {made.version},"
        f" weights SHA-256 {made.sha256}, code {made.code}, settings {settings}."
        " Generated, no real stain. Research only, not for diagnosis."
    )[:1024]


def _reference(instance: Dataset) -> Dataset:
    item = Dataset()
    item.ReferencedSOPClassUID = str(instance.SOPClassUID)
    item.ReferencedSOPInstanceUID = str(instance.SOPInstanceUID)
    return item


def _origin(instance: Dataset) -> Dataset:
    item = _reference(instance)
    item.PurposeOfReferenceCodeSequence = code_item("121322", "Source image for image processing operation")
    return item


def _references(source: Source, instances: Sequence[Dataset]) -> Dataset:
    item = Dataset()
    item.SeriesInstanceUID = source.series_uid
    item.ReferencedInstanceSequence = Items(_reference(each) for each in instances)
    return item


def _equipment(made: Made, moment: str) -> Dataset:
    item = Dataset()
    item.PurposeOfReferenceCodeSequence = code_item("109100", "Synthesizing Equipment")
    item.Manufacturer = MANUFACTURER
    item.ManufacturerModelName = made.name
    item.DeviceSerialNumber = made.sha256
    item.SoftwareVersions = [made.version, f"code {made.code}"]
    item.ContributionDateTime = moment
    item.ContributionDescription = _how(made)
    return item


def positions(source: Source) -> list[list[str]]:
    """ImagePositionPatient of each slice, as it is written there."""
    return [decimals(header.position_mm) for header in source.headers]
