"""What every DICOM object of ours says: that it is synthetic; and what it takes from the object that it is made of."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from pydicom import Dataset
from pydicom.sequence import Sequence as Items

PATIENT = (  # of the Patient and Patient Study modules: who, and what animal
    "PatientName",
    "PatientID",
    "IssuerOfPatientID",
    "TypeOfPatientID",
    "PatientBirthDate",
    "PatientSex",
    "QualityControlSubject",
    "PatientSpeciesDescription",
    "PatientSpeciesCodeSequence",
    "PatientBreedDescription",
    "PatientBreedCodeSequence",
    "BreedRegistrationSequence",
    "StrainDescription",
    "StrainNomenclature",
    "StrainCodeSequence",
    "ResponsiblePerson",
    "ResponsiblePersonRole",
    "ResponsibleOrganization",
    "PatientIdentityRemoved",
    "DeidentificationMethod",
    "DeidentificationMethodCodeSequence",
    "PatientAge",
    "PatientSexNeutered",
)
STUDY = (
    "StudyInstanceUID",
    "StudyDate",
    "StudyTime",
    "ReferringPhysicianName",
    "StudyID",
    "AccessionNumber",
    "IssuerOfAccessionNumberSequence",
    "StudyDescription",
)
ALWAYS = (  # type 2: there, if empty
    "PatientName",
    "PatientID",
    "PatientBirthDate",
    "PatientSex",
    "StudyDate",
    "StudyTime",
    "ReferringPhysicianName",
    "StudyID",
    "AccessionNumber",
)
FRAME = ("FrameOfReferenceUID", "PositionReferenceIndicator")
PART = ("BodyPartExamined", "Laterality", "ImageLaterality")
LOSSY = ("LossyImageCompression", "LossyImageCompressionRatio", "LossyImageCompressionMethod")
DESCRIPTION = "SYNTHETIC virtual stain - research only"
OF_UNLIKE = "SYNTHETIC stain of a scan UNLIKE its training - research only"
MANUFACTURER = "virtual-staining, research software"
SYNTHETIC = 0x0008001C  # SyntheticData: pydicom before 2023 has no name for it
FIRST_SERIES = 9000  # above what scanners count to


def code_item(value: str, meaning: str, scheme: str = "DCM") -> Items:
    """A code of a vocabulary, DICOM's own if it is not said, in a sequence."""
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, scheme, meaning
    return Items([item])


def decimals(numbers: Iterable[float] | np.ndarray | Sequence[float]) -> list[str]:
    """Numbers as DS: the shortest text that gives the same number, or the nearest of 16 characters.

    >>> decimals([0.1, 1 / 3, -1e-17])
    ['0.1', '0.33333333333333', '-1e-17']
    """
    return [_decimal(float(number)) for number in numbers]


def _decimal(number: float) -> str:
    for digits in range(17, 0, -1):
        text = min(repr(number), f"{number:.{digits}g}", key=len)
        if len(text) <= 16:
            return text.removesuffix(".0") if text.endswith(".0") else text
    raise ValueError(f"{number} has no text of 16 characters")
