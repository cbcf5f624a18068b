"""Stained slides as DICOM whole slides, through the libraries that read such: pixels, size, whose it is, its marks."""

from __future__ import annotations

import io
from dataclasses import replace

import highdicom
import numpy as np
import openslide
import pydicom
import pytest
from PIL import ImageCms
from pydicom import Dataset
from pydicom.sequence import Sequence as Items
from wsidicom import WsiDicom

from bundle.common.errors import InputError
from bundle.images.dicom.marks import DESCRIPTION, PATIENT, STUDY
from bundle.images.stained_slides import dicom
from bundle.images.stained_slides.formats import FORMATS, Packing
from bundle.images.stained_slides.pyramid import TILE
from tests.helpers.stained_slides import ABOUT, LEVELS, PIXEL_UM, far, level_of, pyramid_of, written
from tests.hospital.dciodvfy import KNOWN, complaints

SLACK = {"jpeg": 1.5, "lossless": 0.0}  # grey levels on the mean
# of dciodvfy: what is newer than it, what is private, what is empty, and what it says of every file
KNOWN_HERE = (KNOWN, "(0x0021,0x1001)", "needed to build DICOMDIR", "VLWholeSlideMicroscopyImage")
NAMES = {  # what SpecificCharacterSet says, and a name's bytes; the last two say something else than what these are
    "UTF-8": ("ISO_IR 192", "Müller^王".encode()),
    "GBK, undeclared": (None, "王^小东".encode("gbk")),
    "UTF-8 that is Latin 1": ("ISO_IR 192", "Müller^Ratte!".encode("latin1")),
    "no character set there is": ("ISO_IR 9999", "Müller^".encode()),
}


@pytest.fixture(scope="module", params=SLACK)
def made(request, tmp_path_factory):
    """The folder of a slide, its pyramid, and how far its pixels may be off."""
    folder = tmp_path_factory.mktemp("dicom")
    pyramid, _ = pyramid_of(folder / "pyramid", "rgb")
    return written(folder / "a.dicom", "dicom", pyramid, Packing(request.param, 95)), pyramid, SLACK[request.param]


def headers(folder):
    """Of all levels, the finest first."""
    return [pydicom.dcmread(path, stop_before_pixels=True) for path in sorted(folder.iterdir())]


def test_it_is_a_file_for_each_level_and_no_more(made):
    assert sorted(path.name for path in made[0].iterdir()) == ["level-0.dcm", "level-1.dcm", "level-2.dcm"]


def test_wsidicom_reads_all_levels(made):
    folder, pyramid, slack = made
    with WsiDicom.open(folder) as slide:
        (pixels,) = slide.pyramids
        assert [(level.size.height, level.size.width) for level in pixels] == LEVELS
        assert [level.mpp.width for level in pixels] == pytest.approx([PIXEL_UM * 2**number for number in range(3)])
        assert [level.mpp.height for level in pixels] == pytest.approx([PIXEL_UM * 2**number for number in range(3)])
        for number, (height, width) in enumerate(LEVELS):
            found = np.asarray(slide.read_region((0, 0), number, (width, height)))[..., :3]
            assert far(found, level_of(pyramid, number)) <= slack
        assert slide.metadata.series.description == DESCRIPTION


def test_openslide_reads_all_levels(made):
    folder, pyramid, slack = made
    for path in folder.iterdir():  # whichever of the files is opened
        slide = openslide.OpenSlide(path)
        assert slide.properties["openslide.vendor"] == "dicom"
        assert slide.level_dimensions == tuple((width, height) for height, width in LEVELS)
        assert [float(slide.properties[f"openslide.mpp-{axis}"]) for axis in "xy"] == pytest.approx([PIXEL_UM] * 2)
        for number, (height, width) in enumerate(LEVELS):
            found = np.asarray(slide.read_region((0, 0), number, (width, height)))
            assert (found[..., 3] == 255).all()
            assert far(found[..., :3], level_of(pyramid, number)) <= slack


def test_highdicom_and_pydicom_read_its_frames(made):
    folder, pyramid, slack = made
    for number, path in enumerate(sorted(folder.iterdir())):
        image = highdicom.imread(path)
        found = image.get_total_pixel_matrix(apply_icc_profile=False)
        assert far(found, level_of(pyramid, number)) <= slack
        frames = pydicom.dcmread(path).pixel_array.reshape(-1, TILE, TILE, 3)
        assert len(frames) == image.NumberOfFrames
    first = pydicom.dcmread(folder / "level-0.dcm").pixel_array
    assert first.shape == (2 * 3, TILE, TILE, 3)
    rows, columns = slice(0, LEVELS[0][0] - TILE), slice(0, LEVELS[0][1] - 2 * TILE)
    end = pyramid.read(0, slice(TILE, LEVELS[0][0]), slice(2 * TILE, LEVELS[0][1]))
    assert far(first[5, rows, columns], end) <= 2 * slack
    for frame, part in ((first[5, rows.stop :], first[5, rows.stop - 1]),):  # past the end: its last row, not black
        assert far(frame, np.broadcast_to(part, frame.shape)) <= 8 * slack


