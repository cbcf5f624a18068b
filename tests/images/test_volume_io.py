"""Scans written by other programs come through with their voxels, size and place in the world; ITK is the judge."""

import gzip
import json
import re
import tracemalloc
from dataclasses import replace

import itk
import nibabel
import nrrd
import numpy as np
import pytest
import tifffile
import zarr
from PIL import Image
from skimage.measure import block_reduce

from bundle.common.errors import InputError
from bundle.images.volumes.volume import described, load, open_unsized, open_volume, resample

SHAPE = (11, 14, 17)  # three sizes, so that axes cannot be mistaken
SPACING = (0.007, 0.006, 0.005)  # mm, z y x


def random(dtype=np.uint16, shape=SHAPE, seed=0):
    values = np.random.default_rng(seed).random(shape)
    if np.issubdtype(dtype, np.bool_):
        return values > 0.5
    if np.issubdtype(dtype, np.floating):
        return (values * 1000).astype(dtype)
    return (np.iinfo(dtype).min + values * (np.iinfo(dtype).max - np.iinfo(dtype).min)).astype(dtype)


def rotation(a=0.3, b=-0.5):
    about_z = np.array([[np.cos(a), -np.sin(a), 0], [np.sin(a), np.cos(a), 0], [0, 0, 1]])
    about_x = np.array([[1, 0, 0], [0, np.cos(b), -np.sin(b)], [0, np.sin(b), np.cos(b)]])
    return about_z @ about_x


def itk_write(path, pixels, compression=False, spacing=SPACING, direction=None):
    image = itk.image_from_array(pixels)
    image.SetSpacing(spacing[::-1])
    image.SetOrigin([1.0, -2.0, 3.5])
    image.SetDirection(itk.matrix_from_array(rotation() if direction is None else direction))
    itk.imwrite(image, str(path), compression=compression)


def write_folder(path, pixels, suffix=".tif", **options):
    path.mkdir()
    for number, plane in enumerate(pixels):
        name = path / f"slice_{number}{suffix}"
        Image.fromarray(plane).save(name) if suffix == ".png" else tifffile.imwrite(name, plane, **options)


def write_zarr(path, pixels, version=2, axes="zyx", unit="micrometer", scale=None, translation=None, of_all=None):
    """OME-NGFF 0.4 (Zarr 2) or 0.5 (Zarr 3), by the specification."""
    group = zarr.open_group(path, mode="w", zarr_format=version)
    stored = pixels.reshape(*[1] * (len(axes) - 3), *pixels.shape)
    chunks = tuple(min(4, size) for size in stored.shape)
    group.create_array("0", shape=stored.shape, chunks=chunks, dtype=stored.dtype)[:] = stored
    kinds = {"t": {"type": "time"}, "c": {"type": "channel"}}
    space = {"type": "space", **({"unit": unit} if unit else {})}
    transformations = [{"type": "scale", "scale": scale or [1.0] * (len(axes) - 3) + [7.0, 6.0, 5.0]}]
    if translation:
        transformations.append({"type": "translation", "translation": translation})
    multiscale = {
        "axes": [{"name": name, **kinds.get(name, space)} for name in axes],
        "datasets": [{"path": "0", "coordinateTransformations": transformations}],
        **({"coordinateTransformations": of_all} if of_all else {}),
    }
    group.attrs.update({"multiscales": [multiscale]} if version == 2 else {"ome": {"multiscales": [multiscale]}})


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


def pages_one_by_one(path, pixels, **options):
    with tifffile.TiffWriter(path) as file:
        for plane in pixels:
            file.write(plane, **options)


STACKS = {
    "raw.tif": lambda path, pixels: tifffile.imwrite(path, pixels, photometric="minisblack"),
    "zlib.tif": lambda path, pixels: tifffile.imwrite(path, pixels, photometric="minisblack", compression="zlib"),
    "bare.tiff": lambda path, pixels: tifffile.imwrite(path, pixels, photometric="minisblack", metadata=None),
    "each.tif": lambda path, pixels: pages_one_by_one(path, pixels, compression="zlib"),
    "each_bare.tif": lambda path, pixels: pages_one_by_one(path, pixels, metadata=None),
    "tiled.tif": lambda path, pixels: tifffile.imwrite(path, pixels, tile=(16, 16), photometric="minisblack"),
    "folder": write_folder,
    "png_folder": lambda path, pixels: write_folder(path, pixels, ".png"),
    "v2.zarr": write_zarr,
    "v3.zarr": lambda path, pixels: write_zarr(path, pixels, 3),
    "five.zarr": lambda path, pixels: write_zarr(path, pixels, 3, "tczyx"),
}


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


