"""What the header of one slice of a series says, checked."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pydicom import Dataset
from pydicom.uid import UID

from bundle.common.errors import InputError
from bundle.images.dicom.slices import decodable, transfer_syntax
from bundle.images.dicom.tags import value_of
from bundle.images.dicom.words import plain, printable

BITS = (8, 16, 32)
UPRIGHT = 1e-3  # how far the two axes of a slice may be from unit length and a right angle; DS has 16 digits


@dataclass(frozen=True)
class Header:
    """What one slice says of its place and its pixels.

    Attributes:
        name: its file, else its UID, for messages.
        uid: SOP Instance UID.
        shape: (Y, X).
        pixel_mm: distance of its rows, and of its columns.
        one: what all slices of a series have in common, {what messages call it: value}.
        orientation: direction cosines (2, 3) along a row and along a column, LPS.
        position_mm: (x, y, z) of the centre of its first pixel, LPS.
        bits: BitsAllocated, BitsStored.
        signed: whether stored values are signed.
        slope, intercept: from a stored value to the scan's.
        number: InstanceNumber; None if there is none.
        step_mm: how far slices are said to be apart: SpacingBetweenSlices, else SliceThickness; None likewise.
    """

    name: str
    uid: str
    shape: tuple[int, int]
    pixel_mm: tuple[float, float]
    one: dict[str, Any]
    orientation: np.ndarray
    position_mm: np.ndarray
    bits: tuple[int, int]
    signed: bool
    slope: float
    intercept: float
    number: int | None
    step_mm: float | None


def name_of(dataset: Dataset) -> str:
    """A dataset's file, else its SOP Instance UID, for messages."""
    path = getattr(dataset, "filename", None)
    if isinstance(path, (str, Path)) and str(path):
        return printable(Path(path).name)
    return f"instance {plain(value_of(dataset, 'SOPInstanceUID'))}"


def numbers_of(dataset: Dataset, keyword: str, count: int) -> list[float]:
    """So many finite numbers of a tag.

    Raises:
        InputError: if it has not; it begins with the keyword, and does not name the slice.
    """
    value = value_of(dataset, keyword)
    if value is None:
        raise InputError(f"{keyword} is missing; such an image has no place in a scan")
    try:
        numbers = [float(each) for each in ([value] if count == 1 or isinstance(value, bytes) else value)]
    except (TypeError, ValueError):
        numbers = []
    if len(numbers) != count or not np.isfinite(numbers).all():
        wanted = "a finite number" if count == 1 else f"{count} finite numbers"
        raise InputError(f"{keyword} is {plain(value)}; it must be {wanted}")
    return numbers


def whole_of(dataset: Dataset, keyword: str, allowed: range | tuple[int, ...], otherwise: int | None = None) -> int:
    """The whole number of a tag.

    Raises:
        InputError: as :func:`numbers_of`, or if it is not allowed.
    """
    if otherwise is not None and value_of(dataset, keyword) is None:
        return otherwise
    number = numbers_of(dataset, keyword, 1)[0]
    if number not in allowed:
        known = f"{allowed[0]} to {allowed[-1]}" if isinstance(allowed, range) else " or ".join(map(str, allowed))
        raise InputError(f"{keyword} is {plain(value_of(dataset, keyword))}; only {known} can be read")
    return int(number)


def uid_of(dataset: Dataset, keyword: str) -> str:
    """The UID of a tag, which goes into references and names of files.

    Raises:
        InputError: if it is missing or no UID.
    """
    value = value_of(dataset, keyword)
    if not isinstance(value, str) or len(value) > 64 or not re.fullmatch(r"\d+(\.\d+)*", value, re.ASCII):
        found = "is missing" if value is None else f"is {plain(value)}, which is no UID"
        raise InputError(f"{keyword} {found}; export the series again from where it was made")
    return str(value)


