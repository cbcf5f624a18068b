"""The same section is found whatever the scan and the slide came as."""

import re
from types import SimpleNamespace

import itk
import nibabel
import numpy as np
import pytest
import tifffile
import zarr
from scipy.ndimage import gaussian_filter, gaussian_gradient_magnitude, map_coordinates
from scipy.spatial.transform import Rotation
from skimage.measure import block_reduce

from bundle.images.slides import read_slide, write_slide
from bundle.preparation.phantom.dataset import write_volume
from bundle.preparation.phantom.laboratory import make_specimen
from bundle.preparation.registration.checks import read_cropped
from bundle.preparation.registration.run import PAGE, RESULT, slices_of
from tests.helpers.registrations import (
    PIXEL_UM,
    SIZE,
    UM,
    again,
    apart,
    on_the_grid,
    pixels_of,
    plane_error,
    through,
    write_table,
)
from tests.helpers.registrations import affine as affine
from tests.helpers.registrations import case as case
from tests.helpers.registrations import little_effort as little_effort


def test_an_oblique_scan_gives_the_same_plane_in_its_own_world(case, affine, tmp_path):
    turn, origin = Rotation.from_euler("zxy", [30, -20, 50], degrees=True).as_matrix(), np.array([5.0, -7.0, 11.0])
    affine_lps = np.eye(4)
    affine_lps[:3, :3], affine_lps[:3, 3] = turn * UM / 1000, origin
    image = nibabel.Nifti1Image(case.scan.T, np.diag([-1.0, -1, 1, 1]) @ affine_lps)
    image.header.set_xyzt_units("mm")
    image.to_filename(tmp_path / "oblique.nii")
    found = again(case, tmp_path / "pair", volume=str(tmp_path / "oblique.nii"))
    corners = np.array(affine["plane"]["corners_world"]) @ turn.T + origin
    assert apart(found, corners) < 0.01
    source = read_slide(tmp_path / "pair" / "source.tif").pixels[0].astype(float)
    field = read_slide(tmp_path / "pair" / "field.png").pixels[0] > 0
    (transform,) = itk.transformread(str(tmp_path / "pair" / "plane.tfm"))
    seen = on_the_grid(itk.imread(tmp_path / "oblique.nii", itk.F), transform, source.shape, UM)
    assert np.abs(seen - source)[field].max() <= 1.0


def as_stack(path, scan):
    tifffile.imwrite(path / "scan.tif", scan, photometric="minisblack")
    return path / "scan.tif"


def as_zarr(path, scan):
    group = zarr.open_group(path / "scan.zarr", mode="w", zarr_format=2)
    group.create_array("0", shape=scan.shape, chunks=(32, 64, 64), dtype=scan.dtype)[:] = scan
    axes = [{"name": name, "type": "space", "unit": "micrometer"} for name in "zyx"]
    datasets = [{"path": "0", "coordinateTransformations": [{"type": "scale", "scale": [UM] * 3}]}]
    group.attrs.update({"multiscales": [{"version": "0.4", "axes": axes, "datasets": datasets}]})
    return path / "scan.zarr"


def test_other_formats_give_the_same(case, affine, tmp_path):
    stack = again(case, tmp_path / "stack", volume=str(as_stack(tmp_path, case.scan)))
    zarred = again(case, tmp_path / "zarred", volume=str(as_zarr(tmp_path, case.scan)), scan_voxel_um=None)
    assert stack["plane"] == zarred["plane"] == affine["plane"]
    assert zarred["voxel_um"] == UM
    for name in ("source.tif", "target.png", "plane.tfm"):
        expected = (case.folder / "affine" / name).read_bytes()
        assert (tmp_path / "stack" / name).read_bytes() == (tmp_path / "zarred" / name).read_bytes() == expected


