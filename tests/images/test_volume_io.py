"""Scans written by other programs come through with their voxels, size and place in the world; ITK is the judge."""

import json

import itk
import nibabel
import nrrd
import numpy as np
import pytest
import tifffile
from PIL import Image

from bundle.common.errors import InputError
from bundle.images.volumes.volume import described, open_unsized, open_volume, resample
from tests.helpers.scans import SHAPE, SPACING, STACKS, itk_write, random, rotation, write_folder, write_zarr


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int16, np.float32])
@pytest.mark.parametrize(
    ("name", "compression"),
    [("s.nii", False), ("s.nii.gz", False), ("s.nrrd", False), ("s.nrrd", True), ("s.nhdr", False)]
    + [("s.mha", False), ("s.mha", True), ("s.mhd", False), ("s.mhd", True)],
)
def test_itk_agrees(name, compression, dtype, tmp_path):
    path = tmp_path / name
    itk_write(path, random(dtype), compression)
    image = itk.imread(path)
    volume = open_volume(path)
    assert volume.shape == SHAPE
    assert volume.dtype == dtype
    assert np.array_equal(volume.read(0, SHAPE[0]), itk.array_from_image(image))
    for start, stop in ((3, 5), (9, 11), (0, 1)):  # on and back again
        pixels = volume.read(start, stop)
        assert pixels.dtype == dtype
        assert np.array_equal(pixels, itk.array_from_image(image)[start:stop])
    geometry = volume.geometry
    assert geometry.spacing_um == pytest.approx([1000 * size for size in list(image.GetSpacing())[::-1]], rel=1e-5)
    assert geometry.origin_mm == pytest.approx(list(image.GetOrigin()), rel=1e-5)
    assert geometry.direction == pytest.approx(itk.array_from_matrix(image.GetDirection()), abs=1e-5)


@pytest.mark.parametrize(("qform", "sform"), [(0, 0), (1, 0), (0, 2), (1, 1), (1, 2), (2, 4)])
def test_itk_agrees_on_which_nifti_form_counts(qform, sform, tmp_path):
    image = nibabel.Nifti1Image(random(np.int16).T, None)
    image.header.set_xyzt_units("mm")
    image.set_qform(np.array([[-0.005, 0, 0, 1], [0, -0.006, 0, 2], [0, 0, 0.007, 3], [0, 0, 0, 1]]), qform)
    image.set_sform(np.array([[0.005, 0, 0, 7], [0, 0.006, 0, 8], [0, 0, 0.007, 9], [0, 0, 0, 1]]), sform)
    image.to_filename(tmp_path / "s.nii")
    expected, geometry = itk.imread(tmp_path / "s.nii"), open_volume(tmp_path / "s.nii").geometry
    assert geometry.origin_mm == pytest.approx(list(expected.GetOrigin()), abs=1e-6)
    assert geometry.direction == pytest.approx(itk.array_from_matrix(expected.GetDirection()), abs=1e-6)


@pytest.mark.parametrize("space", ["right-anterior-superior", "left-anterior-superior", "LPS", "scanner-xyz"])
def test_itk_agrees_on_nrrd_spaces(space, tmp_path):
    header = {"space": space, "space directions": rotation() @ np.diag(SPACING[::-1]), "space origin": [1, 2, 3]}
    header["space directions"] = header["space directions"].T
    nrrd.write(str(tmp_path / "s.nrrd"), random().T, header)
    expected, geometry = itk.imread(tmp_path / "s.nrrd"), open_volume(tmp_path / "s.nrrd").geometry
    assert geometry.origin_mm == pytest.approx(list(expected.GetOrigin()))
    assert geometry.direction == pytest.approx(itk.array_from_matrix(expected.GetDirection()))


@pytest.mark.parametrize(
    ("header", "spacing_um"),
    [
        ({"spacings": [0.005, 0.006, 0.007]}, (7, 6, 5)),
        ({"spacings": [5, 6, 7], "units": ["um"] * 3}, (7, 6, 5)),
        ({"spacings": [1, 1, 1], "units": ["um"] * 3}, (1, 1, 1)),
        ({"space": "LPS", "space directions": np.diag([5, 6, 7]), "space units": ["micron"] * 3}, (7, 6, 5)),
        ({"spacings": [1, 1, 1]}, None),
        ({}, None),
    ],
)
def test_units_of_nrrd(header, spacing_um, tmp_path):
    path = tmp_path / "s.nrrd"
    nrrd.write(str(path), random().T, header)
    if spacing_um:
        assert open_volume(path).geometry.spacing_um == pytest.approx(spacing_um)
    else:
        with pytest.raises(InputError, match="s.nrrd states no voxel size; give it in µm with --scan_voxel_um"):
            open_volume(path)


