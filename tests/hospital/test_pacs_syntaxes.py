"""Objects in transfer syntaxes that a PACS, or we, cannot do without or do not know."""

from __future__ import annotations

import shutil
import struct
import subprocess
from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEGLosslessSV1,
)

from bundle.common.errors import InputError
from bundle.hospital.objects.colour import write_frames
from bundle.hospital.pacs.client import connect
from bundle.hospital.pacs.faults import UnreachableError
from bundle.hospital.pacs.fetching import fetch_series, syntax_of
from bundle.hospital.pacs.series import get_series, instance_list
from bundle.hospital.pacs.syntaxes import PACKED_SYNTAXES, packed_syntaxes
from bundle.images.dicom.slices import decodable
from bundle.images.dicom.source import open_folder
from tests.hospital.conftest import needs
from tests.hospital.pacs_parts import QUICK, SERIES, SHAPE, colours, desk, make_ct, wanted
from tests.hospital.poor_web import Fault, PoorWeb
from tests.hospital.series import MADE
from tests.hospital.small_pacs import SmallPacs

pytestmark = pytest.mark.usefixtures("credentials")
NAME = "王^小东东".encode("gbk")


@pytest.mark.parametrize("syntaxes", [[ImplicitVRLittleEndian], [ImplicitVRLittleEndian, ExplicitVRLittleEndian]])
def test_a_pacs_that_takes_implicit_vr_alone_gets_it(syntaxes: list[str], tmp_path: Path) -> None:
    for path in make_ct(tmp_path / "ct", PatientName="?" * len(NAME)):
        path.write_bytes(path.read_bytes().replace(b"?" * len(NAME), NAME))
    source = open_folder(tmp_path / "ct")
    stain = colours(source.read(0, SHAPE[0]))
    folder = tmp_path / "job" / "made"
    folder.mkdir(parents=True)
    files = write_frames(folder, source, lambda start, stop: stain[start:stop], MADE, limit_bytes=stain.nbytes // 2)
    small = SmallPacs()
    small.syntaxes = syntaxes
    told: list[Path] = []
    with small:
        connect(small.address, QUICK).store(files, lambda path, _: told.append(path))
    assert told == files
    assert [path.name for path in folder.parent.iterdir()] == ["made"]
    for file in files:
        ours = dcmread(file)
        theirs = small.held[str(ours.SOPInstanceUID)]
        assert theirs.file_meta.TransferSyntaxUID == syntaxes[-1]
        assert theirs.get_item("PatientName").value == NAME + b" " * (len(NAME) % 2)
        for one, other in zip(theirs.iterall(), ours.iterall(), strict=True):  # in sequences too
            assert (one.tag, one.VM, one.VR == "SQ" or one.value == other.value) == (other.tag, other.VM, True)


def pack(paths: list[Path]) -> None:
    """Compress files as lossless JPEG, with another's program."""
    needs("dcmtk")
    program = Path(str(shutil.which("dcmdump"))).with_name("dcmcjpeg")
    for path in paths:
        subprocess.run([program, "+e1", path, path], check=True, capture_output=True)
        assert dcmread(path, stop_before_pixels=True).file_meta.TransferSyntaxUID == JPEGLosslessSV1


@pytest.mark.parametrize("by", ["web", "dimse"])
def test_what_is_packed_as_we_cannot_unpack_comes_unpacked(by: str, orthanc, bundle: Path, tmp_path: Path) -> None:
    files = make_ct(tmp_path / "ct")
    scan = open_folder(tmp_path / "ct").read(0, SHAPE[0])
    pack(files)
    orthanc.upload(*files)
    orthanc.request("/modalities/ours", b'{"AET": "VSTAIN", "Host": "127.0.0.1", "Port": 104}', "PUT")
    address = orthanc.web if by == "web" else f"dicom://{orthanc.aet}@127.0.0.1:{orthanc.dicom_port}"
    there = desk(address, tmp_path / "work")
    series = get_series(there.pacs, QUICK, SERIES)
    objects = list(instance_list(there.pacs, QUICK, series.study_uid, SERIES))
    (tmp_path / "work").mkdir()
    fetch_series(there.pacs, QUICK, series, objects, tmp_path / "came", there.audit(wanted(bundle)))
    np.testing.assert_array_equal(open_folder(tmp_path / "came").read(0, SHAPE[0]), scan)


def test_only_what_can_be_unpacked_here_is_offered() -> None:
    assert set(packed_syntaxes()) == {each for each in PACKED_SYNTAXES if decodable(each)}
    assert DeflatedExplicitVRLittleEndian not in PACKED_SYNTAXES


def test_lossless_jpeg_in_a_folder_is_read_or_says_what_reads_it(tmp_path: Path) -> None:
    files = make_ct(tmp_path / "ct")
    scan = open_folder(tmp_path / "ct").read(0, SHAPE[0])
    pack(files)
    if decodable(JPEGLosslessSV1):
        np.testing.assert_array_equal(open_folder(tmp_path / "ct").read(0, SHAPE[0]), scan)
        return
    with pytest.raises(InputError, match=r"JPEG Lossless.*cannot be decoded here.*pip install python-gdcm"):
        open_folder(tmp_path / "ct")


def meta(*elements: tuple[int, bytes, bytes]) -> bytes:
    """A file with these elements of group 2: number, representation, value."""
    parts = []
    for number, vr, value in elements:
        long = vr in (b"OB", b"UN")
        parts.append(struct.pack("<HH2s", 2, number, vr) + (b"\0\0" if long else b""))
        parts.append(struct.pack("<I" if long else "<H", len(value)) + value)
    return bytes(128) + b"DICM" + b"".join(parts) + b"\x08\0"


PLAIN, DEFLATED = b"1.2.840.10008.1.2.1\0", b"1.2.840.10008.1.2.1.99"
FAKE = b"\2\0\x10\0UI\x14\0" + PLAIN


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (meta((0x10, b"UI", PLAIN)), PLAIN),
        (meta((0x01, b"OB", FAKE), (0x10, b"UI", DEFLATED)), DEFLATED),  # within the bytes of another
        (meta((0x10, b"UI", PLAIN), (0x10, b"UI", DEFLATED)), DEFLATED),
        (meta((0x02, b"UI", b"1.2\0")), None),
        (b"", None),
    ],
)
def test_the_transfer_syntax_is_the_one_that_pydicom_goes_by(content: bytes, expected: bytes | None) -> None:
    assert syntax_of(content) == (None if expected is None else expected.decode().strip("\0"))


