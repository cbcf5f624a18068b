"""DICOM files as they are begun: preamble, what they are, and all tags before the pixels; by pydicom 2 and 3 alike."""

from __future__ import annotations

from typing import BinaryIO

from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.filebase import DicomFileLike
from pydicom.filewriter import write_dataset, write_file_meta_info
from pydicom.uid import UID

from bundle.images.dicom.tags import quietly
from bundle.images.dicom.verbatim import keep_ascii

IMPLEMENTATION = UID("2.25.221380158294116930218373406268823052841")  # drawn once: a UUID of version 4


def begin_file(file: BinaryIO, dataset: Dataset, syntax: str) -> None:
    """Write a dataset in explicit little endian; its pixels, which may follow, are the caller's.

    Args:
        file: empty.
        dataset: all before the pixels.
        syntax: UID of how these are encoded.
    """
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    meta.TransferSyntaxUID = UID(syntax)
    meta.ImplementationClassUID = IMPLEMENTATION
    meta.ImplementationVersionName = "VIRTUAL_STAINING"
    with quietly():  # a source's tags are copied as they are
        output = DicomFileLike(file)
        output.is_little_endian, output.is_implicit_VR = True, False
        output.write(bytes(128) + b"DICM")
        write_file_meta_info(output, meta)
        keep_ascii(dataset)
        write_dataset(output, dataset)