@pytest.mark.parametrize(("unit", "factor"), [("mm", 0.001), ("micron", 1.0), ("meter", 1e-6)])
def test_units_of_nifti(unit, factor, tmp_path):
    image = nibabel.Nifti1Image(random(np.int16).T, np.diag([-5 * factor, -6 * factor, 7 * factor, 1]))
    image.affine[:3, 3] = [-1 * factor, 0, 2 * factor]
    image = nibabel.Nifti1Image(random(np.int16).T, image.affine)
    image.header.set_xyzt_units(unit)
    image.to_filename(tmp_path / "s.nii")
    geometry = open_volume(tmp_path / "s.nii").geometry
    assert geometry.spacing_um == pytest.approx((7, 6, 5))
    assert geometry.origin_mm == pytest.approx((0.001, 0, 0.002))


def test_nifti_is_scaled_by_its_slope(tmp_path):
    image = nibabel.Nifti1Image(random(np.float32).T, np.eye(4))
    image.set_data_dtype(np.int16)
    image.to_filename(tmp_path / "s.nii.gz")
    volume = open_volume(tmp_path / "s.nii.gz", 5)
    expected = np.asarray(nibabel.load(tmp_path / "s.nii.gz").dataobj).T
    assert np.array_equal(volume.read(2, 9), expected[2:9])
    assert volume.dtype == expected.dtype
    assert expected == pytest.approx(random(np.float32), abs=0.1)


def test_a_fourth_axis_of_one_is_dropped(tmp_path):
    nibabel.Nifti1Image(random(np.int16).T[..., None], np.eye(4)).to_filename(tmp_path / "s.nii")
    nrrd.write(str(tmp_path / "s.nrrd"), random(np.int16).T[None], {"space directions": [[np.nan] * 3, *np.eye(3)]})
    for name in ("s.nii", "s.nrrd"):
        assert np.array_equal(open_volume(tmp_path / name, 5).read(0, 11), random(np.int16))


def test_big_endian_is_read(tmp_path):
    swapped = random(np.int16).astype(">i2")
    tifffile.imwrite(tmp_path / "s.tif", swapped, byteorder=">")
    nrrd.write(str(tmp_path / "s.nrrd"), swapped.T, {"encoding": "raw"})
    header = "NDims = 3\nDimSize = 17 14 11\nElementType = MET_SHORT\nElementByteOrderMSB = True\n"
    (tmp_path / "s.mhd").write_text(header + "HeaderSize = -1\nElementDataFile = s.raw\n")
    (tmp_path / "s.raw").write_bytes(b"header" + swapped.tobytes())
    for name in ("s.tif", "s.nrrd", "s.mhd"):
        volume = open_volume(tmp_path / name, 5)
        assert volume.dtype == np.dtype(np.int16)
        assert np.array_equal(volume.read(2, 5), random(np.int16)[2:5])


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("name", STACKS)
def test_slices_are_in_order(name, dtype, tmp_path):
    STACKS[name](tmp_path / name, random(dtype))
    volume = open_volume(tmp_path / name, (7.0, 6.0, 5.0))
    assert volume.shape == SHAPE
    assert volume.dtype == dtype
    assert volume.geometry.spacing_um == (7, 6, 5)
    for start, stop in ((0, 11), (9, 11), (1, 4)):
        assert np.array_equal(volume.read(start, stop), random(dtype)[start:stop])
    for start, stop in ((-1, 2), (3, 3), (5, 12)):
        with pytest.raises(IndexError, match="of 11"):
            volume.read(start, stop)


@pytest.mark.parametrize("dtype", [bool, np.int8, np.float32, np.float64, np.uint32])
def test_other_types_of_a_stack(dtype, tmp_path):
    tifffile.imwrite(tmp_path / "s.tif", random(dtype), photometric="minisblack")
    volume = open_volume(tmp_path / "s.tif", 5)
    assert np.array_equal(volume.read(2, 5), random(dtype)[2:5])
    assert resample(volume, 10).dtype == np.float32


def test_itk_and_pil_stacks_are_read(tmp_path):
    itk.imwrite(itk.image_from_array(random()), str(tmp_path / "itk.tif"))
    first, *others = [Image.fromarray(plane) for plane in random()]
    first.save(tmp_path / "pil.tif", save_all=True, append_images=others, compression="tiff_lzw")
    for name in ("itk.tif", "pil.tif"):
        assert np.array_equal(open_volume(tmp_path / name, 5).read(0, 11), random())


