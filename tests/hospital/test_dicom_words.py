"""What tags say is others' text: nothing of it moves a cursor, names a file or is run."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pydicom
import pytest

from bundle.common.errors import InputError
from bundle.hospital.objects.colour import write_frames
from bundle.hospital.objects.ct import write_series
from bundle.images.dicom.source import open_folder
from bundle.images.dicom.tags import quietly
from bundle.images.dicom.words import file_name, plain
from bundle.images.volumes.volume import open_volume
from tests.helpers.volumes import make_voxels, write_scan
from tests.hospital.series import MADE, SHAPE, ct_series, save

HOSTILE = [
    "\x1b[2J\r\n\x07\0",
    "\u202eabc\u2066\u200b",  # from right to left, and without width
    "../../etc/passwd",
    "..\\..\\boot.ini",
    "$__import__('os').system('touch /tmp/was_here')",
    "@bundle_root",
    "%/etc/passwd",
    "\ud800",
    "a" * 9000,
]


@pytest.mark.parametrize("text", HOSTILE)
def test_a_text_is_made_safe_to_print_and_to_name_a_file_by(text: str) -> None:
    shown, name = plain(text), file_name(text)
    assert shown.isprintable()
    assert len(shown) <= 64
    assert Path("folder", name).parent == Path("folder")
    assert set(name) <= set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-")
    assert not name.startswith((".", "-"))
    assert 0 < len(name) <= 64


@pytest.mark.parametrize("text", [each for each in HOSTILE if each.isascii()])
def test_no_tag_reaches_a_log_a_message_or_a_name(
    text: str, tmp_path: Path, capfd: pytest.CaptureFixture, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)  # as a run has it, with a handler at the root
    slices = ct_series()
    stray = ct_series()[0]
    with quietly():
        for each in (*slices, stray):
            each.SpecificCharacterSet = text.replace("\0", "")  # with a 0 it cannot be read, which is said
            for keyword in ("PatientName", "PatientID", "StudyID", "StudyDescription"):
                setattr(each, keyword, text)
            each.SeriesDescription = each.ProtocolName = each.BodyPartExamined = text
        stray.SOPInstanceUID, stray.Modality = "1.2.3", text
        save(tmp_path / "ct", [*slices, stray])
    source = open_folder(tmp_path / "ct")
    grid = (*SHAPE, 3)
    (path,) = write_frames(tmp_path / "out", source, lambda start, stop: np.zeros(grid, np.uint8)[start:stop], MADE)
    assert path.parent == tmp_path / "out"
    assert path.name.removesuffix(".dcm").replace(".", "").isdigit()
    said = "".join(capfd.readouterr()) + caplog.text
    assert said.count("\n") == 1  # of the stray
    assert all(each.isprintable() for each in said.splitlines())
    assert not Path("/tmp/was_here").exists()
    assert pydicom.dcmread(path).SOPInstanceUID == path.stem


@pytest.mark.parametrize("text", [HOSTILE[0], HOSTILE[1], HOSTILE[3], HOSTILE[8]])
def test_what_a_tag_cannot_hold_is_refused_where_we_write_it(text: str, tmp_path: Path) -> None:
    scan = open_volume(write_scan(tmp_path / "scan.nii", make_voxels((4, 8, 8))))
    with pytest.raises(InputError, match="patient_id is .*a tag takes 64 characters") as fault:
        write_series(tmp_path / "out", scan, patient_id=text)
    assert str(fault.value).isprintable()