def test_a_finer_scan_averaged_to_the_same_voxels_gives_the_same_plane(case, affine, tmp_path):
    finer = case.scan.repeat(2, 0).repeat(2, 1).repeat(2, 2)
    write_volume(tmp_path / "finer.nii.gz", finer, UM / 2)
    guess = (2 * np.array(case.guess) + 0.5).tolist()  # in voxels of the file
    sizes = {"voxel_um": UM, "scan_voxel_um": None}
    found = again(case, tmp_path / "pair", volume=str(tmp_path / "finer.nii.gz"), guess=guess, **sizes)
    assert plane_error(case, found) < 1.5
    corners = np.array(affine["plane"]["corners_world"]) + UM / 4000  # the middle of eight is not that of the first
    assert apart(found, corners) < 0.5  # its spacing is stated, so rounded
    source = read_slide(tmp_path / "pair" / "source.tif").pixels[0]
    field = read_slide(tmp_path / "pair" / "field.png").pixels[0] > 0
    assert source.dtype == np.float32  # averages are no whole numbers
    (transform,) = itk.transformread(str(tmp_path / "pair" / "plane.tfm"))
    seen = on_the_grid(itk.imread(tmp_path / "finer.nii.gz", itk.F), transform, source.shape, UM)
    assert np.corrcoef(seen[field], source[field])[0, 1] > 0.98


def test_landmarks_count_voxels_of_the_file(case, tmp_path):
    finer = case.scan.repeat(2, 0).repeat(2, 1).repeat(2, 2)
    write_volume(tmp_path / "finer.nii.gz", finer, UM / 2)
    voxels = np.loadtxt(case.folder / "voxels.csv", delimiter=",", skiprows=1)
    write_table(tmp_path / "voxels.csv", "z,y,x", 2 * voxels + 0.5)
    changes = {**case.marks, "volume_landmarks": str(tmp_path / "voxels.csv"), "voxel_um": UM, "scan_voxel_um": None}
    guess = (2 * np.array(case.guess) + 0.5).tolist()
    found = again(case, tmp_path / "pair", volume=str(tmp_path / "finer.nii.gz"), guess=guess, **changes)["landmarks"]
    for name in ("median_in_plane_um", "median_out_of_plane_um"):
        assert found[name] == pytest.approx(case.facts["landmarks"][name], abs=0.5 * UM)


def test_an_earlier_registration_is_a_guess(case, affine, tmp_path):
    found = again(case, tmp_path / "pair", guess=str(case.folder / "pair" / RESULT), guess_deg=2, guess_um=16)
    assert plane_error(case, found) < 1.5
    assert found["plane"]["centre"] == pytest.approx(affine["plane"]["centre"], abs=1)


@pytest.mark.parametrize(("top", "left"), [(30, 50), (31, 53), (0, 1)])
def test_a_section_cut_out_of_a_slide_with_much_glass(top, left, case, affine, tmp_path):
    height, width = case.slide.pixels.shape[1:]
    wide = np.full((3, height + 120, width + 140), 240, np.uint8)
    wide[:, top : top + height, left : left + width] = case.slide.pixels
    write_slide(tmp_path / "wide.png", wide, PIXEL_UM)
    write_table(tmp_path / "pixels.csv", "row,column", pixels_of(case) + [top, left])
    marks = {**case.marks, "section_landmarks": str(tmp_path / "pixels.csv")}
    crop = [top, left, height, width]
    found = again(case, tmp_path / "pair", section=str(tmp_path / "wide.png"), crop=crop, **marks)
    assert plane_error(case, found) < 1.5
    target = read_slide(tmp_path / "pair" / "target.png").pixels.astype(float)
    field = read_slide(tmp_path / "pair" / "field.png").pixels[0] > 0
    seen = through(tmp_path / "pair", wide, target.shape[1:])
    assert np.abs(seen - target)[:, field].max() <= 1
    assert found["landmarks"]["median_in_plane_um"] < 2 * UM
    assert apart(found, affine["plane"]["corners_world"]) < 1.5


