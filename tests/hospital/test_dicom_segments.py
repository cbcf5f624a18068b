"""Slices not to be believed as a Segmentation: dicom3tools passes it, highdicom and pydicom read it back."""

from __future__ import annotations

from pathlib import Path

import highdicom
import numpy as np
import pydicom

from bundle.hospital.objects.segments import write_segments
from bundle.images.dicom.source import ordered
from tests.hospital.dciodvfy import KNOWN, complaints
from tests.hospital.series import MADE, PIXEL_MM, SHAPE, STEP_MM, ct_series

SOURCE = ordered(ct_series())
RUNS = {"doubtful": [[1, 2]], "unlike": [[0, 0], [4, 5]]}
NUMBERS = [2, 1, 1, 0, 2, 2]  # of each slice's segment
OWN = (KNOWN, "<99VSTAIN>")  # a vocabulary of our own, of which the validator has not heard


def test_the_object_is_what_its_class_asks_for_and_highdicom_reads_the_same_slices(tmp_path: Path) -> None:
    (path,) = write_segments(tmp_path, SOURCE, MADE, "a kind", RUNS)
    assert complaints(path, OWN) == ["Segmentation"]
    read = highdicom.seg.segread(path)
    described = [read.get_segment_description(number) for number in (1, 2)]
    assert [each.segment_label for each in described] == list(RUNS)
    assert [each.algorithm_type.value for each in described] == ["AUTOMATIC"] * 2
    volume = read.get_volume(combine_segments=True)
    array = volume.array if volume.affine[:3, 0] @ SOURCE.direction[:, 2] > 0 else volume.array[::-1]
    np.testing.assert_array_equal(array, np.broadcast_to(np.array(NUMBERS)[:, None, None], SHAPE))
    np.testing.assert_allclose(volume.spacing, [STEP_MM, *PIXEL_MM], rtol=1e-9)


def test_it_is_marked_as_all_of_ours_and_whose_it_is_is_kept_to_the_byte(tmp_path: Path) -> None:
    slices = ct_series()
    for each in slices:
        each.PatientName, each.SpecificCharacterSet = "Иванов^Крыса", "ISO_IR 144"
        del each.PatientBirthDate
        each["StudyDate"]._value = "no date"
    (path,) = write_segments(tmp_path, ordered(slices), MADE, "a kind", RUNS)
    read = pydicom.dcmread(path)
    assert (read.Modality, read.SyntheticData, read.ContentQualification) == ("SEG", "YES", "RESEARCH")
    assert read.SeriesDescription.startswith("SYNTHETIC")
    assert str(read.PatientName) == "Иванов^Крыса"
    assert read.StudyDate == "no date"
    assert read.FrameOfReferenceUID == slices[0].FrameOfReferenceUID
    assert read.SeriesInstanceUID == MADE.series_uid(SOURCE, "a kind")
    sources = [item.DerivationImageSequence[0].SourceImageSequence[0] for item in read.PerFrameFunctionalGroupsSequence]
    assert len({each.ReferencedSOPInstanceUID for each in sources}) == sum(number > 0 for number in NUMBERS)


def test_past_the_limit_there_are_several_objects_and_of_no_slice_none(tmp_path: Path) -> None:
    paths = write_segments(tmp_path, SOURCE, MADE, "a kind", RUNS, limit_bytes=2 * SHAPE[1] * SHAPE[2] // 8)
    assert [pydicom.dcmread(path).NumberOfFrames for path in paths] == [2, 2, 1]
    assert [complaints(path, OWN) for path in paths] == [["Segmentation"]] * 3
    assert write_segments(tmp_path / "none", SOURCE, MADE, "a kind", {"doubtful": [], "unlike": []}) == []
