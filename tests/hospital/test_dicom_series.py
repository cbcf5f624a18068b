"""A scan made a CT series by ``scripts.series``, for trying things out."""

from __future__ import annotations

import subprocess
from pathlib import Path

import itk
import nibabel
import numpy as np
import pydicom
import pytest

from bundle.common.errors import InputError
from bundle.hospital.objects.ct_command import series
from bundle.images.dicom.source import open_folder
from bundle.images.volumes.volume import open_volume
from tests.hospital.conftest import needs

AFFINE = np.array([[0, -0.02, 0, 3.5], [-0.01, 0, 0, -7.25], [0, 0, -0.03, 11], [0, 0, 0, 1]])  # RAS, along axes


def scan(folder: Path, pixels: np.ndarray | None = None, affine: np.ndarray = AFFINE) -> Path:
    """A NIfTI of 5×9×7 voxels (Z, Y, X), not cubes, that lies the other way round."""
    if pixels is None:
        pixels = np.random.default_rng(1).integers(0, 60000, (5, 9, 7)).astype(np.uint16)
    image = nibabel.Nifti1Image(pixels.T, affine)
    image.header.set_xyzt_units("mm")
    nibabel.save(image, folder / "scan.nii")
    return folder / "scan.nii"


@pytest.mark.parametrize("handed", [1, -1], ids=["right-handed", "left-handed"])
def test_the_series_has_the_scan_s_values_where_itk_says_they_are(tmp_path: Path, handed: int) -> None:
    path = scan(tmp_path, affine=AFFINE * [1, 1, handed, 1])
    said = series(str(path), str(tmp_path / "ct"))
    assert "made up" in said
    source, image = open_folder(tmp_path / "ct"), itk.imread(str(path))
    for index in ((0, 0, 0), (4, 8, 6), (1, 5, 2)):
        point = np.asarray(source.origin_mm) + source.direction @ (np.array(source.spacing_mm) * index)[::-1]
        there = image.TransformPhysicalPointToIndex([float(each) for each in point])
        z, y, x = index
        assert image.GetPixel(there) == source.read(z, z + 1)[0, y, x]


def test_the_series_is_what_its_class_asks_for(tmp_path: Path) -> None:
    needs("dciodvfy")
    series(str(scan(tmp_path)), str(tmp_path / "ct"))
    said = subprocess.run(["dciodvfy", str(tmp_path / "ct" / "0002.dcm")], capture_output=True, text=True)
    lines = [line for line in said.stderr.splitlines() if "<US>" not in line]  # unspecified: µCT is no HU
    assert lines == ["CTImage"]


def test_the_same_scan_gives_the_same_files_and_another_patient_another_study(tmp_path: Path) -> None:
    path = scan(tmp_path)
    for name, patient in (("a", None), ("b", None), ("c", "R-07")):
        series(str(path), str(tmp_path / name), patient_id=patient)
    first, again, other = ((tmp_path / name / "0001.dcm").read_bytes() for name in "abc")
    assert first == again
    uids = [pydicom.dcmread(tmp_path / name / "0001.dcm").StudyInstanceUID for name in "ac"]
    assert uids[0] != uids[1]
    assert b"R-07" in other


def test_negative_values_stay_what_they_are(tmp_path: Path) -> None:
    pixels = np.arange(-160, 155, dtype=np.int16).reshape(5, 9, 7)
    series(str(scan(tmp_path, pixels)), str(tmp_path / "ct"))
    found = open_volume(tmp_path / "ct").read(0, 5)
    assert found.dtype == np.int16
    np.testing.assert_array_equal(found, pixels)


def test_what_does_not_fit_a_ct_is_refused(tmp_path: Path) -> None:
    output = str(tmp_path / "ct")
    with pytest.raises(InputError, match="holds float32; CT holds whole numbers of 16 bits"):
        series(str(scan(tmp_path, np.zeros((5, 9, 7), np.float32))), output)
    with pytest.raises(InputError, match="has values of -1 to 40000"):
        series(str(scan(tmp_path, np.array([-1, 40000] * 12, np.int32).reshape(2, 3, 4))), output)
    path = str(scan(tmp_path))
    with pytest.raises(InputError, match="patient_id is a.b; a tag takes 64 characters"):
        series(path, output, patient_id="a\\b")
    series(path, output)
    with pytest.raises(InputError, match="is not empty"):
        series(path, output)