def test_dciodvfy_passes_it(made):
    for path in made[0].iterdir():
        assert complaints(path, KNOWN_HERE) == []


def test_it_is_marked_as_synthetic_on_every_level(made):
    folder, _, slack = made
    for number, header in enumerate(headers(folder)):
        assert header.SyntheticData == "YES"
        assert header.SeriesDescription == header.PyramidDescription == DESCRIPTION
        assert header.ImageComments.startswith(f"{DESCRIPTION}. SYNTHETIC. Virtual Ki-67 ? stain, computed from H&E")
        assert header.ContentQualification == "RESEARCH"
        assert list(header.ImageType) == ["DERIVED", "PRIMARY", "VOLUME", "RESAMPLED" if number else "NONE"]
        assert header.Manufacturer == "virtual-staining, research software"
        assert header.DeviceSerialNumber == "ab" * 32
        (maker,) = header.ContributingEquipmentSequence
        assert maker.PurposeOfReferenceCodeSequence[0].CodeValue == "109100"
        assert "no real stain. Research only, not for diagnosis." in header.DerivationDescription
        assert header.OpticalPathSequence[0].OpticalPathDescription == DESCRIPTION
        assert header.Modality == "SM"
        assert header.LossyImageCompression == ("01" if slack else "00")


def test_colour_profile_place_and_size(made):
    folder, _, _ = made
    for number, header in enumerate(headers(folder)):
        profile = ImageCms.ImageCmsProfile(io.BytesIO(header.OpticalPathSequence[0].ICCProfile))
        assert "sRGB" in ImageCms.getProfileDescription(profile)
        assert (header.TotalPixelMatrixRows, header.TotalPixelMatrixColumns) == LEVELS[number]
        mm = PIXEL_UM * 2**number / 1000
        spacing = header.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0].PixelSpacing
        assert [float(each) for each in spacing] == pytest.approx([mm, mm], rel=1e-12)
        size = (header.ImagedVolumeHeight, header.ImagedVolumeWidth)
        assert size == pytest.approx([side * mm for side in LEVELS[number]], rel=1e-6)
        assert header.DimensionOrganizationType == "TILED_FULL"


def test_levels_are_of_one_series_and_of_their_own(made):
    levels = headers(made[0])
    for keyword in ("StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID", "PyramidUID"):
        assert len({level[keyword].value for level in levels}) == 1
    assert len({level.SOPInstanceUID for level in levels}) == 3
    for level in levels:
        assert level.SOPInstanceUID == level.file_meta.MediaStorageSOPInstanceUID
        assert level.StudyInstanceUID.startswith("2.25.")


def test_what_nobody_knows_is_empty(made):
    for header in headers(made[0]):
        for keyword in ("PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyDate", "AccessionNumber"):
            assert keyword in header
            assert not header[keyword].value
        assert header.ContainerIdentifier == header.SpecimenDescriptionSequence[0].SpecimenIdentifier == "UNKNOWN"
        assert header.AcquisitionDateTime == "20260102030405"


def test_without_a_moment_none_is_taken_from_the_clock(tmp_path):
    about = {name: value for name, value in ABOUT.items() if name != "started"}
    pyramid, _ = pyramid_of(tmp_path / "p", "rgb", about=about)
    header = headers(written(tmp_path / "a.dicom", "dicom", pyramid))[0]
    assert not header.AcquisitionDateTime
    assert not header.ContentDate


def test_uids_follow_from_what_is_made_of_what_and_how(tmp_path):
    pyramid, _ = pyramid_of(tmp_path / "p", "rgb")
    other = replace(pyramid, spec=replace(pyramid.spec, about={**ABOUT, "fingerprint": {"model": "cd" * 32}}))
    cases = {"a": (pyramid, Packing()), "again": (pyramid, Packing()), "model": (other, Packing())}
    cases |= {"quality": (pyramid, Packing("jpeg", 50)), "lossless": (pyramid, Packing("lossless"))}
    uids = {}
    for name, (each, packing) in cases.items():
        header = headers(written(tmp_path / name, "dicom", each, packing))[0]
        uids[name] = (header.SeriesInstanceUID, header.SOPInstanceUID)
    assert uids["a"] == uids["again"]
    assert len(set(uids.values())) == 4


def test_frames_past_4_gib_are_found_by_64_bits(tmp_path, monkeypatch):
    monkeypatch.setattr(dicom, "LIMIT", 1000)
    pyramid, _ = pyramid_of(tmp_path / "p", "rgb")
    folder = written(tmp_path / "a.dicom", "dicom", pyramid)
    assert len(headers(folder)[0].ExtendedOffsetTable) == 6 * 8
    with WsiDicom.open(folder) as slide:
        found = np.asarray(slide.read_region((0, 0), 0, LEVELS[0][::-1]))[..., :3]
        assert (found == level_of(pyramid, 0)).all()
    found = np.asarray(openslide.OpenSlide(folder / "level-0.dcm").read_region((0, 0), 0, LEVELS[0][::-1]))[..., :3]
    assert (found == level_of(pyramid, 0)).all()
    assert pydicom.dcmread(folder / "level-0.dcm").pixel_array.shape == (6, TILE, TILE, 3)


