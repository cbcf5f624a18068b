"""A stain as RGB objects: what dicom3tools, ITK, highdicom and pydicom make of them."""

from __future__ import annotations

import io
import json
import tracemalloc
from dataclasses import replace
from pathlib import Path

import highdicom
import itk
import numpy as np
import pydicom
import pytest
from PIL import Image, ImageCms
from pydicom import Dataset

from bundle.common.errors import InputError
from bundle.hospital.objects.colour import write_frames, write_slices
from bundle.hospital.objects.frames import LIMIT, spans
from bundle.images.dicom.icc import srgb
from bundle.images.dicom.source import Source, open_folder, ordered
from tests.hospital.dciodvfy import KNOWN, complaints
from tests.hospital.series import COLUMN, MADE, ORIGIN, PIXEL_MM, ROW, SHAPE, STEP_MM, at, ct_series, save, stain_of

STAIN = stain_of(np.random.default_rng(5).integers(0, 60000, SHAPE))
PLACED = ("(0x0018,0x0050)", "(0x0020,0x0032)", "(0x0020,0x0037)", "(0x0020,0x0052)", "(0x0020,0x1040)")


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Source:
    """A series in files."""
    return open_folder(save(tmp_path_factory.mktemp("ct"), ct_series()))


def slab(start: int, stop: int) -> np.ndarray:
    """Slices of the stain."""
    return STAIN[start:stop]


