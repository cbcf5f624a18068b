"""What a PACS is to us: five questions, asked by DICOMweb or by DIMSE; and what it says of a series."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from bundle.common.errors import InputError
from bundle.hospital.pacs.faults import PacsError, Patience, persistently
from bundle.images.dicom.words import plain

UID = re.compile(r"[0-9.]{1,64}")
STUDY_KEYS = ("StudyInstanceUID", "StudyDate", "StudyDescription", "PatientID")
SERIES_KEYS = (
    *("StudyInstanceUID", "SeriesInstanceUID", "Modality", "SeriesDescription", "BodyPartExamined"),
    "NumberOfSeriesRelatedInstances",
)
INSTANCE_KEYS = ("SOPInstanceUID", "Rows", "Columns")
Answer = Mapping[str, str]  # keyword: value as the PACS wrote it, "" where it said nothing; not to be trusted
Keep = Callable[[str, bytes], None]  # takes the SOP Instance UID and the whole file of an object that came
Told = Callable[[Path, str], None]  # takes the file of an object that the PACS has stored, and its status


class Pacs(Protocol):
    """A client of one PACS. No name of a patient is ever asked for.

    Each method raises UnreachableError, FullError or PacsError.

    Attributes:
        peer: its address, without credentials, for messages.
    """

    peer: str

    def studies(self, filters: Mapping[str, str]) -> list[Answer]:
        """The studies that match, with :data:`STUDY_KEYS`."""

    def series(self, study_uid: str | None, filters: Mapping[str, str]) -> list[Answer]:
        """The series of a study, or of all, that match, with :data:`SERIES_KEYS`."""

    def instances(self, study_uid: str, series_uid: str) -> list[Answer]:
        """The objects of a series, with :data:`INSTANCE_KEYS`."""

    def fetch(self, study_uid: str, series_uid: str, sop_uids: Sequence[str], keep: Keep) -> None:
        """Get objects, each handed to ``keep`` as soon as it is there whole."""

    def store(self, paths: Sequence[Path], told: Told) -> None:
        """Store files in this order; ``told`` is called after each that the PACS has taken."""


@dataclass(frozen=True)
class Series:
    """A series as a PACS lists it. The texts are as it wrote them: print them through ``plain`` only."""

    study_uid: str
    series_uid: str
    modality: str
    description: str
    body_part: str
    study_description: str
    study_date: str
    patient_id: str
    count: int | None


def checked_uid(name: str, value: object) -> str:
    """A UID that may stand in an address or a query.

    Raises:
        InputError: if it is none.
    """
    text = str(value).strip(" \0")
    if not UID.fullmatch(text):
        raise InputError(f"{name} is {plain(str(value))!r}; a UID is 1 to 64 digits and dots.")
    return text


def find_series(
    pacs: Pacs, patience: Patience, study_filters: Mapping[str, str], series_filters: Mapping[str, str]
) -> list[Series]:
    """The series of a PACS that match, study by study, as a PACS need not answer a question that goes across them.

    Args:
        pacs: is asked.
        patience: with it.
        study_filters: by keyword: PatientID, StudyInstanceUID, StudyDate (``20260101-``) …
        series_filters: by keyword: Modality …

    Returns:
        Those whose UIDs are UIDs.
    """
    found = []
    for study in persistently(lambda: pacs.studies(study_filters), patience):
        if not UID.fullmatch(study["StudyInstanceUID"]):
            continue
        uid = study["StudyInstanceUID"]
        answers = persistently(lambda uid=uid: pacs.series(uid, series_filters), patience)  # type: ignore[misc]
        found += [_series(answer, study) for answer in answers if UID.fullmatch(answer["SeriesInstanceUID"])]
    return found


def get_series(pacs: Pacs, patience: Patience, series_uid: str, study_uid: str | None = None) -> Series:
    """One series.

    Args:
        pacs: is asked.
        patience: with it.
        series_uid: of the series.
        study_uid: of its study, for a PACS that finds no series without it.

    Raises:
        PacsError: if there is none, or more than one.
    """
    wanted = {"SeriesInstanceUID": series_uid}
    answers = persistently(lambda: pacs.series(study_uid, wanted), patience)
    answers = [answer for answer in answers if answer["SeriesInstanceUID"] == series_uid]
    studies = sorted({answer["StudyInstanceUID"] or study_uid or "" for answer in answers})
    if not studies:
        hint = "" if study_uid else "; if it is there, the PACS may want its study too: --study UID"
        raise PacsError(f"{pacs.peer} has no series {series_uid}{hint}. (python -m scripts.pacs find lists them.)")
    if len(studies) > 1:
        raise PacsError(f"{pacs.peer} has series {series_uid} in {len(studies)} studies; say which: --study UID.")
    uid = checked_uid(f"{pacs.peer}: the study of series {series_uid}", studies[0])
    study = persistently(lambda: pacs.studies({"StudyInstanceUID": uid}), patience)
    return _series({**answers[0], "StudyInstanceUID": uid}, study[0] if study else {})


def instance_list(pacs: Pacs, patience: Patience, study_uid: str, series_uid: str) -> dict[str, Answer]:
    """The objects of a series, by their SOP Instance UIDs.

    Raises:
        InputError: if one is no UID.
    """
    answers = persistently(lambda: pacs.instances(study_uid, series_uid), patience)
    return {
        checked_uid(f"{pacs.peer}: an object of {series_uid}", answer["SOPInstanceUID"]): answer for answer in answers
    }


def _series(answer: Answer, study: Answer) -> Series:
    count = answer["NumberOfSeriesRelatedInstances"].strip()
    return Series(
        study_uid=answer["StudyInstanceUID"] or study["StudyInstanceUID"],
        series_uid=answer["SeriesInstanceUID"],
        modality=answer["Modality"],
        description=answer["SeriesDescription"],
        body_part=answer["BodyPartExamined"],
        study_description=study.get("StudyDescription", ""),
        study_date=study.get("StudyDate", ""),
        patient_id=study.get("PatientID", ""),
        count=int(count) if re.fullmatch(r"[0-9]{1,9}", count) else None,
    )
