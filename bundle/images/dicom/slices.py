"""The file of one slice: its header read without its pixels, its pixels decoded."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pydicom
from pydicom import Dataset
from pydicom.datadict import dictionary_has_tag
from pydicom.uid import UID

from bundle.common.errors import InputError
from bundle.images.dicom.tags import quietly, value_of
from bundle.images.dicom.words import plain, printable

UNCOMPRESSED = ("1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.1.99", "1.2.840.10008.1.2.2")
DEFLATED = "1.2.840.10008.1.2.1.99"
BIG_ENDIAN = "1.2.840.10008.1.2.2"
IMPLICIT = "1.2.840.10008.1.2"
UNKNOWN_LENGTH = 0xFFFFFFFF
REPRESENTATIONS = (b"UL", b"UI", b"CS", b"DA", b"TM", b"DT", b"SH", b"LO", b"OB", b"UN")  # of what a file begins with
LONGEST_FIRST = 1024  # bytes of a first element: types of image and UIDs are shorter, a text file's letters say more


def begins_as_dicom(head: bytes) -> bool:
    """Whether a file that begins so, with 132 bytes or all that it has, is DICOM."""
    return head[128:132] == b"DICM" or is_bare(head)


def is_bare(head: bytes) -> bool:
    """Whether a file begins with a data set and not with a preamble: older archives and some exporters leave it out.

    It begins with an element of group 2 or 8 that the standard knows, and then a representation or a short length.
    """
    if len(head) < 8 or head[:2] not in (b"\2\0", b"\x08\0", b"\0\x08"):
        return False
    order = ">" if head[:1] == b"\0" else "<"
    group, element = struct.unpack(order + "HH", head[:4])
    known = element == 0 or dictionary_has_tag((group, element))
    explicit = head[4:6] in REPRESENTATIONS
    return known and (explicit or (order == "<" and struct.unpack("<I", head[4:8])[0] <= LONGEST_FIRST))


def read_file(path: Path) -> Dataset:
    """A file's header, without its pixels, after a look whether they are all there.

    Raises:
        InputError: if it is truncated or corrupt.
    """
    with quietly():
        try:
            with path.open("rb") as file:
                dataset = _read(file, stop_before_pixels=True)
                dataset.filename = str(path)
                if "Rows" in dataset:
                    _check_length(dataset, file.read(12), path.stat().st_size - file.tell())
        except InputError:
            raise
        except Exception as error:  # pydicom raises a dozen kinds for a broken file
            raise InputError(
                f"{printable(path)} cannot be read, it may be truncated or corrupt: {plain(error)}"
            ) from error
    return dataset


def read_whole(path: Path) -> Dataset:
    """A file with its pixels; pydicom raises a dozen kinds for a broken one."""
    with quietly(), path.open("rb") as file:
        return _read(file, stop_before_pixels=False)


def _read(file: BinaryIO, stop_before_pixels: bool) -> Dataset:
    """A file as pydicom reads it; one without a preamble is uncompressed if it does not say how it is encoded."""
    bare = is_bare(file.read(132))
    file.seek(0)
    dataset = pydicom.dcmread(file, stop_before_pixels=stop_before_pixels, force=bare)
    if bare and "TransferSyntaxUID" not in dataset.file_meta:
        explicit = UNCOMPRESSED[1] if dataset.is_little_endian else BIG_ENDIAN
        dataset.file_meta.TransferSyntaxUID = UID(IMPLICIT if dataset.is_implicit_VR else explicit)
    return dataset


def _check_length(dataset: Dataset, head: bytes, rest: int) -> None:
    """Compare what PixelData says of its length with what it must be, and with what the file has left."""
    syntax = transfer_syntax(dataset)
    if syntax == DEFLATED:
        return
    order = ">" if syntax == BIG_ENDIAN else "<"
    name = printable(dataset.filename)
    if len(head) < 12 or struct.unpack(order + "HH", head[:4]) != (0x7FE0, 0x0010):
        raise InputError(f"{name} has no pixels, it may be truncated; copy it from where it was made again.")
    length = struct.unpack(order + "I", head[4:8] if syntax == IMPLICIT else head[8:12])[0]
    rest += 4 if syntax == IMPLICIT else 0
    if syntax not in UNCOMPRESSED:
        return
    sizes = [value_of(dataset, keyword) for keyword in ("Rows", "Columns", "BitsAllocated")]
    if not all(isinstance(each, int) for each in sizes):
        return  # said by the check of the header
    frames = value_of(dataset, "NumberOfFrames") or 1
    samples = value_of(dataset, "SamplesPerPixel") or 1
    needed = int(np.prod([int(each) for each in sizes], dtype=object)) // 8 * int(samples) * int(frames)
    if length == UNKNOWN_LENGTH or length < needed:
        said = f"PixelData of {length} bytes, {sizes[1]}×{sizes[0]} px of {sizes[2]} bits need {needed}"
        raise InputError(f"{name} has {said}; export it again from where it was made.")
    if rest < length:
        raise InputError(f"{name} ends {length - rest} bytes early, it is truncated; copy it again.")


def transfer_syntax(dataset: Dataset) -> str | None:
    """How a dataset's pixels are encoded; None if nothing says so, as for a header that came as JSON."""
    meta = getattr(dataset, "file_meta", None)
    return None if meta is None else value_of(meta, "TransferSyntaxUID")


def decodable(syntax: str) -> bool:
    """Whether pixels of a transfer syntax can be decoded with what is installed."""
    if syntax in UNCOMPRESSED:
        return True
    try:
        from pydicom.pixels import get_decoder  # of pydicom 3
    except ImportError:
        handlers: list[Any] = pydicom.config.pixel_data_handlers  # type: ignore[assignment]
        return any(each.is_available() and each.supports_transfer_syntax(UID(syntax)) for each in handlers)
    try:
        return get_decoder(UID(syntax)).is_available
    except NotImplementedError:
        return False


def decoded(dataset: Dataset, name: str, shape: tuple[int, int], bits: tuple[int, int]) -> np.ndarray:
    """Stored values (Y, X) of a slice, freed of what else lies in their unused bits.

    Args:
        dataset: the slice, with its pixels.
        name: of the slice, for messages.
        shape: (Y, X) that its header stated when it was checked.
        bits: likewise, BitsAllocated and BitsStored.

    Raises:
        InputError: if they cannot be decoded.
    """
    with quietly():
        try:
            stored = dataset.pixel_array
        except Exception as error:  # pydicom raises a dozen kinds for broken pixels
            raise InputError(f"{name}: its pixels cannot be decoded: {plain(error)}") from error
    if stored.shape != shape or stored.dtype.itemsize * 8 != bits[0]:
        found = "×".join(map(str, stored.shape[::-1]))
        raise InputError(f"{name}: its pixels are {found} px of {stored.dtype}, its header says otherwise.")
    unused = bits[0] - bits[1]
    return stored if unused == 0 else np.right_shift(np.left_shift(stored, unused), unused)
