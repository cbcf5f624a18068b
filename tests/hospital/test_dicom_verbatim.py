"""A stain belongs to the patient of its scan to the byte, whatever these bytes are meant to be."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom import Dataset
from pydicom.sequence import Sequence as Items
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian

from bundle.hospital.objects.colour import write_frames
from bundle.hospital.objects.made import Made, made
from bundle.images.dicom.marks import PATIENT, STUDY
from bundle.images.dicom.source import open_folder
from tests.conftest import ROOT
from tests.hospital.pacs_parts import make_bundle
from tests.hospital.series import MADE, SHAPE, ct_series, save

CASES = ROOT.parent / "shared" / "cases" / "dicom"
ANY = {  # what SpecificCharacterSet says, and a name; the last three say something else than what the bytes are
    "UTF-8, undeclared": (None, "王^小东".encode()),
    "GBK, undeclared": (None, "王^小东".encode("gbk")),
    "Shift JIS, undeclared, with a backslash in a letter": (None, "表^ソ".encode("shift_jis")),
    "UTF-8": ("ISO_IR 192", "Müller^王".encode()),
    "GBK": ("GBK", "王^小东".encode("gbk")),
    "Japanese (PS3.5 H.3)": (
        "\\ISO 2022 IR 87",
        b"Yamada^Tarou=\x1b$B;3ED\x1b(B^\x1b$BB@O:\x1b(B=\x1b$B$d$^$@\x1b(B^\x1b$B$?$m$&\x1b(B",
    ),
    "Korean (PS3.5 I.2)": ("\\ISO 2022 IR 149", b"Hong^Gildong=\x1b$)C\xfb\xf3^\x1b$)C\xd1\xce\xd4\xd7="),
    "Latin 1 that is UTF-8": ("ISO_IR 100", "Müller^Ratte".encode()),
    "UTF-8 that is Latin 1": ("ISO_IR 192", "Müller^Ratte".encode("latin1")),
    "no character set there is": ("ISO_IR 9999", "Müller".encode()),
    "a codec of Python's, not of DICOM's": ("cp037", "Müller".encode()),
    "a codec that only fails": ("undefined", "Müller".encode()),
}


def planted(folder: Path, slices: list[Dataset], contents: dict[str, bytes]) -> Path:
    """Write slices whose texts ``contents`` names as bytes that pydicom has no say in."""
    save(folder, slices)
    for path in folder.iterdir():
        whole = path.read_bytes()
        for mark, content in contents.items():
            assert mark.encode() in whole
            assert len(mark) == len(content)
            whole = whole.replace(mark.encode(), content)
        path.write_bytes(whole)
    return folder


def mark(letter: str, content: bytes) -> str:
    """As many letters as there are bytes, to be replaced by them."""
    return f"<{letter * (len(content) - 2)}>"


def stain_of_folder(folder: Path, output: Path) -> Path:
    """The stain of the series in a folder."""
    source = open_folder(folder)
    grid = (*source.shape, 3)
    (path,) = write_frames(output, source, lambda start, stop: np.zeros(grid, np.uint8)[start:stop], MADE)
    return path


def bytes_in(path: Path, keyword: str) -> object:
    """The bytes of an element, not decoded but for the character set, which pydicom reads as it goes."""
    dataset = pydicom.dcmread(path, stop_before_pixels=True)
    return dataset.get_item(keyword).value or b"" if keyword in dataset else None


@pytest.mark.parametrize(("declared", "name"), ANY.values(), ids=list(ANY))
@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian], ids=["explicit", "implicit"])
def test_patient_and_study_are_the_source_s_bytes(
    declared: str | None, name: bytes, syntax: str, tmp_path: Path
) -> None:
    keywords = ("PatientName", "PatientID", "StudyDescription", "AccessionNumber", "ReferringPhysicianName")
    texts = {keyword: letter.encode() + name for letter, keyword in zip("ABCDE", keywords, strict=True)}
    meaning, rat = b"F" + name, "крыса".encode("iso8859_5")
    slices = ct_series()
    with pydicom.config.disable_value_validation():
        for each in slices:
            each.file_meta.TransferSyntaxUID = syntax
            del each.SpecificCharacterSet
            if declared is not None:
                each.SpecificCharacterSet = "Q" * len(declared)
            for letter, keyword in zip("ABCDE", keywords, strict=True):
                setattr(each, keyword, mark(letter, texts[keyword]))
            item, nested = Dataset(), Dataset()
            item.CodeMeaning = mark("F", meaning)
            nested.SpecificCharacterSet, nested.CodeValue = "ISO_IR 144", mark("G", rat)  # it may have its own
            item.EquivalentCodeSequence = Items([nested])
            each.PatientSpeciesCodeSequence = Items([item])
        contents = dict(zip("ABCDEFG", [*texts.values(), meaning, rat], strict=True))
        marks = {mark(letter, content): content for letter, content in contents.items()}
        marks |= {} if declared is None else {"Q" * len(declared): declared.encode()}
        folder = planted(tmp_path / "ct", slices, marks)
    ours = stain_of_folder(folder, tmp_path / "out")
    for keyword, content in texts.items():
        assert bytes_in(ours, keyword) == content + b" " * (len(content) % 2), keyword
    assert bytes_in(ours, "SpecificCharacterSet") == (declared.split("\\") if "\\" in (declared or "") else declared)
    assert bytes_in(ours, "SeriesDescription") == b"SYNTHETIC virtual stain - research only "
    (item,) = pydicom.dcmread(ours).PatientSpeciesCodeSequence
    assert item.get_item("CodeMeaning").value == meaning + b" " * (len(meaning) % 2)
    (nested,) = item.EquivalentCodeSequence
    assert nested.get_item("CodeValue").value == rat + b" "
    assert nested.SpecificCharacterSet == "ISO_IR 144"


def test_what_we_add_is_ascii_so_that_no_character_set_makes_it_other_text(tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path / "bundle")
    metadata = bundle / "configs" / "metadata.json"
    metadata.write_text(metadata.read_text().replace('"name": "', '"name": "Färbung\\\\ 染色 '), encoding="utf-8")
    found = made(bundle, {"für": "Maus"})
    assert found.name.startswith("F?rbung/ ?? ")
    slices = ct_series()
    for each in slices:
        each.PatientName = "Doe^Jane"
    source = open_folder(save(tmp_path / "ct", slices))
    of_ours = Made(found.name, found.version, found.sha256, found.settings, found.code)
    grid = (*SHAPE, 3)
    (path,) = write_frames(tmp_path / "out", source, lambda *ends: np.zeros(grid, np.uint8)[slice(*ends)], of_ours)
    elements = pydicom.dcmread(path, stop_before_pixels=True).iterall()
    assert all(str(each.value).isascii() for each in elements if each.VR not in ("OB", "SQ"))


@pytest.mark.skipif(not CASES.is_dir(), reason="NOT TESTED: ../shared is not here")
@pytest.mark.parametrize("case", ["d10_utf8_undeclared", "d10_gbk_undeclared"])
def test_a_series_as_it_was_met(case: str, tmp_path: Path) -> None:
    ours = stain_of_folder(CASES / case, tmp_path)
    for keyword in (*PATIENT, *STUDY):
        assert (bytes_in(ours, keyword) or b"") == (bytes_in(CASES / case / "000.dcm", keyword) or b""), keyword
    assert bytes_in(ours, "SpecificCharacterSet") is None
