"""What is wrong with a DICOM series: a line for each fault, and none of pydicom's."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from pydicom import Dataset

from bundle.common.errors import InputError
from bundle.images.dicom.folder import series_in
from bundle.images.dicom.source import open_folder, ordered
from bundle.images.volumes.volume import open_volume
from tests.hospital.series import SHAPE, at, ct_series, ct_slice, each_slice, put, save, values


def raw(keyword: str, content: bytes) -> Callable[[Dataset], None]:
    """A change of a tag to bytes that pydicom would not write by itself."""

    def change(dataset: Dataset) -> None:
        element = dataset[keyword]
        element.VR, element._value = "UN", content

    return change


def lose(*numbers: int) -> Callable[[list[Dataset]], None]:
    """Take slices out."""

    def spoil(slices: list[Dataset]) -> None:
        for number in numbers:
            slices.remove(at(number, slices))

    return spoil


def stretch(slices: list[Dataset]) -> None:
    """Put the upper slices further apart."""
    for number in (3, 4, 5):
        place = at(number, slices).ImagePositionPatient
        place[2] = float(place[2]) + (number - 2) * 0.4


def lean(slices: list[Dataset]) -> None:
    """Shift each slice along y beside the one below, as a tilted gantry does."""
    for number in range(SHAPE[0]):
        place = at(number, slices).ImagePositionPatient
        place[1] = float(place[1]) + 0.2 * number


def second_series(slices: list[Dataset]) -> None:
    """Add a slice of another series."""
    slices.append(ct_slice(7, values()[0], "2"))


def same_place(slices: list[Dataset]) -> None:
    """Put one slice where another is."""
    at(3, slices).ImagePositionPatient = at(2, slices).ImagePositionPatient


def coloured(dataset: Dataset) -> None:
    """Make a slice a colour picture."""
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation, dataset.PlanarConfiguration = 3, "RGB", 0


SPOILT: dict[str, tuple[Callable[[list[Dataset]], None], str]] = {
    "missing": (lose(2), r"lacks 1 slice between instance \S+\.2 \(-12.5, 3.25, 100.75 mm\) and instance \S+\.4 "),
    "missing two": (lose(2, 3), "lacks 2 slices between"),
    "uneven": (stretch, "slices 0.75 to 1.15 mm apart"),
    "tilted": (lean, "gantry tilt"),
    "two series": (second_series, r"SeriesInstanceUID is not the same in all slices"),
    "one slice": (lose(0, 1, 2, 3, 4), "has one slice"),
    "same place": (same_place, "two slices at one position"),
    "same UID": (
        lambda slices: put("SOPInstanceUID", slices[0].SOPInstanceUID)(slices[1]),
        "has the SOPInstanceUID of",
    ),
    "colour": (each_slice(coloured), "5 more of 6 slices: it has PhotometricInterpretation RGB, a scan is grey"),
    "frames": (each_slice(put("NumberOfFrames", 4)), "multi-frame"),
    "sizes": (lambda slices: put("Rows", 13)(slices[0]), "size is not the same in all slices: .*10×14 px"),
    "spacings": (lambda slices: put("PixelSpacing", [1, 1])(slices[0]), "PixelSpacing is not the same"),
    "turned": (
        lambda slices: put("ImageOrientationPatient", [1, 0, 0, 0, 0, -1])(slices[0]),
        "ImageOrientationPatient is not the same",
    ),
    "frames of reference": (
        lambda slices: put("FrameOfReferenceUID", "1.2.3")(slices[0]),
        "FrameOfReferenceUID is not",
    ),
    "no frame of reference": (each_slice(put("FrameOfReferenceUID", None)), "FrameOfReferenceUID is missing"),
    "patients": (
        lambda slices: put("PatientID", "R-08")(slices[0]),
        "PatientID is not the same in all slices: .*differ",
    ),
    "no rescale": (each_slice(put("RescaleIntercept", None)), "RescaleIntercept is missing"),
    "no place": (each_slice(put("ImagePositionPatient", None)), "ImagePositionPatient is missing"),
    "spacing 0": (each_slice(put("PixelSpacing", [0, 1])), "PixelSpacing is .*above 0"),
    "spacing NaN": (each_slice(raw("PixelSpacing", b"NaN\\1 ")), "PixelSpacing is .*2 finite numbers"),
    "place Inf": (each_slice(raw("ImagePositionPatient", b"1\\inf\\2 ")), "ImagePositionPatient .*3 finite numbers"),
    "slope words": (each_slice(raw("RescaleSlope", b"a lot ")), "RescaleSlope is .*a finite number"),
    "skew": (each_slice(put("ImageOrientationPatient", [1, 0, 0, 1, 0, 0])), "two unit vectors at a right angle"),
    "path for UID": (each_slice(put("StudyInstanceUID", "../../etc/passwd")), "StudyInstanceUID is .*no UID"),
    "line for UID": (
        each_slice(put("SOPInstanceUID", "1.2\r\n\x1b[2Jerror")),
        r"SOPInstanceUID is 1\.2\?\?\?\[2Jerror",
    ),
    "long UID": (each_slice(put("SeriesInstanceUID", "1." * 5000 + "1")), "…, which is no UID"),
    "bits": (each_slice(put("BitsStored", 99)), "BitsStored is 99"),
}


@pytest.mark.parametrize(("spoil", "said"), SPOILT.values(), ids=list(SPOILT))
def test_a_series_that_is_no_scan_is_refused_in_one_line(spoil: Callable[[list[Dataset]], None], said: str) -> None:
    slices = ct_series()
    spoil(slices)
    with pytest.raises(InputError, match=said) as fault:
        ordered(slices)
    lines = str(fault.value).split("\n")
    assert len(lines) == 1
    assert len(lines[0]) < 400
    assert all(letter.isprintable() for letter in lines[0])


def test_each_fault_has_a_line() -> None:
    slices = ct_series()
    del slices[0].RescaleSlope
    slices[1].PixelSpacing = [0, 0]
    with pytest.raises(InputError) as fault:
        ordered(slices)
    assert len(str(fault.value).split("\n")) == 2


@pytest.mark.parametrize(
    "size",
    [0, 60, 300, 900, -3],
    ids=["empty", "in its preamble", "before its header", "in its header", "in its pixels"],
)
def test_a_truncated_file_is_named(tmp_path: Path, size: int) -> None:
    folder = save(tmp_path / "ct", ct_series())
    path = folder / "02_1.dcm"
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(InputError, match=r"02_1\.dcm") as fault:
        open_folder(folder)
    assert "\n" not in str(fault.value)
    with pytest.raises(InputError, match=r"02_1\.dcm"):
        open_volume(folder)


def test_a_size_that_the_pixels_do_not_have_is_found_in_the_header(tmp_path: Path) -> None:
    slices = ct_series()
    each_slice(put("Rows", 60000))(slices)
    folder = save(tmp_path / "ct", slices)
    with pytest.raises(InputError, match=r"PixelData of 280 bytes, 10×60000 px of 16 bits need 1200000"):
        series_in(folder)


def test_a_damaged_header_is_a_fault_in_words_of_ours_or_harmless(tmp_path: Path) -> None:
    folder = save(tmp_path / "ct", ct_series())
    path = folder / "02_1.dcm"
    good = path.read_bytes()
    rng = np.random.default_rng(11)
    refused = []
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        for _ in range(150):
            damaged = bytearray(good)
            damaged[rng.integers(132, len(good) - values()[0].nbytes)] = rng.integers(256)
            path.write_bytes(damaged)
            try:
                source = open_folder(folder)
                source.read(0, source.shape[0])
            except InputError as fault:
                refused.append(str(fault))
    assert len(refused) > 50
    assert all(line.isprintable() for fault in refused for line in fault.split("\n"))
    assert not warned  # pydicom's would repeat what the tags say