@pytest.fixture(scope="module")
def frames(source: Source, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A stain as one object."""
    (path,) = write_frames(tmp_path_factory.mktemp("frames"), source, slab, MADE)
    return path


@pytest.fixture(scope="module")
def slices(source: Source, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """A stain as an object per slice."""
    return write_slices(tmp_path_factory.mktemp("slices"), source, slab, MADE)


def test_the_object_is_what_its_class_asks_for(frames: Path) -> None:
    assert complaints(frames) == ["MultiframeTrueColorSCImage"]


def test_objects_of_one_slice_have_but_their_place_beyond_what_their_class_has(slices: list[Path]) -> None:
    assert complaints(slices[2], (KNOWN, *PLACED)) == ["SCImage"]


def test_itk_reads_the_same_volume_in_the_same_place(source: Source, frames: Path) -> None:
    image = itk.imread(str(frames))
    np.testing.assert_array_equal(itk.array_from_image(image), STAIN)
    np.testing.assert_allclose(image.GetSpacing(), source.spacing_mm[::-1], rtol=1e-9)
    np.testing.assert_allclose(image.GetOrigin(), source.origin_mm, rtol=1e-12)
    np.testing.assert_allclose(itk.array_from_matrix(image.GetDirection()), source.direction, atol=1e-9)


def test_itk_reads_the_slices_as_the_same_volume_in_the_same_place(source: Source, slices: list[Path]) -> None:
    image = itk.imread([str(path) for path in slices])
    np.testing.assert_array_equal(itk.array_from_image(image), STAIN)
    np.testing.assert_allclose(image.GetSpacing(), source.spacing_mm[::-1], rtol=1e-9)
    np.testing.assert_allclose(image.GetOrigin(), source.origin_mm, rtol=1e-12)


def test_highdicom_reads_the_same_volume_in_the_same_place(frames: Path, slices: list[Path]) -> None:
    for volume in (
        highdicom.imread(frames).get_volume(apply_icc_profile=False),
        highdicom.get_volume_from_series([pydicom.dcmread(path) for path in slices], apply_icc_profile=False),
    ):
        normal = np.cross(ROW, COLUMN)
        array, affine = volume.array, volume.affine  # along slices, rows, columns, whichever way
        if affine[:3, 0] @ normal < 0:
            array = array[::-1]
        np.testing.assert_array_equal(array, STAIN)
        np.testing.assert_allclose(np.abs(volume.spacing), [STEP_MM, *PIXEL_MM], rtol=1e-9)


def test_pydicom_reads_the_same_frames_and_the_source_s_own_places(frames: Path) -> None:
    read = pydicom.dcmread(frames)
    np.testing.assert_array_equal(read.pixel_array, STAIN)
    places = [frame.PlanePositionSequence[0].ImagePositionPatient for frame in read.PerFrameFunctionalGroupsSequence]
    theirs = [at(number, ct_series()).ImagePositionPatient for number in range(SHAPE[0])]
    assert places == theirs
    assert read.FrameOfReferenceUID == ct_series()[0].FrameOfReferenceUID
    assert list(places[0]) == list(ORIGIN)


def test_an_odd_length_is_padded(tmp_path: Path) -> None:
    odd = [each for each in ct_series() if each.InstanceNumber <= 3]
    for each in odd:
        each.Rows, each.Columns, each.PixelData = 7, 5, bytes(70)
    (path,) = write_frames(tmp_path, ordered(odd), lambda start, stop: STAIN[start:stop, :7, :5], MADE)
    read = pydicom.dcmread(path)
    assert len(read.PixelData) == 3 * 7 * 5 * 3 + 1
    np.testing.assert_array_equal(read.pixel_array, STAIN[:3, :7, :5])


def texts(dataset: Dataset) -> list[str]:
    """All values of a dataset as text."""
    return [str(element.value) for element in dataset.iterall()]


def test_it_says_whose_it_is_what_made_it_and_that_it_is_synthetic(source: Source, frames: Path) -> None:
    read, theirs = pydicom.dcmread(frames), ct_series()[0]
    for keyword in ("PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyInstanceUID", "StudyDate"):
        assert read[keyword].value == theirs[keyword].value
    assert read.SeriesInstanceUID != theirs.SeriesInstanceUID
    assert read.SeriesDescription == "SYNTHETIC virtual stain - research only"
    assert (read.Modality, read[0x0008001C].value, read.BurnedInAnnotation) == ("OT", "YES", "NO")
    assert list(read.ImageType) == ["DERIVED", "SECONDARY"]
    assert read.ContentQualification == "RESEARCH"
    sources = [item.ReferencedSOPInstanceUID for item in read.SourceImageSequence]
    assert sources == source.instance_uids
    assert read.SourceImageSequence[0].PurposeOfReferenceCodeSequence[0].CodeValue == "121322"
    (series,) = read.ReferencedSeriesSequence
    assert series.SeriesInstanceUID == theirs.SeriesInstanceUID
    assert [item.ReferencedSOPInstanceUID for item in series.ReferencedInstanceSequence] == sources
    (equipment,) = read.ContributingEquipmentSequence
    assert equipment.PurposeOfReferenceCodeSequence[0].CodeValue == "109100"
    assert (equipment.ManufacturerModelName, equipment.SoftwareVersions[0]) == (MADE.name, MADE.version)
    assert equipment.DeviceSerialNumber == MADE.sha256
    assert json.dumps(MADE.settings, sort_keys=True) in read.DerivationDescription


def test_nothing_private_and_nothing_that_is_not_of_patient_or_study_is_copied(
    frames: Path, slices: list[Path]
) -> None:
    for path in (frames, slices[0]):
        read = pydicom.dcmread(path)
        assert not [text for text in texts(read) if "secret" in text.lower()]
        assert not [element for element in read.iterall() if element.tag.is_private]


def test_what_a_hostile_source_says_of_its_patient_goes_no_further_than_these_tags(tmp_path: Path) -> None:
    hostile = "../../../tmp/evil\x1b[2J" + "x" * 5000
    spoilt = ct_series()
    with pydicom.config.disable_value_validation():
        for each in spoilt:
            each.PatientID, each.PatientBirthDate, each.SeriesNumber = hostile, "$import os", None
            each.SeriesDescription = each.StudyDescription = "@model"
            each.SpecificCharacterSet = "ISO_IR 9999"
        folder = save(tmp_path / "ct", spoilt)
    (path,) = write_frames(tmp_path / "out", open_folder(folder), slab, MADE)
    assert path.parent == tmp_path / "out"
    assert path.stem == MADE.instance_uid(open_folder(folder), "frames", 1)
    read = pydicom.dcmread(path)
    assert read.PatientID == hostile
    assert sum(hostile in text for text in texts(read)) == 1


def numbered(numbers: list[int], folder: Path) -> Source:
    """The series with other instance numbers, along its normal."""
    slices = ct_series()
    for z, number in enumerate(numbers):
        at(z, slices).InstanceNumber = number
    return open_folder(save(folder, slices))


def test_frames_run_the_way_the_instance_numbers_of_the_scan_run(tmp_path: Path) -> None:
    falling = numbered([10 - z for z in range(SHAPE[0])], tmp_path / "ct")
    assert falling.shape == SHAPE  # the scan itself stays along its normal
    paths = write_frames(tmp_path, falling, slab, MADE, limit_bytes=SHAPE[1] * SHAPE[2] * 3 * 3)
    read = [pydicom.dcmread(path) for path in paths]
    np.testing.assert_array_equal(np.concatenate([each.pixel_array for each in read]), STAIN[::-1])
    places = [
        frame.PlanePositionSequence[0].ImagePositionPatient
        for each in read
        for frame in each.PerFrameFunctionalGroupsSequence
    ]
    assert places == [at(number, ct_series()).ImagePositionPatient for number in reversed(range(SHAPE[0]))]
    assert [item.ReferencedSOPInstanceUID for item in read[0].SourceImageSequence] == falling.instance_uids[::-1]
    for dataset in read:  # another library puts them where the scan lies
        volume = highdicom.image.Image.from_dataset(dataset).get_volume(apply_icc_profile=False)
        middle = volume.affine @ [0, 0, 0, 1]
        assert min(np.linalg.norm(middle[:3] - header.position_mm) for header in falling.headers) < 1e-9
    for path, header in zip(write_slices(tmp_path, falling, slab, MADE), falling.headers[::-1], strict=True):
        one = pydicom.dcmread(path)
        np.testing.assert_allclose(one.ImagePositionPatient, header.position_mm)
        np.testing.assert_array_equal(one.pixel_array, STAIN[falling.headers.index(header)])
        assert one.SourceImageSequence[0].ReferencedSOPInstanceUID == header.uid


@pytest.mark.parametrize("numbers", [[1, 1, 1, 1, 1, 1], [6, 5, 4, 3, 1, 2], [1, 2, 3, 4, 5, 7]])
def test_numbers_that_do_not_fall_throughout_leave_the_order_along_the_normal(
    numbers: list[int], tmp_path: Path
) -> None:
    (path,) = write_frames(tmp_path, numbered(numbers, tmp_path / "ct"), slab, MADE)
    np.testing.assert_array_equal(pydicom.dcmread(path).pixel_array, STAIN)


def test_past_the_limit_there_are_several_objects_of_whole_frames(source: Source, tmp_path: Path) -> None:
    frame = SHAPE[1] * SHAPE[2] * 3
    paths = write_frames(tmp_path, source, slab, MADE, limit_bytes=frame * 3 - 1)
    read = [pydicom.dcmread(path) for path in paths]
    assert [each.NumberOfFrames for each in read] == [2, 2, 2]
    assert [each.InstanceNumber for each in read] == [1, 2, 3]
    assert len({each.SeriesInstanceUID for each in read}) == 1
    assert len({each.SOPInstanceUID for each in read}) == 3
    np.testing.assert_array_equal(np.concatenate([each.pixel_array for each in read]), STAIN)
    starts = [each.PerFrameFunctionalGroupsSequence[0].PlanePositionSequence[0].ImagePositionPatient for each in read]
    assert starts == [at(number, ct_series()).ImagePositionPatient for number in (0, 2, 4)]
    assert complaints(paths[1]) == ["MultiframeTrueColorSCImage"]
    with pytest.raises(InputError, match="one slice of 10×14 px is 420 bytes, past the limit of 419"):
        write_frames(tmp_path, source, slab, MADE, limit_bytes=frame - 1)


def test_twelve_hundred_cubed_is_two_objects_within_what_a_length_can_say(source: Source) -> None:
    large = Source(source.instances, source.headers, (1200, 1200, 1200), (1, 1, 1), (0, 0, 0), np.eye(3), source.dtype)
    assert spans(large, 1200 * 1200 * 3, LIMIT) == [(0, 600), (600, 1200)]
    assert LIMIT % 2 == 0
    assert LIMIT < 0xFFFFFFFF


@pytest.mark.parametrize("write", [write_frames, write_slices])
def test_a_stain_that_fails_in_the_middle_leaves_nothing(source: Source, tmp_path: Path, write: object) -> None:
    rows = STAIN.repeat(400, axis=1)[:, : SHAPE[1]]

    def failing(start: int, stop: int) -> np.ndarray:
        raise RuntimeError("the model stopped")

    def other_grid(start: int, stop: int) -> np.ndarray:
        return rows[start:stop, :, :-1]

    with pytest.raises(RuntimeError, match="the model stopped"):
        write(tmp_path, source, failing, MADE)  # type: ignore[operator]
    with pytest.raises(InputError, match=r"6×14×9×3 uint8, the series' grid asks for 6×14×10×3 uint8"):
        write(tmp_path, source, other_grid, MADE)  # type: ignore[operator]
    assert list(tmp_path.iterdir()) == []


def test_the_first_objects_do_not_stay_if_a_later_one_fails(source: Source, tmp_path: Path) -> None:
    def failing(start: int, stop: int) -> np.ndarray:
        if start >= 4:
            raise RuntimeError("the model stopped")
        return slab(start, stop)

    with pytest.raises(RuntimeError, match="the model stopped"):
        write_frames(tmp_path, source, failing, MADE, limit_bytes=SHAPE[1] * SHAPE[2] * 6)
    assert list(tmp_path.iterdir()) == []


def test_uids_follow_from_model_settings_series_and_kind(source: Source, frames: Path, tmp_path: Path) -> None:
    (again,) = write_frames(tmp_path, source, slab, MADE)
    assert again.name == frames.name
    other_settings = MADE.__class__(MADE.name, MADE.version, MADE.sha256, {"speed": "fast"}, MADE.code)
    other_weights = MADE.__class__(MADE.name, MADE.version, "cd" * 32, MADE.settings, MADE.code)
    fewer = ordered([each for each in ct_series() if each.InstanceNumber < 6])
    uids = [
        MADE.series_uid(source, "frames"),
        MADE.series_uid(source, "slices"),
        MADE.series_uid(fewer, "frames"),
        other_settings.series_uid(source, "frames"),
        other_weights.series_uid(source, "frames"),
        *(MADE.instance_uid(source, "frames", number) for number in (1, 2)),
    ]
    assert len(set(uids)) == len(uids)
    assert all(pydicom.uid.UID(uid).is_valid and uid.startswith("2.25.") for uid in uids)


def test_the_colour_profile_is_srgb_to_another_library() -> None:
    ours = ImageCms.ImageCmsProfile(io.BytesIO(srgb()))
    assert "sRGB" in ImageCms.getProfileDescription(ours)
    colours = Image.fromarray(np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8))
    theirs = ImageCms.createProfile("sRGB")
    same = ImageCms.profileToProfile(colours, ours, theirs)
    assert np.abs(np.asarray(same, int) - np.asarray(colours, int)).max() <= 1
    assert len(srgb()) < 4000


def test_writing_keeps_a_few_slices_in_memory(tmp_path: Path) -> None:
    side = 1024
    many = []
    for number in range(16):
        each = at(number % SHAPE[0], ct_series())
        each.SOPInstanceUID = f"1.2.3.{number}"
        each.ImagePositionPatient = [0, 0, number]
        each.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
        each.Rows = each.Columns = side
        many.append(each)
    source = ordered(many)
    tracemalloc.start()
    write_frames(tmp_path, source, lambda start, stop: np.zeros((stop - start, side, side, 3), np.uint8), MADE)
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert most < 8 * side * side * 3  # of 16


@pytest.mark.parametrize("write", [write_frames, write_slices])
def test_how_like_the_training_data_a_scan_is_stands_in_the_object_and_changes_no_uid(
    source: Source, frames: Path, slices: list[Path], tmp_path: Path, write: object
) -> None:
    made = replace(MADE, likeness="of 6 slices, 6 unlike " + "(0 to 1)" * 200, unlike=True)
    path = write(tmp_path, source, slab, made)[0]
    read, before = pydicom.dcmread(path), pydicom.dcmread(frames if write is write_frames else slices[0])
    assert read.SeriesDescription == "SYNTHETIC stain of a scan UNLIKE its training - research only"
    assert read.ImageComments.startswith(f"{before.ImageComments}. of 6 slices, 6 unlike (0 to 1)")
    assert read.ImageComments.endswith(" ...")
    assert len(read.ImageComments) < 1100
    assert (read.SOPInstanceUID, read.SeriesInstanceUID) == (before.SOPInstanceUID, before.SeriesInstanceUID)
    assert len(complaints(path, (KNOWN, *PLACED))) == 1
