"""A scan of any format as a CT series, to try out what takes one; who and what is in it is made up."""

from __future__ import annotations

import hashlib
import json
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from pydicom import Dataset

from bundle.common.atomic import whole_file
from bundle.common.errors import InputError
from bundle.hospital.objects.files import PIXELS, as_bytes, write_file
from bundle.images.dicom.headers import UPRIGHT
from bundle.images.dicom.marks import MANUFACTURER, decimals
from bundle.images.dicom.words import plain, uid_for

if TYPE_CHECKING:
    from bundle.images.volumes.volume import Volume

CT_IMAGE = "1.2.840.10008.5.1.4.1.1.2"
DESCRIPTION = "made from a file, to try things out"
MOMENT = "20000101", "120000"  # of the scan, made up: the same file gives the same series
PAIR = (np.dtype(np.uint16), np.dtype(np.int16))


def write_series(
    folder: Path, volume: Volume, patient_id: str | None = None, description: str = DESCRIPTION
) -> list[Path]:
    """Write a scan as a CT series, a file per slice, with its geometry and a made up patient and study.

    All UIDs follow from the scan's values, its place, ``patient_id`` and ``description``.

    Args:
        folder: where to; the files are named ``0001.dcm`` on, along z.
        volume: the scan; read twice.
        patient_id: of the patient; None makes one up.
        description: of the series.

    Returns:
        The files; all of them, or none if anything fails.

    Raises:
        InputError: if the values are not whole numbers of 16 bits, its axes are not at right angles, or an option
            does not fit its tag.
    """
    for name, text in (("patient_id", patient_id or ""), ("description", description)):
        if len(text) > 64 or "\\" in text or not text.isprintable():
            raise InputError(f"{name} is {plain(text)}; a tag takes 64 characters, without backslash.")
    direction = volume.geometry.direction
    if not np.allclose(direction.T @ direction, np.eye(3), atol=UPRIGHT):
        raise InputError(f"{volume.path} has axes that are not at right angles; resample it upright.")
    dtype, content = _content(volume, patient_id, description)
    common = _common(volume, content, patient_id or f"MADE-UP-{content[:8].hex().upper()}", description, dtype)
    z, y, x = (size / 1000 for size in volume.geometry.spacing_um)
    written = []
    with ExitStack() as whole:
        for number in range(1, volume.shape[0] + 1):
            new = Dataset()
            new.update(common)
            new.SOPInstanceUID = uid_for(content + json.dumps([number]).encode())
            new.InstanceNumber = number
            place = np.asarray(volume.geometry.origin_mm) + direction[:, 2] * z * (number - 1)
            new.ImagePositionPatient = decimals(np.round(place, 9))
            new.PixelSpacing = decimals((y, x))
            new.SliceThickness = decimals((z,))[0]
            path = folder / f"{number:04d}.dcm"
            pixels = volume.read(number - 1, number)[0].astype(dtype)
            partial = whole.enter_context(whole_file(path))
            write_file(partial, new, PIXELS, b"OW", pixels.nbytes, iter([as_bytes(pixels)]))
            written.append(path)
    return written


def _content(volume: Volume, patient_id: str | None, description: str) -> tuple[np.dtype, bytes]:
    """The type that holds a scan's values, and a digest of all its series will say."""
    if volume.dtype.kind not in "bui":
        raise InputError(f"{volume.path} holds {volume.dtype}; CT holds whole numbers of 16 bits, so convert it.")
    geometry = volume.geometry
    said = [geometry.spacing_um, geometry.origin_mm, geometry.direction.tolist(), patient_id, description]
    digest = hashlib.sha256(json.dumps(said).encode())
    least, most = 0, 0
    for number in range(volume.shape[0]):
        pixels = volume.read(number, number + 1)
        least, most = min(least, int(pixels.min())), max(most, int(pixels.max()))
        digest.update(as_bytes(pixels))
    for dtype in PAIR:
        if np.iinfo(dtype).min <= least and most <= np.iinfo(dtype).max:
            return dtype, digest.digest()
    raise InputError(f"{volume.path} has values of {least} to {most}; CT holds 16 bits, so rescale it.")


def _common(volume: Volume, content: bytes, patient_id: str, description: str, dtype: np.dtype) -> Dataset:
    """What all slices say."""
    new = Dataset()
    new.SpecificCharacterSet = "ISO_IR 192"
    new.SOPClassUID = CT_IMAGE
    new.StudyInstanceUID, new.SeriesInstanceUID, new.FrameOfReferenceUID = (
        uid_for(content + json.dumps([each]).encode()) for each in "abc"
    )
    new.PatientName, new.PatientID = "Made up^Not a patient", patient_id
    new.PatientBirthDate = new.PatientSex = new.ReferringPhysicianName = new.AccessionNumber = ""
    new.StudyDate = new.SeriesDate = new.AcquisitionDate = new.ContentDate = MOMENT[0]
    new.StudyTime = new.SeriesTime = new.AcquisitionTime = new.ContentTime = MOMENT[1]
    new.StudyID, new.StudyDescription = "1", "Made up, all identifiers too"
    new.SeriesNumber, new.SeriesDescription, new.Modality = 1, description, "CT"
    new.ImageLaterality = "U"  # a block is no left or right one
    new.Manufacturer, new.PatientPosition = MANUFACTURER, "HFS"
    new.ImageType = ["DERIVED", "SECONDARY", "AXIAL"]
    new.AcquisitionNumber, new.KVP, new.PositionReferenceIndicator = 1, None, ""
    new.ImageOrientationPatient = decimals(np.round(volume.geometry.direction[:, :2].T.ravel(), 9))
    new.SamplesPerPixel, new.PhotometricInterpretation = 1, "MONOCHROME2"
    new.Rows, new.Columns = volume.shape[1:]
    new.BitsAllocated, new.BitsStored, new.HighBit = 16, 16, 15
    new.PixelRepresentation = int(dtype.kind == "i")
    new.RescaleSlope, new.RescaleIntercept, new.RescaleType = 1, 0, "US"  # unspecified: not Hounsfield units
    return new
