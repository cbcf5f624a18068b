"""Small CT series as a scanner might send them, written by pydicom itself, and what is done to spoil them."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

from bundle.hospital.objects.made import Made

SHAPE = (6, 14, 10)  # Z, Y, X
ROOT = "1.2.826.0.1.3680043.8.498.77"
ROW, COLUMN = (0.8, 0.6, 0.0), (-0.6, 0.8, 0.0)  # an oblique scan: exact in a few digits
ORIGIN, PIXEL_MM, STEP_MM = (-12.5, 3.25, 100.0), (0.25, 0.5), 0.75  # PIXEL_MM: rows apart, columns apart
MADE = Made("Virtual staining", "0.1.0", "ab" * 32, {"speed": "stock", "window": 64}, "0123456789ab")


def values(seed: int = 3) -> np.ndarray:
    """Stored values of a scan, (Z, Y, X), of 12 bits."""
    return np.random.default_rng(seed).integers(0, 4096, SHAPE, dtype=np.uint16)


def ct_slice(number: int, stored: np.ndarray, series: str = "1") -> Dataset:
    """Slice ``number`` of a scan whose values are stored + intercept."""
    new = Dataset()
    new.file_meta = FileMetaDataset()
    new.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    new.SOPClassUID = CTImageStorage
    new.SOPInstanceUID = f"{ROOT}.{series}.{number + 1}"
    new.file_meta.MediaStorageSOPClassUID, new.file_meta.MediaStorageSOPInstanceUID = CTImageStorage, new.SOPInstanceUID
    new.StudyInstanceUID, new.SeriesInstanceUID = f"{ROOT}.9", f"{ROOT}.{series}"
    new.FrameOfReferenceUID = f"{ROOT}.8"
    new.SpecificCharacterSet = "ISO_IR 100"
    new.PatientName, new.PatientID, new.PatientBirthDate, new.PatientSex = "Müller^Ratte", "R-07", "19700101", "O"
    new.StudyID, new.AccessionNumber, new.ReferringPhysicianName = "S1", "A1", ""
    new.StudyDate, new.StudyTime, new.Modality, new.SeriesNumber = "20260102", "030405", "CT", 4
    new.InstitutionName, new.OperatorsName, new.StationName = "Secret Hospital", "Secret^Operator", "SECRET1"
    new.PatientComments = "Secret comment"
    new.BodyPartExamined = "SKULL"
    block = new.private_block(0x0099, "SECRET VENDOR", create=True)
    block.add_new(1, "LO", "Secret value")
    new.InstanceNumber = number + 1
    normal = np.cross(ROW, COLUMN)
    new.ImagePositionPatient = [f"{place:.10g}" for place in np.asarray(ORIGIN) + normal * STEP_MM * number]
    new.ImageOrientationPatient = [*ROW, *COLUMN]
    new.PixelSpacing, new.SliceThickness = list(PIXEL_MM), STEP_MM
    new.Rows, new.Columns = stored.shape
    new.SamplesPerPixel, new.PhotometricInterpretation = 1, "MONOCHROME2"
    new.BitsAllocated, new.BitsStored, new.HighBit, new.PixelRepresentation = 16, 12, 11, 0
    new.RescaleSlope, new.RescaleIntercept = 1, -1024
    new.PixelData = stored.tobytes()
    return new


def ct_series(series: str = "1") -> list[Dataset]:
    """All slices, in an order that is not theirs."""
    slices = [ct_slice(number, stored, series) for number, stored in enumerate(values())]
    return [slices[place] for place in (3, 0, 5, 1, 4, 2)]


def save(folder: Path, slices: list[Dataset]) -> Path:
    """Write slices as files of a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, each in enumerate(slices):
        each.save_as(folder / f"{number:02d}_{each.SeriesInstanceUID[-1]}.dcm", enforce_file_format=True)
    return folder


def at(number: int, slices: list[Dataset]) -> Dataset:
    """The slice that lies in place ``number`` along the normal."""
    return next(each for each in slices if each.SOPInstanceUID.endswith(f".{number + 1}"))


def each_slice(change: Callable[[Dataset], object]) -> Callable[[list[Dataset]], None]:
    """A change of all slices of a series."""

    def spoil(slices: list[Dataset]) -> None:
        for each in slices:
            change(each)

    return spoil


def stain_of(scan: np.ndarray) -> np.ndarray:
    """A picture (Z, Y, X, 3) uint8 that differs in each voxel and channel."""
    return np.stack([scan % 256, scan % 251, scan % 241], axis=-1).astype(np.uint8)


def put(keyword: str, value: object) -> Callable[[Dataset], None]:
    """A change of one tag; None removes it."""

    def change(dataset: Dataset) -> None:
        if value is None:
            delattr(dataset, keyword)
        else:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                setattr(dataset, keyword, value)

    return change
