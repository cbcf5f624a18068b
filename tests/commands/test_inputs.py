"""What a file or folder is, is told by its header; what no header says is asked."""

from __future__ import annotations

import json

import h5py
import nibabel
import nrrd
import numpy as np
import pytest
import tifffile
from PIL import Image

from bundle.commands.inputs import SLIDE, SLIDES, VOLUME, kind_of
from bundle.common.errors import InputError
from tests.helpers.whole_slides import pyramid

FLAT, DEEP = np.zeros((16, 20), np.uint16), np.zeros((5, 16, 20), np.uint16)
COLOUR = np.zeros((64, 80, 3), np.uint8)


def nifti(array):
    return lambda path: nibabel.save(nibabel.Nifti1Image(array, np.eye(4)), path)


def tiff(array, **options):
    return lambda path: tifffile.imwrite(path, array, **options)


def hdf5(path):
    with h5py.File(path, "w") as file:
        file["a"] = DEEP


CASES = {
    "a.png": (lambda path: Image.fromarray(FLAT).save(path), SLIDES),
    "a.tif": (tiff(FLAT), SLIDES),
    "colour.tiff": (tiff(COLOUR, photometric="rgb"), SLIDES),
    "channels.tif": (tiff(DEEP, metadata={"axes": "CYX"}), SLIDES),
    "stack.tif": (tiff(DEEP, imagej=True, metadata={"axes": "ZYX"}), VOLUME),
    "subifd.tif": (lambda path: pyramid(path, COLOUR, "subifd"), SLIDE),
    "pages.tif": (lambda path: pyramid(path, COLOUR, "pages"), SLIDE),
    "a.svs": (lambda path: path.touch(), SLIDE),  # which OpenSlide reads, or says why not
    "flat.nii.gz": (nifti(FLAT), SLIDES),
    "deep.nii": (nifti(DEEP), VOLUME),
    "flat.nrrd": (lambda path: nrrd.write(str(path), FLAT), SLIDES),
    "deep.nrrd": (lambda path: nrrd.write(str(path), DEEP), VOLUME),
    "a.mhd": (lambda path: path.touch(), VOLUME),
    "a.h5": (hdf5, VOLUME),
}


@pytest.mark.parametrize("name", CASES)
def test_a_file_is_what_its_header_says(name, tmp_path):
    write, kind = CASES[name]
    write(tmp_path / name)
    assert kind_of(str(tmp_path / name), 1) == kind


@pytest.mark.parametrize("given", ["s3://bucket/scan.ome.zarr", "https://place/scan.tif", "scan.url"])
def test_what_lies_elsewhere_is_a_volume(given):
    assert kind_of(given, 1) == VOLUME


def test_a_dataset_in_a_file_is_a_volume(tmp_path):
    hdf5(tmp_path / "a.h5")
    assert kind_of(f"{tmp_path}/a.h5:/a", 1) == VOLUME


def test_grey_pages_are_slices_for_a_model_of_one_channel_and_asked_for_any_other(tmp_path):
    path = tmp_path / "pages.tif"
    with tifffile.TiffWriter(path) as file:
        for page in DEEP[:3]:
            file.write(page, metadata=None)
    assert kind_of(str(path), 1) == VOLUME
    with pytest.raises(InputError, match=r"has 3 grey pages, .*say --kind slides or --kind volume\."):
        kind_of(str(path), 3)


def test_a_folder_of_images_is_asked_for(tmp_path):
    for number in range(3):
        Image.fromarray(FLAT).save(tmp_path / f"{number}.png")
    with pytest.raises(InputError, match=r"holds 3 images, .*--kind slides .*or --kind volume\."):
        kind_of(str(tmp_path), 1)
    for number in (1, 2):
        (tmp_path / f"{number}.png").unlink()
    assert kind_of(str(tmp_path), 1) == SLIDES


@pytest.mark.parametrize(("axes", "version"), [("zyx", 4), ("czyx", 5)])
def test_an_ome_zarr_with_z_is_a_volume_and_one_without_is_refused(tmp_path, axes, version):
    def write(axes):
        told = {"multiscales": [{"axes": [{"name": name} for name in axes]}]}
        (tmp_path / ".zgroup").write_text("{}")
        name, content = (".zattrs", told) if version == 4 else ("zarr.json", {"attributes": {"ome": told}})
        (tmp_path / name).write_text(json.dumps(content))

    write(axes)
    assert kind_of(str(tmp_path), 1) == VOLUME
    write(axes.replace("z", ""))
    with pytest.raises(InputError, match="an OME-Zarr without z, so a slide; .*convert it to OME-TIFF"):
        kind_of(str(tmp_path), 1)


def dicom(path, sop_class):
    import pydicom
    from pydicom.uid import ExplicitVRLittleEndian, generate_uid

    meta = pydicom.dataset.FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = sop_class, generate_uid()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset = pydicom.dataset.FileDataset(path, {}, file_meta=meta, preamble=b"\0" * 128)
    dataset.SOPClassUID, dataset.SOPInstanceUID = sop_class, meta.MediaStorageSOPInstanceUID
    dataset.save_as(path, enforce_file_format=True)


def test_dicom_is_told_by_its_class(tmp_path):
    series, slide = tmp_path / "ct", tmp_path / "sm"
    series.mkdir()
    slide.mkdir()
    dicom(series / "1.dcm", "1.2.840.10008.5.1.4.1.1.2")
    dicom(slide / "1.dcm", "1.2.840.10008.5.1.4.1.1.77.1.6")
    assert kind_of(str(series), 1) == VOLUME
    assert kind_of(str(slide / "1.dcm"), 3) == SLIDE
    with pytest.raises(InputError, match=r"a scan is a series: name its folder"):
        kind_of(str(series / "1.dcm"), 1)
    with pytest.raises(InputError, match=r"a whole slide in DICOM; name one of its files"):
        kind_of(str(slide), 3)


def test_a_list_is_a_volume_of_channels(tmp_path):
    for name in ("a.nii", "b.nii"):
        nifti(DEEP)(tmp_path / name)
    assert kind_of([str(tmp_path / "a.nii"), str(tmp_path / "b.nii")], 2) == VOLUME
    Image.fromarray(FLAT).save(tmp_path / "a.png")
    with pytest.raises(InputError, match="put 2D images into a folder"):
        kind_of([str(tmp_path / "a.png")], 1)


@pytest.mark.parametrize(
    ("name", "said"), [("a.txt", "is no image, volume or slide"), ("b.tif", "cannot be read"), ("c", "holds no image")]
)
def test_anything_else_is_refused(tmp_path, name, said):
    (tmp_path / "a.txt").touch()
    (tmp_path / "b.tif").write_bytes(b"II*\0 no tiff")
    (tmp_path / "c" / "d").mkdir(parents=True)
    with pytest.raises(InputError, match=said):
        kind_of(str(tmp_path / name), 1)
    with pytest.raises(InputError, match=r"missing\.tif does not exist"):
        kind_of(str(tmp_path / "missing.tif"), 1)
