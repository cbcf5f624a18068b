"""Folders as they are met: slices without preambles, what macOS leaves, objects that are no slices, rounded places."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom import Dataset
from pydicom.uid import (
    BasicTextSRStorage,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEGLosslessSV1,
    SecondaryCaptureImageStorage,
)

from bundle.common.errors import InputError
from bundle.images.dicom.source import open_folder, ordered
from bundle.images.volumes.volume import open_volume
from tests.conftest import ROOT
from tests.hospital.series import SHAPE, at, ct_series, ct_slice, each_slice, put, save, values

CASES = ROOT.parent / "shared" / "cases" / "dicom"
SCAN = values().astype(int) - 1024


def bare(dataset: Dataset, meta: bool, syntax: str) -> Dataset:
    """The same slice without a preamble, and without a word of how it is encoded if it has no meta."""
    dataset.preamble, dataset.file_meta.TransferSyntaxUID = None, syntax
    if syntax == ExplicitVRBigEndian:
        dataset.PixelData = np.frombuffer(dataset.PixelData, "<u2").astype(">u2").tobytes()
    if not meta:
        del dataset.file_meta
    return dataset


@pytest.mark.parametrize(
    ("meta", "syntax"),
    [
        *((True, ExplicitVRLittleEndian), (True, ImplicitVRLittleEndian)),
        *((False, ExplicitVRLittleEndian), (False, ImplicitVRLittleEndian), (False, ExplicitVRBigEndian)),
    ],
)
@pytest.mark.parametrize("suffix", [".dcm", ""])
def test_slices_without_a_preamble_are_slices(meta: bool, syntax: str, suffix: str, tmp_path: Path) -> None:
    folder = save(tmp_path / "ct", ct_series())
    for path in sorted(folder.iterdir())[::2]:
        how = {"implicit_vr": syntax == ImplicitVRLittleEndian, "little_endian": syntax != ExplicitVRBigEndian}
        how = {} if meta else {**how, "force_encoding": True}
        pydicom.dcmwrite(path, bare(pydicom.dcmread(path), meta, syntax), **how)
        assert path.read_bytes()[128:132] != b"DICM"
        path.rename(path.with_suffix(suffix))
    np.testing.assert_array_equal(open_volume(folder).read(0, SHAPE[0]), SCAN)


def test_a_slice_without_a_preamble_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    folder = save(tmp_path / "ct", ct_series())
    path = folder / "02_1.dcm"
    rest = path.read_bytes()[132:]
    path.unlink()
    (folder / "IM02").write_bytes(rest[:-9])
    with pytest.raises(InputError, match=r"IM02 ends 9 bytes early"):
        open_folder(folder)
    packed = ct_slice(4, values()[4])
    packed.file_meta.TransferSyntaxUID = JPEGLosslessSV1
    packed.PixelData = pydicom.encaps.encapsulate([b"\xff\xd8 nothing says what this is \xff\xd9"])
    packed["PixelData"].VR = "OB"
    del packed.file_meta
    packed.save_as(folder / "IM02", implicit_vr=False, little_endian=True, enforce_file_format=False)
    with pytest.raises(InputError, match=r"IM02 has PixelData of .* bytes, 10×14 px of 16 bits need 280"):
        open_folder(folder)


def test_what_is_no_dicom_is_left_out_in_silence(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    folder = save(tmp_path / "ct", ct_series())
    for path in list(folder.iterdir()):
        (folder / f"._{path.name}").write_bytes(b"\0\5\x16\7\0\2\0\0Mac OS X" + bytes(100))
    (folder / "__MACOSX").mkdir()
    (folder / "__MACOSX" / "._00.dcm").write_bytes(b"\0\5\x16\7")
    (folder / ".DS_Store").write_bytes(b"\0\0\0\1Bud1")
    (folder / "notes").write_bytes(b"\x08\0 a file that begins with a backspace")
    (folder / "empty").write_bytes(b"")
    np.testing.assert_array_equal(open_folder(folder).read(0, SHAPE[0]), SCAN)
    assert capsys.readouterr() == ("", "")
    for path in folder.glob("0*"):  # of a scan whose own files were not copied nothing is left
        path.unlink()
    with pytest.raises(InputError, match="holds no DICOM images"):
        open_folder(folder)


def screen(dataset: Dataset) -> None:
    """A picture of the scanner's screen."""
    dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = SecondaryCaptureImageStorage
    for keyword in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "RescaleSlope"):
        delattr(dataset, keyword)


def report(dataset: Dataset) -> None:
    """A report, which has no pixels."""
    dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = BasicTextSRStorage
    dataset.Modality = "SR\x1b[2J"
    for keyword in ("Rows", "Columns", "PixelData", "ImagePositionPatient"):
        delattr(dataset, keyword)


