"""A series of a PACS as files of a folder, each whole or not there, under names that no tag has a say in."""

from __future__ import annotations

import hashlib
import io
import struct
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import BinaryIO

from pydicom import Dataset, dcmread
from pydicom.uid import UID
from pydicom.valuerep import EXPLICIT_VR_LENGTH_32

from bundle.common.atomic import settle, whole_file
from bundle.common.errors import InputError
from bundle.hospital.pacs.audit import Audit
from bundle.hospital.pacs.faults import Patience, UnreachableError, persistently, then_again
from bundle.hospital.pacs.series import Pacs, Series
from bundle.images.dicom.words import plain

DEFLATED = "1.2.840.10008.1.2.1.99"
HEAD = 1 << 16  # bytes: of a preamble and the meta information, which has a few hundred
SYNTAX = 0x0010  # element of group 2: the transfer syntax
DELIMITER = b"\xfe\xff\xdd\xe0"  # that ends compressed pixel data


def name_of(uid: str) -> str:
    """The name of an object's file."""
    return hashlib.sha256(uid.encode()).hexdigest()[:32] + ".dcm"


def fetch_series(
    pacs: Pacs,
    patience: Patience,
    series: Series,
    sop_uids: Sequence[str],
    folder: Path,
    audit: Audit,
    heed_stop: Callable[[], None] = lambda: None,
) -> None:
    """Fetch what of a series is not yet there, whole.

    Args:
        pacs: has it.
        patience: with it.
        series: which.
        sop_uids: its objects.
        folder: of the files; anything else in it is removed, as it would be taken for a part of the series.
        audit: is told of each object.
        heed_stop: raises where the work is to end; called between objects.

    Raises:
        UnreachableError: if some could not be had; those that came stay.
        PacsError: likewise, where another try would not help.
    """
    folder.mkdir(parents=True, exist_ok=True)
    paths = {sop_uid: folder / name_of(sop_uid) for sop_uid in sop_uids}
    for stray in set(folder.iterdir()) - set(paths.values()):
        stray.unlink()
    missing = [sop_uid for sop_uid in sop_uids if not _is_there(paths[sop_uid], series, sop_uid)]

    def keep(sop_uid: str, content: bytes) -> None:
        fault = object_fault(io.BytesIO(content), len(content), series, sop_uid)
        if fault:
            raise UnreachableError(f"{pacs.peer} sent {fault}")
        with whole_file(paths[sop_uid]) as partial:
            partial.write_bytes(content)
        sha256 = hashlib.sha256(content).hexdigest()
        audit.line("fetched", series.study_uid, series.series_uid, sop_uid, len(content), sha256)
        missing.remove(sop_uid)
        heed_stop()

    def go_on() -> None:
        if missing:
            pacs.fetch(series.study_uid, series.series_uid, list(missing), keep)

    try:
        persistently(go_on, patience, lambda: len(missing))
    except InputError as error:
        audit.line("failed", series.study_uid, series.series_uid, status=str(error))
        have = len(sop_uids) - len(missing)
        raise type(error)(
            f"{error} {have} of {len(sop_uids)} objects are fetched; {then_again(error)} fetches the rest."
        ) from error
    settle(folder)


def object_fault(file: BinaryIO, size: int, series: Series, sop_uid: str) -> str | None:
    """What is wrong with an object that was asked for: it is another, or part of it is missing.

    Args:
        file: the object.
        size: its bytes.
        series: it should be of.
        sop_uid: it should have.

    Returns:
        One line; None if it is whole.
    """
    try:
        if syntax_of(file.read(HEAD)) == DEFLATED:  # never asked for: a few bytes may unpack to more than the memory
            return f"object {sop_uid} deflated, which cannot be read here; have it sent uncompressed."
        file.seek(0)
        head = dcmread(file, stop_before_pixels=True)
        found = (str(head.SOPInstanceUID), str(head.SeriesInstanceUID), str(head.StudyInstanceUID))
        start = file.tell()
        lacking = _bytes_lacking(head, file, size - start)
    except Exception as error:  # pydicom raises a dozen kinds for what is no DICOM
        return f"something for object {sop_uid} that is no DICOM ({type(error).__name__})."
    if found != (sop_uid, series.series_uid, series.study_uid):
        return f"another object than {sop_uid}: {plain(found[0])} of series {plain(found[1])}."
    return f"object {sop_uid} cut short." if lacking else None


def syntax_of(content: bytes) -> str | None:
    """The transfer syntax of a file that begins so, read as pydicom does, the last of several; None if it has none.

    Raises:
        ValueError: if its meta information is not explicit, of stated lengths, and all there.
    """
    found, place = None, 132
    while content[place : place + 2] == b"\2\0":
        try:
            element, vr, length = struct.unpack_from("<2xH2sH", content, place)
            if not (vr.isalpha() and vr.isupper()):
                raise ValueError("meta information in implicit VR")
            place += 8
            if vr.decode() in EXPLICIT_VR_LENGTH_32:
                length = struct.unpack_from("<I", content, place)[0]
                place += 4
        except struct.error as error:
            raise ValueError("meta information cut short") from error
        if place + length > len(content):
            raise ValueError("meta information cut short, or of unknown length")
        if element == SYNTAX:
            found = content[place : place + length].decode("ascii", "replace").strip("\0 ")
        place += length
    return found


def _is_there(path: Path, series: Series, sop_uid: str) -> bool:
    """Whether a file of an earlier attempt is whole; a power cut may leave one that is not."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return object_fault(file, path.stat().st_size, series, sop_uid) is None


def _bytes_lacking(head: Dataset, file: BinaryIO, rest: int) -> bool:
    """Whether pixel data ends before its end."""
    syntax = UID(head.file_meta.TransferSyntaxUID)
    if syntax.is_encapsulated:
        file.seek(max(0, rest - 1024), io.SEEK_CUR)  # the delimiter is the last, or before a few trailing attributes
        return DELIMITER not in file.read()
    if syntax == "1.2.840.10008.1.2.1.99":  # deflated: the reader has failed already if it was cut short
        return False
    frames = int(head.get("NumberOfFrames") or 1)
    bits = int(head.get("BitsAllocated") or 0) * int(head.get("SamplesPerPixel") or 1)
    return rest < int(head.get("Rows") or 0) * int(head.get("Columns") or 0) * frames * bits // 8