def unreadable_slice(path):
    write_folder(path, random())
    (path / "slice_7.tif").write_bytes(b"II*\0")


def odd_slice(path, plane):
    write_folder(path, random())
    tifffile.imwrite(path / "slice_7.tif", plane)


def cut_zarr(path):
    write_zarr(path, random())
    chunk = next(each for each in (path / "0").rglob("*") if each.is_file() and each.name[0] != ".")
    chunk.write_bytes(chunk.read_bytes()[:10])


WRONG = {
    "missing.tif": (lambda path: None, "does not exist"),
    "scan.jpg": (lambda path: path.write_bytes(b""), "is not a scan this program reads"),
    "empty": (lambda path: path.mkdir(), "holds no slices"),
    "empty.tif": (lambda path: path.write_bytes(b""), "cannot be read"),
    "empty.nrrd": (lambda path: path.write_bytes(b""), "cannot be read"),
    "empty.mha": (lambda path: path.write_bytes(b""), "cannot be read"),
    "empty.nii": (lambda path: path.write_bytes(b""), "cannot be read"),
    "empty.nii.gz": (lambda path: path.write_bytes(b""), "cannot be read"),
    "text.nii.gz": (lambda path: path.write_text("version https://git-lfs"), "cannot be read"),
    "text.mhd": (lambda path: path.write_text("version https://git-lfs"), "cannot be read"),
    "flat.tif": (lambda path: tifffile.imwrite(path, random()[0]), "is 1×14×17 voxels; .*at least 2 slices"),
    "flat.nrrd": (lambda path: itk_write(path, random()[:1]), "is 1×14×17 voxels; .*at least 2 slices"),
    "rgb.tif": (lambda path: tifffile.imwrite(path, np.zeros((9, 8, 8, 3), np.uint8), photometric="rgb"), "grey"),
    "planar.tif": (lambda path: tifffile.imwrite(path, random(shape=(3, 9, 8)), photometric="rgb"), "grey"),
    "rgb.nrrd": (
        lambda path: nrrd.write(
            str(path), random(shape=(3, 9, 9, 9)), {"space directions": [[np.nan] * 3, *np.eye(3)]}
        ),
        "one grey volume",
    ),
    "rgb.mha": (
        lambda path: itk.imwrite(itk.image_from_array(random(shape=(9, 9, 9, 3)), is_vector=True), str(path)),
        "one grey volume",
    ),
    "complex.nii": (
        lambda path: nibabel.Nifti1Image(random(np.float32).astype(np.complex64), np.eye(4)).to_filename(path),
        "holds complex64; a scan is grey",
    ),
    "complex.tif": (
        lambda path: tifffile.imwrite(path, random(np.float32).astype(np.complex64), photometric="minisblack"),
        "holds complex64; a scan is grey",
    ),
    "frames.nii": (
        lambda path: nibabel.Nifti1Image(random(np.int16, (9, 8, 7, 2)), np.eye(4)).to_filename(path),
        "has 4 axes, 9×8×7×2",
    ),
    "sheared.nii": (
        lambda path: nibabel.Nifti1Image(
            random(np.int16), np.array([[1, 0.3, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
        ).to_filename(path),
        "not perpendicular",
    ),
    "no_units.nii": (
        lambda path: nibabel.Nifti1Image(random(np.int16), np.diag([2, 2, 2, 1])).to_filename(path),
        "states no voxel size",
    ),
    "ones.mha": (lambda path: itk_write(path, random(), spacing=(1.0, 1.0, 1.0)), "states no voxel size"),
    "bare.zarr": (lambda path: write_zarr(path, random(), unit=None), "states no voxel size"),
    "xyz.zarr": (lambda path: write_zarr(path, random(), axes="xyz"), "has axes x, y, z"),
    "group.zarr": (lambda path: zarr.open_group(path, mode="w"), "states no multiscales"),
    "broken.zarr": (lambda path: (path.mkdir(), (path / "zarr.json").write_text("{")), "cannot be read"),
    "odd_shape": (lambda path: odd_slice(path, random()[0, 1:]), "slice_7.tif is 13×17 uint16, slice_0.tif 14×17"),
    "odd_type": (lambda path: odd_slice(path, random(np.uint8)[0]), "slice_7.tif is 14×17 uint8, slice_0.tif 14×17"),
    "odd_pages": (lambda path: odd_slice(path, random()), r"slice_7.tif is 11×14×17 uint16"),
    "cut_slice": (unreadable_slice, "slice_7.tif cannot be read"),
    "odd.tif": (
        lambda path: pages_one_by_one(path, [*random()[:4], random()[4, 1:]]),
        "slice 4, is 13×17 uint16, slice 0 14×17",
    ),
    "list.mhd": (
        lambda path: path.write_text(
            "NDims = 3\nDimSize = 9 9 9\nElementType = MET_SHORT\nElementDataFile = s%03d.raw 1 9 1\n"
        ),
        "several files",
    ),
    "alone.mhd": (
        lambda path: path.write_text("NDims = 3\nDimSize = 9 9 9\nElementType = MET_SHORT\nElementDataFile = s.raw\n"),
        "data file .*s.raw, which does not exist",
    ),
    "text.mha": (
        lambda path: path.write_text(
            "NDims = 3\nDimSize = 2 2 2\nBinaryData = False\nElementType = MET_SHORT\nElementDataFile = LOCAL\n"
            + "12 " * 8
        ),
        "as text",
    ),
    "hex.nrrd": (lambda path: nrrd.write(str(path), random(), {"encoding": "ascii"}), "encoded as ascii"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_no_scan_is_refused_in_a_line(name, tmp_path):
    make, message = WRONG[name]
    make(tmp_path / name)
    with pytest.raises(InputError, match=rf"{name}.*{message}") as error:
        open_volume(tmp_path / name)
    assert "\n" not in str(error.value)


def truncate(path, kept):
    content = path.read_bytes()
    path.write_bytes(content[: int(kept * len(content))])


@pytest.mark.parametrize("kept", [0.3, 0.6, 0.95])
@pytest.mark.parametrize(
    ("name", "write"),
    [(name, itk_write) for name in ("s.nii", "s.nii.gz", "s.nrrd", "s.mha")]
    + [(f"packed{name}", lambda path, pixels: itk_write(path, pixels, True)) for name in (".nrrd", ".mha")]
    + [(name, STACKS[name]) for name in ("raw.tif", "zlib.tif", "each.tif", "tiled.tif")],
)
def test_a_truncated_scan_is_refused_by_name(name, write, kept, tmp_path):
    write(tmp_path / name, random())
    truncate(tmp_path / name, kept)
    with pytest.raises(InputError, match=f"{name}.* cannot be read, it may be truncated") as error:
        open_volume(tmp_path / name, 5).read(0, 11)
    assert "\n" not in str(error.value)


def test_the_truncated_slice_is_named(tmp_path):
    write_folder(tmp_path / "folder", random(), compression="zlib")
    damaged = tmp_path / "folder" / "slice_7.tif"
    with tifffile.TiffFile(damaged) as file:
        at = file.pages.first.dataoffsets[0]
    content = bytearray(damaged.read_bytes())
    content[at : at + 20] = bytes(20)
    damaged.write_bytes(content)
    pages_one_by_one(tmp_path / "s.tif", random(), compression="zlib")
    with tifffile.TiffFile(tmp_path / "s.tif") as file:
        at = file.pages[7].dataoffsets[0]
    content = bytearray((tmp_path / "s.tif").read_bytes())
    content[at : at + 20] = bytes(20)
    (tmp_path / "s.tif").write_bytes(content)
    for name, message in (("folder", "slice_7.tif cannot be read"), ("s.tif", "s.tif, slice 7, cannot be read")):
        volume = open_volume(tmp_path / name, 5)
        volume.read(0, 7)
        with pytest.raises(InputError, match=message):
            resample(volume, 10)
    cut_zarr(tmp_path / "s.zarr")
    with pytest.raises(InputError, match=r"s.zarr, slice \d+, cannot be read"):
        open_volume(tmp_path / "s.zarr").read(0, 11)


def test_the_slice_where_a_file_ends_is_named(tmp_path):
    """As when it was cut short after it was opened, or the disk fails there."""
    for name, compression in (("s.nii", False), ("s.nrrd", False), ("s.nrrd", True), ("s.mha", True)):
        path = tmp_path / name
        itk_write(path, random(), compression)
        if compression:  # of which a little more than the header is read ahead
            truncate(path, 0.75)
        volume = open_volume(path)
        volume.read(0, 2)
        if not compression:
            truncate(path, 0.75)
        with pytest.raises(InputError, match=rf"{name}, slice [5-9], cannot be read") as error:
            volume.read(2, 11)
        number = int(re.search(r"slice (\d)", str(error.value))[1])
        assert np.array_equal(volume.read(0, number), random()[:number])


def test_a_read_that_fails_once_is_tried_again(tmp_path):
    itk_write(tmp_path / "s.nrrd", random())
    volume = open_volume(tmp_path / "s.nrrd")
    failures = [OSError("stale file handle")]

    def slices(start, stop):
        if failures:
            raise failures.pop()
        return volume.slices(start, stop)

    assert np.array_equal(replace(volume, slices=slices).read(2, 9), random()[2:9])


@pytest.mark.parametrize("suffix", [".tif", ".png"])
def test_a_number_left_out_of_a_folder_is_named(suffix, tmp_path):
    write_folder(tmp_path / "s", random(), suffix)
    for number, message in ((4, r"lacks slice 4, between slice_3.\w+ and slice_5.\w+ \(1 missing in all\)"),
                            (9, r"lacks slice 4, .*\(2 missing in all\)")):  # fmt: skip
        (tmp_path / "s" / f"slice_{number}{suffix}").unlink()
        with pytest.raises(InputError, match=message) as error:
            open_volume(tmp_path / "s", 5)
        assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "names",
    [
        [f"slice_{number:03d}.tif" for number in range(7, 18)],
        [f"2x_{number}_rec.tif" for number in range(0, 110, 10)],  # each tenth, as they were kept
        [f"scan_{number}_{number % 2}.tif" for number in [*range(10), 12]],  # two numbers: which counts is not known
        [f"{name}.tif" for name in "abcdefghijk"],
        [f"z{number}_{900 + 7 * number}.tif" for number in range(11)],  # and a time of day
        [f"slice_{number / 2:.1f}.tif" for number in range(11)],
    ],
)
def test_names_without_a_gap_are_taken(names, tmp_path):
    for name, plane in zip(names, random(), strict=True):
        tifffile.imwrite(tmp_path / name, plane)
    assert open_volume(tmp_path, 5).shape == SHAPE


def test_a_zarr_is_told_from_a_folder_by_its_metadata(tmp_path):
    write_zarr(tmp_path / "s", random())
    assert json.loads((tmp_path / "s" / ".zattrs").read_text())["multiscales"]
    assert open_volume(tmp_path / "s").depth == 4


@pytest.mark.parametrize("name", STACKS)
def test_integer_ratio_is_block_reduce(name, tmp_path):
    pixels = random(shape=(12, 16, 20))
    STACKS[name](tmp_path / name, pixels)
    done = []
    averaged = resample(open_volume(tmp_path / name, 5), 20, lambda *progress: done.append(progress))
    assert averaged.dtype == np.float32
    assert averaged == pytest.approx(block_reduce(pixels, (4, 4, 4), np.mean), rel=1e-5)
    assert done[-1] == (12, 12)


def test_anisotropic_voxels_become_cubes(tmp_path):
    pixels = random(shape=(12, 18, 24))
    tifffile.imwrite(tmp_path / "s.tif", pixels, photometric="minisblack")
    averaged = resample(open_volume(tmp_path / "s.tif", (6, 4, 3)), 12)
    assert averaged == pytest.approx(block_reduce(pixels, (2, 3, 4), np.mean), rel=1e-5)


def world_of(shape, spacing_mm, origin_mm, direction):
    """World x, y, z of each voxel of a grid, (Z, Y, X, 3)."""
    index = np.stack(np.meshgrid(*(np.arange(size) for size in shape), indexing="ij")[::-1], -1)
    return np.array(origin_mm) + index * np.array(spacing_mm[::-1]) @ np.array(direction).T


@pytest.mark.parametrize(
    ("spacing", "voxel_um", "exact"),
    [((0.004, 0.006, 0.003), 12.0, True), ((0.005,) * 3, 15.0, True)]
    + [(SPACING, voxel_um, False) for voxel_um in (7.07, 8.0, 11.3, 21.0)],
)
def test_a_ramp_in_the_world_stays_one(spacing, voxel_um, exact, tmp_path):
    slope = np.array([3.0, -5.0, 7.0])
    ramp = world_of((40, 42, 44), spacing, (1.0, -2.0, 3.5), rotation()) @ slope
    itk_write(tmp_path / "s.mha", ramp, spacing=spacing)
    pixels, geometry = load(open_volume(tmp_path / "s.mha"), voxel_um)
    assert geometry.spacing_um == (voxel_um,) * 3
    spacing_mm = [size / 1000 for size in geometry.spacing_um]
    expected = world_of(pixels.shape, spacing_mm, geometry.origin_mm, geometry.direction) @ slope
    inner = tuple(slice(None, size - 1) for size in pixels.shape)  # a last box may be half outside
    # a box that cuts a voxel takes its part as of the voxel's value: at most 1/8 of a step and voxel at each end
    steps = np.abs(slope @ rotation()) * spacing[::-1] * spacing[::-1] / (voxel_um / 1000)
    error = pixels[inner] - expected[inner]
    assert np.abs(error).max() < (0 if exact else steps.sum() / 8) + 1e-5
    assert abs(error.mean()) < (0 if exact else steps.sum() / 24) + 1e-5


def test_load_at_its_own_size_is_the_file(tmp_path):
    itk_write(tmp_path / "s.nrrd", random(), spacing=(0.005, 0.005, 0.00503))
    volume = open_volume(tmp_path / "s.nrrd")
    pixels, geometry = load(volume)
    assert pixels.dtype == np.uint16
    assert np.array_equal(pixels, random())
    assert geometry is volume.geometry
    same, geometry = load(volume, 5.0)
    assert same.dtype == np.float32
    assert np.array_equal(same, random().astype(np.float32))
    assert geometry is volume.geometry


def test_voxels_that_are_no_cubes_need_a_size(tmp_path):
    itk_write(tmp_path / "s.nrrd", random())
    with pytest.raises(InputError, match=r"s.nrrd has voxels of 7×6×5 µm .*--voxel_um 7 resamples"):
        load(open_volume(tmp_path / "s.nrrd"))


def test_sizes_that_make_no_sense_are_refused(tmp_path):
    itk_write(tmp_path / "s.nrrd", random())
    volume = open_volume(tmp_path / "s.nrrd")
    for voxel_um in (5.0, 6.9, float("nan")):
        with pytest.raises(InputError, match=rf"voxels of 7×6×5 µm, coarser than the {voxel_um:g} µm asked for"):
            resample(volume, voxel_um)
    with pytest.raises(InputError, match="77×84×85 µm in all, less than one voxel of 500 µm"):
        resample(volume, 500)
    for voxel_um in (0, -5, float("nan"), (5, 5, 0)):
        with pytest.raises(InputError, match=r"--scan_voxel_um .*give one size in µm, or three"):
            open_volume(tmp_path / "s.nrrd", voxel_um)


@pytest.mark.parametrize("name", ["raw.tif", "zlib.tif", "s.nii.gz", "s.mha", "s.zarr"])
def test_resampling_holds_a_few_slices_only(name, tmp_path):
    pixels = np.broadcast_to(np.arange(400, dtype=np.uint16)[:, None, None], (400, 512, 512))  # 210 MB
    pixels = np.ascontiguousarray(pixels)
    path = tmp_path / name
    if name == "s.nii.gz":
        image = nibabel.Nifti1Image(pixels.T, np.eye(4))
        image.header.set_xyzt_units("mm")
        path.write_bytes(gzip.compress(image.to_bytes(), 1))
    elif name == "s.mha":
        itk_write(path, pixels, True)
    elif name == "s.zarr":
        group = zarr.open_group(path, mode="w")
        group.create_array("0", shape=pixels.shape, chunks=(16, 256, 256), dtype="u2")[:] = pixels
        axes = [{"name": each, "type": "space", "unit": "micrometer"} for each in "zyx"]
        group.attrs["ome"] = {"multiscales": [{"axes": axes, "datasets": [{"path": "0"}]}]}
    else:
        STACKS[name](path, pixels)
    size = pixels.nbytes
    del pixels
    volume = open_volume(path, 5)
    tracemalloc.start()
    averaged = resample(volume, 20)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert averaged[:, 5, 7] == pytest.approx(4 * np.arange(100) + 1.5)
    assert peak < size / 2


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


def test_a_slice_that_memory_does_not_hold_is_one_line(tmp_path):
    itk_write(tmp_path / "s.nrrd", random())

    def slices(start, stop):
        raise MemoryError

    with pytest.raises(InputError, match=r"s.nrrd needs 4.76e-07 GB a slice, more memory than there is"):
        replace(open_volume(tmp_path / "s.nrrd"), slices=slices).read(0, 2)


def test_a_nifti_without_a_unit_is_told_what_its_numbers_would_be_in_mm(tmp_path):
    nibabel.save(nibabel.Nifti1Image(random(), np.diag([0.004, 0.005, 0.006, 1])), tmp_path / "scan.nii")
    with pytest.raises(
        InputError, match=r"states no voxel size; .* without a unit; if they are mm: --voxel_um '\[6,5,4\]'"
    ):
        open_volume(tmp_path / "scan.nii", option="--voxel_um")