def localizer(dataset: Dataset) -> None:
    """A projection to plan the scan in."""
    dataset.ImageType = ["ORIGINAL", "PRIMARY", "LOCALIZER"]
    dataset.ImageOrientationPatient = [1, 0, 0, 0, 0, -1]


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (screen, "Secondary Capture Image Storage, CT"),
        (report, "Basic Text SR Storage, SR?[2J"),
        (localizer, "localizer"),
    ],
)
def test_an_object_of_another_kind_is_left_out_and_said_in_a_line(
    spoil: Callable[[Dataset], None], said: str, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    slices = ct_series()
    stray = ct_slice(40, values()[0])
    with pydicom.config.disable_value_validation():
        spoil(stray)
        folder = save(tmp_path / "ct", [*slices, stray])
    source = open_folder(folder)
    np.testing.assert_array_equal(source.read(0, SHAPE[0]), SCAN)
    told = capsys.readouterr().err
    assert told.count("\n") == 1
    assert all(each in told for each in ("left out 06_1.dcm", said, "its 6 slices are CT Image Storage"))
    assert "\x1b" not in told


def test_where_no_kind_is_more_than_half_nothing_is_left_out(tmp_path: Path) -> None:
    slices = ct_series()
    for each in slices[:3]:
        screen(each)
    with pytest.raises(InputError, match="and 2 more of 6 slices: PixelSpacing is missing"):
        open_folder(save(tmp_path / "ct", slices))


def rounded(digits: int, step: float, count: int = 12, numbers: Callable[[int], int] = lambda z: z) -> list[Dataset]:
    """Slices whose positions are written with so many digits, in an order that is not theirs."""
    many = []
    for z in range(count):
        each = ct_slice(z, np.full((4, 4), z, np.uint16))
        each.ImageOrientationPatient, each.InstanceNumber = [1, 0, 0, 0, 1, 0], numbers(z)
        each.ImagePositionPatient = ["1.5", "2.5", f"{7 + step * z:.{digits}f}"]
        each.SliceThickness, each.PixelSpacing = step, [step, step]
        many.append(each)
    return [many[5 * z % count] for z in range(count)]


@pytest.mark.parametrize("numbers", [lambda z: z + 3, lambda z: 90 - z], ids=["rising", "falling"])
@pytest.mark.parametrize(("digits", "step"), [(2, 0.005), (3, 0.0015), (2, 0.0127), (3, 0.0065)])
def test_rounded_positions_are_accepted_in_the_order_of_their_numbers(
    digits: int, step: float, numbers: Callable[[int], int]
) -> None:
    source = ordered(rounded(digits, step, numbers=numbers))
    assert source.spacing_mm == (step,) * 3
    np.testing.assert_array_equal(source.read(0, 12)[:, 0, 0] + 1024, np.arange(12))


def without_one(slices: list[Dataset]) -> None:
    slices.remove(next(each for each in slices if each.InstanceNumber == 6))


@pytest.mark.parametrize(
    "spoil",
    [
        without_one,
        each_slice(put("InstanceNumber", 1)),
        each_slice(put("InstanceNumber", None)),
        each_slice(put("SliceThickness", None)),
        each_slice(put("SliceThickness", 0.006)),
        each_slice(put("SpacingBetweenSlices", 0.004)),
    ],
    ids=["one missing", "one number", "no number", "no thickness", "another thickness", "another spacing"],
)
def test_rounded_positions_without_what_makes_up_for_them_are_refused(spoil: Callable[[list[Dataset]], None]) -> None:
    slices = rounded(2, 0.005)
    spoil(slices)
    with pytest.raises(InputError, match="two slices at one position"):
        ordered(slices)


def test_a_gap_is_no_rounding() -> None:
    slices = rounded(2, 0.01)
    without_one(slices)
    for number, each in enumerate(sorted(slices, key=lambda each: each.InstanceNumber)):
        each.InstanceNumber = number
    with pytest.raises(InputError, match="lacks 1 slice"):
        ordered(slices)
    shifted = ct_series()
    at(3, shifted).ImagePositionPatient = [0, 0, 101.9]
    with pytest.raises(InputError):
        ordered(shifted)


@pytest.mark.skipif(not CASES.is_dir(), reason="NOT TESTED: ../shared is not here")
@pytest.mark.parametrize("case", ["d07_last_slice_no_preamble", "d07b_two_no_preamble", "d08_appledouble"])
@pytest.mark.parametrize("other", ["d20_positions_rounded", "d25_screen_in_series"])
def test_series_as_they_were_met_are_the_same_scan(case: str, other: str) -> None:
    scans = [open_volume(CASES / each) for each in (case, other)]
    np.testing.assert_array_equal(*(each.read(0, 10) for each in scans))