IMAGEJ = {"imagej": True, "resolution": (1 / 5, 1 / 6)}
STATED = {
    "imagej.tif": ({**IMAGEJ, "metadata": {"axes": "ZYX", "spacing": 7, "unit": "um"}}, (7, 6, 5)),
    "imagej_micron.tif": ({**IMAGEJ, "metadata": {"axes": "ZYX", "spacing": 7, "unit": "micron"}}, (7, 6, 5)),
    "imagej_escape.tif": ({**IMAGEJ, "metadata": {"axes": "ZYX", "spacing": 7, "unit": "\\u00B5m"}}, (7, 6, 5)),
    "imagej_mm.tif": (
        {"imagej": True, "resolution": (200, 200), "metadata": {"axes": "ZYX", "spacing": 0.005, "unit": "mm"}},
        (5, 5, 5),
    ),
    "imagej_1.tif": (
        {"imagej": True, "resolution": (1, 1), "metadata": {"axes": "ZYX", "spacing": 1, "unit": "um"}},
        (1, 1, 1),
    ),
    "s.ome.tif": (
        {"metadata": {"axes": "ZYX", "PhysicalSizeX": 5, "PhysicalSizeY": 6000, "PhysicalSizeYUnit": "nm"}
         | {"PhysicalSizeZ": 0.007, "PhysicalSizeZUnit": "mm"}},
        (7, 6, 5),
    ),
    "imagej_pixel.tif": ({**IMAGEJ, "metadata": {"axes": "ZYX", "spacing": 7, "unit": "pixel"}}, None),
    "plain.tif": ({"photometric": "minisblack"}, None),
}  # fmt: skip


@pytest.mark.parametrize("name", STATED)
def test_voxel_size_of_a_stack(name, tmp_path):
    options, spacing_um = STATED[name]
    tifffile.imwrite(tmp_path / name, random(), **options)
    if spacing_um:
        assert open_volume(tmp_path / name).geometry.spacing_um == pytest.approx(spacing_um, rel=1e-5)
    else:
        with pytest.raises(InputError, match=f"{name} states no voxel size; give it in µm with --scan_voxel_um"):
            open_volume(tmp_path / name)


def test_a_pixel_size_is_no_voxel_size(tmp_path):
    centimetre = {"resolution": (2000, 2000), "resolutionunit": 3}
    tifffile.imwrite(tmp_path / "s.tif", random(), photometric="minisblack", **centimetre)
    write_folder(tmp_path / "folder", random(), **centimetre)
    for name in ("s.tif", "folder"):
        with pytest.raises(InputError, match=f"{name} states pixels of 5 µm but no distance .*--scan_voxel_um 5"):
            open_volume(tmp_path / name)


@pytest.mark.parametrize("version", [2, 3])
@pytest.mark.parametrize(("unit", "um"), [("millimeter", 1000.0), ("nanometer", 0.001), ("meter", 1e6)])
def test_voxel_size_and_place_of_ome_zarr(version, unit, um, tmp_path):
    scale, place = [1.0, 7 / um, 6 / um, 5 / um], [0.0, 70 / um, 60 / um, 50 / um]
    of_all = [{"type": "scale", "scale": [1.0, 2.0, 2.0, 2.0]}]
    write_zarr(tmp_path / "s", random(), version, "czyx", unit, scale, place, of_all)
    geometry = open_volume(tmp_path / "s").geometry
    assert geometry.spacing_um == pytest.approx((14, 12, 10))
    assert geometry.origin_mm == pytest.approx((0.1, 0.12, 0.14))


def test_a_zarr_is_told_from_a_folder_by_its_metadata(tmp_path):
    write_zarr(tmp_path / "s", random())
    assert json.loads((tmp_path / "s" / ".zattrs").read_text())["multiscales"]
    assert open_volume(tmp_path / "s").depth == 4


def test_a_scan_is_described_in_one_line(tmp_path):
    itk_write(tmp_path / "s.nrrd", random())
    volume = open_volume(str(tmp_path / "s.nrrd"))  # a string is a path, too
    assert described(volume, 5, 70.5, 11) == (
        f"{tmp_path / 's.nrrd'}: 11×14×17 voxels (z×y×x) of 7×6×5 µm, uint16, values 5 to 70.5, "
        "origin (x, y, z) 1, -2, 3.5 mm"
    )
    assert ", values 0 to 1 in 3 slices, " in described(volume, 0, 1, 3)
    tifffile.imwrite(tmp_path / "s.tif", random(), photometric="minisblack")
    assert "(z×y×x) of a size that is not stated, uint16" in described(open_unsized(str(tmp_path / "s.tif")), 0, 1, 11)
    assert open_unsized(tmp_path / "s.nrrd").geometry.spacing_um == (7, 6, 5)