def source_of(folder, charset=None, name=b"Doe^J", **given):
    """A DICOM slide of somebody: one of ours, with other tags."""
    pyramid, _ = pyramid_of(folder / "source-pyramid", "rgb", about={"slide": "source"})
    path = written(folder / "source.dicom", "dicom", pyramid) / "level-0.dcm"
    dataset = pydicom.dcmread(path)
    mark = "<" + "n" * (len(name) - 2) + ">"
    specimen = Dataset()
    specimen.SpecimenIdentifier, specimen.SpecimenUID = "block 7", "1.2.3.4"
    specimen.IssuerOfTheSpecimenIdentifierSequence = specimen.SpecimenPreparationSequence = Items()
    facts = {"PatientName": mark, "PatientID": "R-12", "StudyInstanceUID": "1.2.3", "SeriesInstanceUID": "1.2.3.5"}
    facts |= {"AccessionNumber": "ACC", "StudyDate": "20200102", "FrameOfReferenceUID": "1.2.3.6", "SeriesNumber": 4}
    facts |= {"ContainerIdentifier": "S20-7", "SpecimenDescriptionSequence": Items([specimen])}
    facts |= {"ImagedVolumeDepth": 3.0, "InstitutionName": "Hospital", "LossyImageCompression": "01"}
    facts |= {"ImageOrientationSlide": [0, 1, 0, 1, 0, 0], "AcquisitionDateTime": "20200102101112"} | given
    for keyword, value in facts.items():
        if value is None:
            delattr(dataset, keyword)
        else:
            setattr(dataset, keyword, value)
    if charset is not None:
        dataset.SpecificCharacterSet = charset
    dataset.save_as(path)
    content = path.read_bytes()
    assert mark.encode() in content
    path.write_bytes(content.replace(mark.encode(), name))
    return path


@pytest.mark.parametrize("case", NAMES)
def test_the_patient_is_the_source_s_to_the_byte(tmp_path, case):
    charset, name = NAMES[case]
    source = source_of(tmp_path, charset, name)
    pyramid, _ = pyramid_of(tmp_path / "p", "rgb")
    folder = written(tmp_path / "a.dicom", "dicom", pyramid, Packing(source=source))
    theirs, ours = (pydicom.dcmread(path) for path in (source, folder / "level-1.dcm"))
    for keyword in ("SpecificCharacterSet", *PATIENT, *STUDY):
        one, other = (
            each.get_item(keyword).value if keyword in each else None for each in (theirs, ours)
        )  # as bytes, which nothing decoded
        assert one == other, keyword
    assert name in (folder / "level-0.dcm").read_bytes()
    assert ours.get("SpecificCharacterSet") == charset


def test_place_specimen_and_origin_are_the_source_s(tmp_path):
    source = source_of(tmp_path)
    pyramid, _ = pyramid_of(tmp_path / "p", "rgb")
    folder = written(tmp_path / "a.dicom", "dicom", pyramid, Packing("lossless", source=source))
    theirs = pydicom.dcmread(source, stop_before_pixels=True)
    for header in headers(folder):
        assert (header.StudyInstanceUID, header.FrameOfReferenceUID) == ("1.2.3", "1.2.3.6")
        assert header.SeriesInstanceUID != theirs.SeriesInstanceUID
        assert header.SeriesNumber == 9004
        assert list(header.ImageOrientationSlide) == [0, 1, 0, 1, 0, 0]
        assert header.ContainerIdentifier == "S20-7"
        assert header.SpecimenDescriptionSequence[0].SpecimenIdentifier == "block 7"
        assert header.ImagedVolumeDepth == 3.0
        assert header.AcquisitionDateTime == "20200102101112"
        assert header.LossyImageCompression == "01"  # its pixels come from such
        (origin,) = header.SourceImageSequence
        assert origin.ReferencedSOPInstanceUID == theirs.SOPInstanceUID
        assert header.ReferencedSeriesSequence[0].SeriesInstanceUID == "1.2.3.5"
        assert "InstitutionName" not in header
    told = complaints(folder / "level-0.dcm", KNOWN_HERE)
    assert [line for line in told if "LossyImageCompression" not in line] == []


def test_a_source_that_is_no_dicom_gives_no_patient(tmp_path):
    (tmp_path / "a.svs").write_bytes(b"II*\0" + bytes(200))
    pyramid, _ = pyramid_of(tmp_path / "p", "rgb")
    header = headers(written(tmp_path / "a.dicom", "dicom", pyramid, Packing(source=tmp_path / "a.svs")))[0]
    assert not header.PatientName
    assert "SourceImageSequence" not in header


def test_a_source_that_names_no_study_is_refused_before_anything_is_stained(tmp_path):
    source = source_of(tmp_path, StudyInstanceUID=None)
    pyramid, _ = pyramid_of(tmp_path / "p", "rgb")
    with pytest.raises(InputError, match=r"level-0\.dcm: StudyInstanceUID is missing; export"):
        FORMATS["dicom"].check(pyramid.spec, Packing(source=source))
