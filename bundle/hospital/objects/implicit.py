"""A file of ours in implicit VR, for a PACS that takes nothing else; DICOM asks every one of them to take that."""

from __future__ import annotations

import shutil
import struct
from pathlib import Path

from pydicom import Dataset, dcmread
from pydicom.filebase import DicomFileLike
from pydicom.filewriter import write_dataset, write_file_meta_info
from pydicom.uid import ImplicitVRLittleEndian

from bundle.images.dicom.tags import quietly
from bundle.images.dicom.verbatim import CHARACTERS, TEXT, Undecoded


def write_implicit(source: Path, target: Path) -> None:
    """Write a file that :func:`bundle.hospital.objects.files.write_file` made again, its pixels as they lie.

    Args:
        source: the file.
        target: where to.
    """
    with source.open("rb") as file, target.open("wb") as written, quietly():
        dataset = dcmread(file, stop_before_pixels=True)
        keep_text(dataset)
        output = DicomFileLike(written)
        output.is_little_endian, output.is_implicit_VR = True, True
        output.write(bytes(128) + b"DICM")
        dataset.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
        write_file_meta_info(output, dataset.file_meta)
        write_dataset(output, dataset)
        element, length = struct.unpack("<4s4xI", file.read(12))
        written.write(struct.pack("<4sI", element, length))
        shutil.copyfileobj(file, written)


def keep_text(dataset: Dataset) -> None:
    """Have all text of a dataset written as the bytes that it was read as."""
    for tag in list(dataset.keys()):
        element = dataset.get_item(tag)
        if element.VR == "SQ":
            for item in dataset[tag].value:
                keep_text(item)
        elif element.is_raw and element.VR in TEXT and element.tag != CHARACTERS:
            dataset[tag] = Undecoded(element.tag, element.VR, element.value or b"")
