"""What is no scan, or no whole one, is refused in a line that names the slice."""

import re
from dataclasses import replace

import itk
import nibabel
import nrrd
import numpy as np
import pytest
import tifffile
import zarr

from bundle.common.errors import InputError
from bundle.images.volumes.volume import open_volume, resample
from tests.helpers.scans import (
    SHAPE,
    STACKS,
    cut_zarr,
    itk_write,
    pages_one_by_one,
    random,
    truncate,
    write_folder,
    write_zarr,
)


def unreadable_slice(path):
    write_folder(path, random())
    (path / "slice_7.tif").write_bytes(b"II*\0")


def odd_slice(path, plane):
    write_folder(path, random())
    tifffile.imwrite(path / "slice_7.tif", plane)


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


@pytest.mark.parametrize("word", ["True", "T", "1", "true"])
def test_a_metaimage_of_big_numbers_first_is_read_as_itk_does(tmp_path, word):
    voxels = random(np.uint16)
    itk_write(tmp_path / "s.mha", voxels)
    header, _, _ = (tmp_path / "s.mha").read_bytes().partition(b"ElementDataFile")
    header = header.replace(b"CompressedData = True", b"CompressedData = False")
    header = header.replace(b"BinaryDataByteOrderMSB = False", f"BinaryDataByteOrderMSB = {word}".encode())
    (tmp_path / "s.mha").write_bytes(header + b"ElementDataFile = LOCAL\n" + voxels.astype(">u2").tobytes())
    np.testing.assert_array_equal(itk.array_from_image(itk.imread(str(tmp_path / "s.mha"))), voxels)
    np.testing.assert_array_equal(open_volume(tmp_path / "s.mha", 5.0).read(0, len(voxels)), voxels)


@pytest.mark.parametrize(
    ("transformations", "words"),
    [
        ([{"type": "rotation", "rotation": [[1]]}], "a transformation of type rotation; write scale"),
        ([{"type": "scale", "scale": [5]}], "its scale has 1 numbers for 3 axes"),
        ([{"type": "scale", "scale": "555"}, {"type": "affine"}], "of type affine"),
        ([{"type": "translation", "translation": [0, np.nan, 0]}], "nan.*no place"),
    ],
)
def test_an_ome_zarr_is_where_it_says_or_refused(tmp_path, transformations, words):
    write_zarr(tmp_path / "s.zarr", random())
    group = zarr.open_group(tmp_path / "s.zarr")
    (image,) = group.attrs["multiscales"]
    image["datasets"][0]["coordinateTransformations"] = transformations
    group.attrs["multiscales"] = [image]
    with pytest.raises(InputError, match=rf"s\.zarr .*{words}"):
        open_volume(tmp_path / "s.zarr")


def test_an_nrrd_of_several_units_is_refused(tmp_path):
    header = {"space": "left-posterior-superior", "space directions": np.eye(3) * 0.005}
    nrrd.write(str(tmp_path / "s.nrrd"), random(), {**header, "space units": ["mm", "um", "mm"]})
    with pytest.raises(InputError, match=r"axes of several units \(mm, um, mm\); write all of them in one"):
        open_volume(tmp_path / "s.nrrd")
    nrrd.write(str(tmp_path / "s.nrrd"), random(), {**header, "space units": ["um", "micrometer", "micron"]})
    assert open_volume(tmp_path / "s.nrrd").geometry.spacing_um == (0.005,) * 3


def test_an_origin_that_is_no_place_is_refused(tmp_path):
    affine = np.diag([0.005, 0.005, 0.005, 1])
    affine[0, 3] = np.nan
    image = nibabel.Nifti1Image(random(np.int16), np.diag([0.005, 0.005, 0.005, 1]))
    image.header.set_xyzt_units("mm")
    image.header.set_sform(affine, code=1)
    content = bytearray(image.to_bytes())
    content[292:296] = np.float32(np.nan).tobytes()  # srow_x[3]
    (tmp_path / "s.nii").write_bytes(bytes(content))
    with pytest.raises(InputError, match=r"s\.nii has the origin \[nan.*which is no place; write numbers"):
        open_volume(tmp_path / "s.nii")
