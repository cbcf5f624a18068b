"""Which files of a folder are DICOM, by series, and which objects of a series are its slices."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from pydicom import Dataset
from pydicom.uid import UID

from bundle.common.errors import InputError
from bundle.images.dicom.headers import name_of
from bundle.images.dicom.slices import begins_as_dicom, read_file
from bundle.images.dicom.tags import quietly, value_of
from bundle.images.dicom.words import plain, printable

DIRECTORY = "1.2.840.10008.1.3.10"  # a DICOMDIR
SUFFIXES = (".dcm", ".dicom", ".ima")
HEAD = 132  # bytes: a preamble of 128 and DICM
LOCALIZER = "LOCALIZER"  # of ImageType


@quietly()
def series_in(folder: Path) -> dict[str, list[Dataset]]:
    """Headers of the DICOM files in a folder and the folders in it, by SeriesInstanceUID.

    Raises:
        InputError: if a file that is DICOM by its content or its name cannot be read; a line per file.
    """
    found: dict[str, list[Dataset]] = {}
    faults = []
    for path in sorted(folder.rglob("*")):
        if not may_be_dicom(path):
            continue
        try:
            dataset = read_file(path)
        except InputError as fault:
            faults.append(str(fault))
            continue
        series_uid = value_of(dataset, "SeriesInstanceUID")
        if series_uid is not None:
            found.setdefault(str(series_uid), []).append(dataset)
        elif value_of(dataset.file_meta, "MediaStorageSOPClassUID") != DIRECTORY:
            faults.append(f"{printable(path)} says of no series that it is its, it may be truncated; copy it again.")
    if faults:
        raise InputError("\n".join(faults))
    return found


def may_be_dicom(path: Path) -> bool:
    """Whether a file begins as DICOM does, with or without a preamble, or is named as if it did.

    What macOS puts beside a file that it copies, ``._`` and its name, is not it.
    """
    if not path.is_file():
        return False
    if path.suffix.lower() in SUFFIXES and not path.name.startswith("._"):
        return True
    try:
        with path.open("rb") as file:
            return begins_as_dicom(file.read(HEAD))
    except OSError:
        return True  # whoever reads it says why it cannot be read


def slices_of(instances: Sequence[Dataset]) -> tuple[list[Dataset], list[Dataset]]:
    """Part the objects of a series into its slices and what is plainly of another kind.

    Scanners put a screen, a dose report or a localizer into the series of a scan. Of the same kind are objects of one
    class, one modality and, all or none, a localizer's type.

    Args:
        instances: all objects of the series.

    Returns:
        Those of the kind that more than half of them are, and the others; all and none, if there is no such kind.
    """
    kinds = [_kind(each) for each in instances]
    most, count = Counter(kinds).most_common(1)[0]
    if 2 * count <= len(kinds):
        return list(instances), []
    pairs = list(zip(instances, kinds, strict=True))
    return [each for each, kind in pairs if kind == most], [each for each, kind in pairs if kind != most]


def left_out(others: Sequence[Dataset], slices: Sequence[Dataset]) -> str:
    """One line about what of a series is not stained."""
    more = f" and {len(others) - 1} more" if len(others) > 1 else ""
    theirs, ours = (UID(_kind(each[0])[0]).name for each in (others, slices))
    uid = plain(value_of(slices[0], "SeriesInstanceUID"))
    modality = plain(value_of(others[0], "Modality") or "no modality")
    kind = f"{plain(theirs)}, {modality}{', localizer' if _kind(others[0])[2] else ''}"
    return f"series {uid}: left out {name_of(others[0])} ({kind}){more}, for its {len(slices)} slices are {plain(ours)}"


def _kind(instance: Dataset) -> tuple[str, str, bool]:
    kinds = str(value_of(instance, "ImageType") or "").upper()
    return str(value_of(instance, "SOPClassUID")), str(value_of(instance, "Modality")), LOCALIZER in kinds
