"""A DICOM series read as a scan: what ITK reads, and how the one that is wanted is chosen."""

from __future__ import annotations

import subprocess
import sys
import tracemalloc
from pathlib import Path

import itk
import numpy as np
import pytest
from pydicom.uid import HTJ2KLossless, RLELossless

from bundle.common.errors import InputError
from bundle.images.dicom.source import open_folder, ordered
from bundle.images.volumes.volume import open_volume
from tests.conftest import ROOT as WORK
from tests.hospital.series import SHAPE, at, ct_series, ct_slice, each_slice, put, save, values


def itk_volume(folder: Path) -> itk.Image:
    """What ITK reads of the only series in a folder."""
    names = itk.GDCMSeriesFileNames.New()
    names.SetDirectory(str(folder))
    files = names.GetFileNames(names.GetSeriesUIDs()[0])
    return itk.imread(list(files))


def test_a_scan_is_in_order_where_itk_says_and_of_its_values(tmp_path: Path) -> None:
    folder = save(tmp_path / "ct", ct_series())
    source, image = open_folder(folder), itk_volume(folder)
    pixels = source.read(0, SHAPE[0])
    assert pixels.dtype == np.int16
    np.testing.assert_array_equal(pixels, values().astype(int) - 1024)
    np.testing.assert_array_equal(pixels, itk.array_from_image(image))
    np.testing.assert_allclose(source.spacing_mm[::-1], image.GetSpacing(), rtol=1e-9)
    np.testing.assert_allclose(source.origin_mm, image.GetOrigin(), rtol=1e-12)
    np.testing.assert_allclose(source.direction, itk.array_from_matrix(image.GetDirection()), atol=1e-9)
    np.testing.assert_array_equal(source.read(2, 4), pixels[2:4])


def test_a_folder_of_a_series_is_a_scan_like_any_other(tmp_path: Path) -> None:
    folder = save(tmp_path / "ct", ct_series())
    (folder / "readme.txt").write_text("not DICOM")
    for path in folder.glob("*.dcm"):
        path.rename(path.with_suffix(""))  # known by its content
    volume = open_volume(folder)
    assert volume.geometry.spacing_um == (750.0, 250.0, 500.0)
    assert volume.geometry.origin_mm == open_folder(folder).origin_mm
    np.testing.assert_array_equal(volume.read(1, 3), values()[1:3].astype(int) - 1024)


def test_run_length_coded_slices_are_decoded_to_the_bit(tmp_path: Path) -> None:
    slices = ct_series()
    for each in slices:
        each.compress(RLELossless)
    folder = save(tmp_path / "rle", slices)
    np.testing.assert_array_equal(open_folder(folder).read(0, SHAPE[0]), values().astype(int) - 1024)


def test_fractions_of_a_rescale_are_applied_slice_by_slice_and_signs_kept(tmp_path: Path) -> None:
    slices = ct_series()
    each_slice(put("PixelRepresentation", 1))(slices)
    at(2, slices).RescaleSlope = "0.3"  # ITK would round this: it takes the type of the first slice for all
    signed = values().astype(int)
    signed[signed > 2047] -= 4096
    expected = signed * np.where(np.arange(SHAPE[0]) == 2, 0.3, 1.0)[:, None, None] - 1024
    pixels = ordered(slices).read(0, SHAPE[0])
    assert pixels.dtype == np.float32
    np.testing.assert_array_equal(pixels, expected.astype(np.float32))


def test_fractions_of_a_rescale_give_what_itk_reads(tmp_path: Path) -> None:
    slices = ct_series()
    each_slice(put("PixelRepresentation", 1))(slices)
    each_slice(put("RescaleSlope", "0.3"))(slices)
    folder = save(tmp_path / "ct", slices)
    pixels = open_folder(folder).read(0, SHAPE[0])
    np.testing.assert_array_equal(pixels, itk.array_from_image(itk_volume(folder)).astype(np.float32))


def test_slices_without_files_are_read_from_their_datasets_and_equal_numbers_do_no_harm() -> None:
    slices = ct_series()
    each_slice(put("InstanceNumber", 1))(slices)
    np.testing.assert_array_equal(ordered(slices).read(0, SHAPE[0]), values().astype(int) - 1024)


def test_stored_values_are_taken_at_the_users_word_alone() -> None:
    slices = ct_series()
    for keyword in ("RescaleSlope", "RescaleIntercept"):
        each_slice(put(keyword, None))(slices)
    with pytest.raises(InputError, match="RescaleSlope is missing"):
        ordered(slices)
    np.testing.assert_array_equal(ordered(slices, stored_values=True).read(0, SHAPE[0]), values())


def test_pixels_that_nothing_here_decodes_are_named_with_the_way_out(tmp_path: Path) -> None:
    slices = ct_series()
    for each in slices:
        each.file_meta.TransferSyntaxUID = HTJ2KLossless
    with pytest.raises(
        InputError, match=r"High-Throughput JPEG 2000 .*1\.2\.840\.10008\.1\.2\.4\.201.*cannot be decoded here"
    ):
        ordered(slices)


def test_two_series_in_a_folder_are_listed_and_one_can_be_named(tmp_path: Path) -> None:
    folder = save(tmp_path / "ct", ct_series("1"))
    save(folder / "other", ct_series("2"))
    with pytest.raises(
        InputError, match=r"2 series; choose one with --series UID: \S+\.1 \(6 × CT\), \S+\.2 \(6 × CT\)"
    ):
        open_folder(folder)
    wanted = ct_series("2")[0].SeriesInstanceUID
    assert open_folder(folder, wanted).series_uid == wanted
    with pytest.raises(InputError, match=r"holds no series 1\.2\.3"):
        open_folder(folder, "1.2.3")
    with pytest.raises(InputError, match="put it into a folder of its own"):
        open_volume(folder)


def test_a_file_that_changes_after_it_was_opened_is_named(tmp_path: Path) -> None:
    folder = save(tmp_path / "ct", ct_series())
    source = open_folder(folder)
    other, lost = source.paths[1], source.paths[3]
    other.write_bytes(source.paths[0].read_bytes())
    lost.unlink()
    with pytest.raises(InputError, match=f"{other.name} is another slice"):
        source.read(1, 2)
    with pytest.raises(InputError, match=f"{lost.name} cannot be read any more"):
        source.read(3, 4)


def test_opening_reads_no_pixels(tmp_path: Path) -> None:
    shape = (400, 500)
    slices = [ct_slice(number, np.zeros(shape, np.uint16)) for number in range(12)]
    folder = save(tmp_path / "ct", slices)
    del slices
    tracemalloc.start()
    source = open_folder(folder)
    opened = tracemalloc.get_traced_memory()[1]
    for number in range(12):
        source.read(number, number + 1)
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    slice_bytes = shape[0] * shape[1] * 2
    assert opened < 3 * slice_bytes
    assert most < 12 * slice_bytes


def test_reading_and_writing_need_pydicom_and_numpy_alone() -> None:
    code = (
        "import sys, pkgutil, importlib\n"
        "for name in ('torch', 'monai', 'PIL', 'itk', 'nibabel', 'highdicom', 'pynetdicom'):\n"
        "    sys.modules[name] = None\n"
        "import bundle.images.dicom\n"
        "for module in pkgutil.iter_modules(bundle.images.dicom.__path__):\n"
        "    importlib.import_module(f'bundle.images.dicom.{module.name}')\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=WORK)