@pytest.mark.parametrize(("height", "width", "um"), [(201, 222, 4.0), (222, 201, 4.0), (150, 160, 5.7)])
def test_pixels_that_are_no_whole_part_of_a_voxel(height, width, um, case, tmp_path):
    """The slide's size is no multiple of a voxel, yet no pixel of target may be stretched off its place."""
    where = [np.arange(size) * um / PIXEL_UM for size in (height, width)]
    grid = np.stack(np.meshgrid(*where, indexing="ij"))
    pixels = np.stack([map_coordinates(channel, grid, order=1, mode="nearest") for channel in case.slide.pixels])
    write_slide(tmp_path / "odd.png", pixels, um)
    found = again(case, tmp_path / "pair", section=str(tmp_path / "odd.png"), crop=[3, 1, height - 3, width - 1])
    assert plane_error(case, found) < 2
    target = read_slide(tmp_path / "pair" / "target.png").pixels.astype(float)
    field = read_slide(tmp_path / "pair" / "field.png").pixels[0] > 0
    off = np.abs(through(tmp_path / "pair", pixels, target.shape[1:], um=um) - target)[:, field]
    assert np.quantile(off, 0.99) <= 1


def test_a_crop_begins_where_it_says():
    pixels = np.random.default_rng(0).integers(0, 256, (3, 91, 93)).astype(np.uint8)
    read = {4.0: pixels, 8.0: np.rint(block_reduce(pixels[:, :90, :92].astype(float), (1, 2, 2), np.mean))}
    slide = SimpleNamespace(pixel_um=4.0, read=read.get)
    part, corner = read_cropped(slide, (31, 53, 40, 30), 8.0)
    top, left = (round(um / 4.0) for um in corner)
    assert part.shape == (3, 20, 15)
    assert abs(top - 31) <= 1
    assert abs(left - 53) <= 1
    expected = block_reduce(pixels[:, top : top + 40, left : left + 30].astype(float), (1, 2, 2), np.mean)
    assert part == pytest.approx(np.rint(expected))


def test_a_voxel_size_that_is_nearly_the_scans_is_the_scans(case, affine, tmp_path):
    found = again(case, tmp_path / "pair", voxel_um=UM * 1.008)
    assert found["voxel_um"] == pytest.approx(UM, rel=1e-5)
    assert apart(found, affine["plane"]["corners_world"]) < 1
    assert read_slide(tmp_path / "pair" / "source.tif").pixel_um == pytest.approx(UM, rel=1e-5)


def test_a_slab_is_less_noisy_than_the_plane(case, affine, tmp_path):
    found = again(case, tmp_path / "pair", slab_um=40)
    assert found["plane"] == affine["plane"]
    folders = (case.folder / "affine", tmp_path / "pair")
    thin, thick = (read_slide(folder / "source.tif").pixels[0].astype(float) for folder in folders)
    steep = gaussian_gradient_magnitude(thin, 3)
    even = steep < np.quantile(steep, 0.15)
    noise = [(image - gaussian_filter(image, 2))[even].std() for image in (thin, thick)]
    assert noise[1] < 0.75 * noise[0]
    assert thick[even].mean() == pytest.approx(thin[even].mean(), rel=0.02)


@pytest.mark.parametrize(
    ("slab_um", "voxel_um", "slices"),
    [(0, 5, 1), (5, 5, 1), (40, 5, 9), (40, 8, 5), (9, 5, 1), (15, 5, 3), (200, 5, 41)],
)
def test_slices_of_a_slab_are_odd_and_as_thick(slab_um, voxel_um, slices):
    assert slices_of(slab_um, voxel_um) == slices


def test_a_section_of_another_specimen_is_not_accepted_and_its_page_says_so(case, tmp_path):
    other = make_specimen(2, "Mg", 1, "toluidine", SIZE, UM, 0.4).slide
    write_slide(tmp_path / "other.png", other.pixels, PIXEL_UM)
    found = again(case, tmp_path / "pair", section=str(tmp_path / "other.png"))
    assert not found["accepted"]
    page = (tmp_path / "pair" / PAGE).read_text()
    assert re.search(r'<p class="caveat">NOT accepted, confidence 0\.\d\d', page)