@pytest.mark.parametrize(
    "content",
    [
        meta((0x01, b"OB", bytes(9)))[:-6],
        meta((0x01, b"OB", b"")).replace(b"OB\0\0\0\0\0\0", b"OB\0\0\xff\xff\xff\xff"),
        meta((0x01, b"\4\0", b"")),
        meta()[:-2] + b"\2\0\x10",
    ],
    ids=["cut", "unknown length", "implicit", "in a tag"],
)
def test_meta_information_that_could_hide_it_is_no_dicom(content: bytes) -> None:
    with pytest.raises(ValueError, match="meta information"):
        syntax_of(content)


def test_a_deflated_object_is_not_unpacked(orthanc, bundle: Path, tmp_path: Path) -> None:
    files = make_ct(tmp_path / "ct", slices=2)
    orthanc.upload(*files)
    packed = dcmread(files[0])
    packed.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    packed.save_as(tmp_path / "deflated.dcm")
    body = b"--b\r\nContent-Type: application/dicom\r\n\r\n" + (tmp_path / "deflated.dcm").read_bytes() + b"\r\n--b--"
    with PoorWeb(orthanc.http) as poor:
        poor.faults = [Fault("GET", "/instances/", status=200, body=body)]
        there = desk(poor.web, tmp_path / "work")
        series = get_series(there.pacs, QUICK, SERIES)
        (tmp_path / "work").mkdir()
        audit = there.audit(wanted(bundle))
        with pytest.raises(UnreachableError, match="deflated, which cannot be read here"):
            fetch_series(there.pacs, QUICK, series, [str(packed.SOPInstanceUID)], tmp_path / "came", audit)