def read_header(dataset: Dataset, stored_values: bool = False) -> Header:
    """Check one slice by itself.

    Args:
        dataset: its header; pixels are not looked at.
        stored_values: the user says that stored values are meant where nothing rescales them.

    Raises:
        InputError: its first fault, without the slice's name.
    """
    one = {
        "SeriesInstanceUID": uid_of(dataset, "SeriesInstanceUID"),
        "StudyInstanceUID": uid_of(dataset, "StudyInstanceUID"),
        "PatientID": plain(value_of(dataset, "PatientID")),
    }
    uid = uid_of(dataset, "SOPInstanceUID")
    uid_of(dataset, "SOPClassUID")
    _check_pixels(dataset)
    bits = whole_of(dataset, "BitsAllocated", BITS), whole_of(dataset, "BitsStored", range(1, 33))
    if bits[1] > bits[0] or whole_of(dataset, "HighBit", range(32), bits[1] - 1) != bits[1] - 1:
        raise InputError(f"BitsStored is {bits[1]} of {bits[0]}, not the lowest ones; export the series uncompressed")
    one["FrameOfReferenceUID"] = uid_of(dataset, "FrameOfReferenceUID")
    rows, columns = (whole_of(dataset, keyword, range(1, 65536)) for keyword in ("Rows", "Columns"))
    pixel_mm = numbers_of(dataset, "PixelSpacing", 2)
    if min(pixel_mm) <= 0:
        raise InputError(f"PixelSpacing is {plain(value_of(dataset, 'PixelSpacing'))}; it must be above 0 mm")
    slope, intercept = _rescale(dataset, stored_values)
    return Header(
        name=name_of(dataset),
        uid=uid,
        shape=(rows, columns),
        pixel_mm=(pixel_mm[0], pixel_mm[1]),
        one=one | {"size": f"{columns}×{rows} px", "PixelSpacing": f"{pixel_mm[0]:.6g}\\{pixel_mm[1]:.6g}"},
        orientation=_orientation(dataset),
        position_mm=np.asarray(numbers_of(dataset, "ImagePositionPatient", 3)),
        bits=bits,
        signed=whole_of(dataset, "PixelRepresentation", (0, 1)) == 1,
        slope=slope,
        intercept=intercept,
        number=_number(dataset),
        step_mm=_step(dataset),
    )


def _number(dataset: Dataset) -> int | None:
    try:
        return int(numbers_of(dataset, "InstanceNumber", 1)[0])
    except InputError:  # it is asked for where nothing depends on it alone
        return None


def _step(dataset: Dataset) -> float | None:
    for keyword in ("SpacingBetweenSlices", "SliceThickness"):
        try:
            step = numbers_of(dataset, keyword, 1)[0]
        except InputError:  # likewise
            continue
        if step > 0:
            return step
    return None


def _check_pixels(dataset: Dataset) -> None:
    """See that an image is one grey slice, and that its pixels can be decoded here."""
    kind = value_of(dataset, "PhotometricInterpretation")
    if kind != "MONOCHROME2" or whole_of(dataset, "SamplesPerPixel", (1, 3), 1) != 1:
        found = "no PhotometricInterpretation" if kind is None else f"PhotometricInterpretation {plain(kind)}"
        raise InputError(f"it has {found}, a scan is grey (MONOCHROME2); give the series of the scan itself")
    if whole_of(dataset, "NumberOfFrames", range(1, 1 << 31), 1) != 1 or "PerFrameFunctionalGroupsSequence" in dataset:
        raise InputError(
            "it is a multi-frame object; only one slice per file can be read, so convert it (dcm2niix makes a NIfTI,"
            " emf2sf of dcm4che single frames)"
        )
    syntax = transfer_syntax(dataset)
    if syntax is not None and not decodable(syntax):
        raise InputError(
            f"its pixels are compressed as {plain(UID(syntax).name)} ({plain(syntax)}), which cannot be decoded here;"
            " have them sent uncompressed (Explicit VR Little Endian), decompress them (dcmdjpeg, dcmdjpls of dcmtk) or"
            " pip install python-gdcm"
        )


def _rescale(dataset: Dataset, stored_values: bool) -> tuple[float, float]:
    if value_of(dataset, "ModalityLUTSequence") is not None:
        raise InputError("it has a ModalityLUTSequence; only RescaleSlope and RescaleIntercept can be read")
    given = [value_of(dataset, keyword) is not None for keyword in ("RescaleSlope", "RescaleIntercept")]
    if stored_values and not any(given):
        return 1.0, 0.0
    for keyword, there in zip(("RescaleSlope", "RescaleIntercept"), given, strict=True):
        if not there:
            raise InputError(f"{keyword} is missing, so what its values mean is unknown; add it (dcmodify -i)")
    slope, intercept = numbers_of(dataset, "RescaleSlope", 1)[0], numbers_of(dataset, "RescaleIntercept", 1)[0]
    if slope == 0 or max(abs(slope), abs(intercept)) > 1e9:
        raise InputError(f"RescaleSlope is {slope:g} and RescaleIntercept {intercept:g}; these cannot be meant")
    return slope, intercept


def _orientation(dataset: Dataset) -> np.ndarray:
    axes = np.asarray(numbers_of(dataset, "ImageOrientationPatient", 6)).reshape(2, 3)
    if not np.allclose(axes @ axes.T, np.eye(2), atol=UPRIGHT):
        found = plain(value_of(dataset, "ImageOrientationPatient"))
        raise InputError(f"ImageOrientationPatient is {found}; it must be two unit vectors at a right angle")
    return axes
