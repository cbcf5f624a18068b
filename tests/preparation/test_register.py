"""From files to files: what is written is what ITK finds with it, whatever the scan came as; and what is refused."""

import contextlib
import csv
import json
import os
import re
import signal
import subprocess
import sys
import time
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

from bundle.common.errors import InputError
from bundle.images.slides import read_slide, write_slide
from bundle.preparation.phantom.block import RIGID
from bundle.preparation.phantom.dataset import write_volume
from bundle.preparation.phantom.laboratory import make_specimen
from bundle.preparation.registration import plane as planes
from bundle.preparation.registration.checks import crop_of, finished_before, read_cropped
from bundle.preparation.registration.run import PAGE, RESULT, register, slices_of
from bundle.preparation.registration.search import Effort
from tests.conftest import ROOT

SIZE, UM, PIXEL_UM = 112, 8.0, 4.0
# the size is given, for formats round it each in their way, and that moves the optimum by some tenths of a voxel
NEAR = {"guess_deg": 8, "guess_um": 80, "scan_voxel_um": UM}
LITTLE = Effort(2000, (16, 6, 3), 1)  # enough from so near


@pytest.fixture(scope="module", autouse=True)
def little_effort():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(planes, "GUESSED", LITTLE)
        patch.setattr(planes, "TRIES", (1,))
        yield


@pytest.fixture(scope="module")
def case(tmp_path_factory):
    """A scan and a slide as files, their truth, a guess that is off, and the registration from it."""
    folder = tmp_path_factory.mktemp("register")
    specimen = make_specimen(1, "Mg", 1, "toluidine", SIZE, UM, 0.4)
    slide = specimen.slide
    write_volume(folder / "scan.nii.gz", specimen.scan, UM)
    write_slide(folder / "slide.png", slide.pixels, PIXEL_UM)
    last = SIZE - 1
    corners = [slide.plane.points(np.array(r), np.array(c)) for r, c in ((0, 0), (0, last), (last, 0))]
    off = np.array([[4, -3, 5], [7, -6, 9], [-1, -1, 6]])
    guess = (np.array(corners) + off).tolist()
    where = np.argwhere(np.isin(slide.labels, RIGID))
    where = where[np.random.default_rng(0).permutation(len(where))[:60]]
    voxels = slide.plane.points(*slide.places[:, where[:, 0], where[:, 1]]).T
    write_table(folder / "voxels.csv", "z,y,x", voxels)
    write_table(folder / "pixels.csv", "row,column", where)
    found = SimpleNamespace(folder=folder, specimen=specimen, slide=slide, guess=guess, scan=specimen.scan)
    found.volume, found.section, found.pair = (str(folder / name) for name in ("scan.nii.gz", "slide.png", "pair"))
    found.marks = {
        "volume_landmarks": str(folder / "voxels.csv"),
        "section_landmarks": str(folder / "pixels.csv"),
    }
    found.said = register(found.volume, found.section, found.pair, guess=guess, refine=True, **NEAR, **found.marks)
    found.facts = facts_of(found.pair)
    return found


def write_table(path, heading, rows):
    path.write_text("\n".join([heading, *(",".join(f"{value:.4f}" for value in row) for row in rows)]) + "\n")


def facts_of(folder):
    return json.loads((ROOT / str(folder) / RESULT).read_text())


def again(case, folder, **changes):
    """The same registration with some arguments changed, into another folder."""
    arguments = {"volume": case.volume, "section": case.section, "guess": case.guess, **NEAR, **changes}
    register(output=str(folder), **arguments)
    return facts_of(folder)


def tfm(folder, name):
    """A transform as ITK reads it, as a matrix and an offset of x, y, z in mm."""
    (transform,) = itk.transformread(str(folder / name))
    offset = np.array(transform.TransformPoint([0.0, 0, 0]))
    return np.column_stack([np.array(transform.TransformPoint(axis)) - offset for axis in np.eye(3).tolist()]), offset


def on_the_grid(image, transform, shape, um):
    """ITK's linear resampling of an image through a transform onto a pair's grid."""
    resampled = itk.resample_image_filter(
        image,
        transform=transform,
        size=[shape[1], shape[0], 1],
        output_spacing=[um / 1000] * 3,
        output_origin=[0.0] * 3,
        interpolator=itk.LinearInterpolateImageFunction.New(image),
    )
    return itk.array_from_image(resampled)[0]


def plane_error(case, facts):
    """Mean distance of the section's corners from the plane that was cut, voxels."""
    plane, true = facts["plane"], case.slide.plane
    down, right, centre = (np.array(plane[key]) * plane["voxel_um"] / UM for key in ("down", "right", "centre"))
    corners = [centre + SIZE / 2 * (a * down + b * right) for a in (-1, 1) for b in (-1, 1)]
    return np.abs((corners - true.centre) @ true.normal).mean()


# --- what is written ---


def test_the_plane_is_found_and_believed(case):
    assert plane_error(case, case.facts) < 1.5
    assert case.facts["accepted"]
    assert case.facts["confidence"] > 0.9
    assert re.match(r"accepted, confidence \d\.\d\d: .*\nlook at .*qc.html$", case.said)


def test_every_file_is_there_and_nothing_else(case):
    folder = case.folder / "pair"
    names = ["field.png", "plane.tfm", PAGE, RESULT, "section.tfm", "section_in_scan.nrrd"]
    names += ["source.tif", "target.png", "trace.csv", "warp.nrrd"]
    assert sorted(path.name for path in folder.iterdir()) == sorted(names)
    shape = tuple(case.facts["pair"]["rows_columns"])
    for name, channels in (("source.tif", 1), ("target.png", 3), ("field.png", 1)):
        slide = read_slide(folder / name)
        assert slide.pixels.shape == (channels, *shape)
        assert slide.pixel_um == pytest.approx(UM, rel=1e-3)
    assert read_slide(folder / "source.tif").pixels.dtype == np.uint16  # the scan's own
    field = read_slide(folder / "field.png").pixels
    assert set(np.unique(field)) <= {0, 255}
    assert (field > 0).mean() == pytest.approx(case.facts["pair"]["common"], abs=1e-3)
    with (folder / "trace.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert float(rows[-1]["nats per pixel"]) == pytest.approx(case.facts["mutual_information"], abs=1e-4)
    assert not list(case.folder.glob(".*"))


def test_source_is_itks_slice_of_the_scan_through_plane_tfm(case):
    folder = case.folder / "pair"
    source = read_slide(folder / "source.tif").pixels[0].astype(float)
    field = read_slide(folder / "field.png").pixels[0] > 0
    (transform,) = itk.transformread(str(folder / "plane.tfm"))
    assert type(transform).__name__.startswith("itkEuler3DTransform")
    seen = on_the_grid(itk.imread(case.volume, itk.F), transform, source.shape, UM)
    assert field.mean() > 0.6
    assert np.abs(seen - source)[field].max() <= 1.0  # source is rounded


def as_volume(pixels, um):
    """A channel of a slide as ITK's volume of one slice, its first pixel at 0."""
    image = itk.image_from_array(np.repeat(pixels.astype(np.float32)[None], 2, axis=0))
    image.SetSpacing([um / 1000] * 3)
    return image


def places_of(shape, um, finer=2):
    """x, y, 0 in mm of a pair's pixels, ``finer`` to a side."""
    rows, columns = ((np.arange(size * finer) + 0.5) / finer - 0.5 for size in shape)
    y, x = np.meshgrid(rows, columns, indexing="ij")
    return np.stack([x, y, np.zeros_like(x)], axis=-1) * um / 1000


def through(folder, pixels, shape, shifts=None, um=PIXEL_UM):
    """The slide on the pair's grid: displacements, then section.tfm, then scipy, averaged over 2 × 2."""
    matrix, offset = tfm(folder, "section.tfm")
    points = places_of(shape, UM)
    if shifts is not None:
        where = np.moveaxis(points[..., 1::-1], -1, 0) * 1000 / UM
        parts = [map_coordinates(shifts[..., n], where, order=1, mode="nearest") for n in range(3)]
        points = points + np.stack(parts, axis=-1)
    slide = (points @ matrix.T + offset)[..., 1::-1] * 1000 / um
    where = np.moveaxis(slide, -1, 0)
    seen = [map_coordinates(channel.astype(float), where, order=1, mode="nearest") for channel in pixels]
    return block_reduce(np.stack(seen), (1, 2, 2), np.mean)


def test_target_is_the_slide_through_warp_and_section_tfm(case):
    folder = case.folder / "pair"
    target = read_slide(folder / "target.png").pixels.astype(float)
    field = read_slide(folder / "field.png").pixels[0] > 0
    image = itk.imread(folder / "warp.nrrd")
    shifts = itk.array_from_image(image)
    assert list(image.GetSpacing()) == pytest.approx([UM / 1000] * 3)
    assert list(image.GetOrigin()) == [0, 0, 0]
    assert shifts.shape == (1, *target.shape[1:], 3)
    assert (shifts[..., 2] == 0).all()
    seen = through(folder, case.slide.pixels, target.shape[1:], shifts[0])
    off = np.abs(seen - target)[:, field]
    without = np.abs(through(folder, case.slide.pixels, target.shape[1:]) - target)[:, field]
    assert np.quantile(off, 0.95) <= 2
    assert without.mean() > 5 * off.mean()  # so the warp counts


@pytest.fixture(scope="module")
def affine(case):
    """The same without local shifts taken out."""
    return again(case, case.folder / "affine")


def test_without_refining_target_is_itks_slide_through_section_tfm(case, affine):
    folder = case.folder / "affine"
    assert not (folder / "warp.nrrd").exists()
    assert affine["plane"]["corners_world"] == case.facts["plane"]["corners_world"]
    target = read_slide(folder / "target.png").pixels.astype(float)
    field = read_slide(folder / "field.png").pixels[0] > 0
    assert np.abs(through(folder, case.slide.pixels, target.shape[1:]) - target)[:, field].max() <= 1
    (transform,) = itk.transformread(str(folder / "section.tfm"))
    coarse = block_reduce(case.slide.pixels.astype(float), (1, 2, 2), np.mean)  # of the voxels' size
    for channel in range(3):
        image = as_volume(coarse[channel], UM)
        image.SetOrigin([PIXEL_UM / 2000, PIXEL_UM / 2000, 0.0])
        seen = on_the_grid(image, transform, target.shape[1:], UM)
        assert np.median(np.abs(seen - target[channel])[field]) < 4


def test_the_section_in_the_scan_lies_where_plane_tfm_puts_it(case):
    folder = case.folder / "pair"
    image = itk.imread(folder / "section_in_scan.nrrd")
    matrix, offset = tfm(folder, "plane.tfm")
    assert list(image.GetOrigin()) == pytest.approx(offset.tolist(), abs=1e-6)
    assert itk.array_from_matrix(image.GetDirection()) == pytest.approx(matrix, abs=1e-6)
    assert list(image.GetSpacing()) == pytest.approx([UM / 1000] * 3)
    assert np.array_equal(itk.array_from_image(image)[0].transpose(2, 0, 1), read_slide(folder / "target.png").pixels)
    plane = case.facts["plane"]
    assert plane["world"]["first"] == pytest.approx(offset.tolist(), abs=1e-6)
    assert np.array(plane["right"])[::-1] == pytest.approx(matrix[:, 0], abs=1e-6)
    assert np.array(plane["down"])[::-1] == pytest.approx(matrix[:, 1], abs=1e-6)


def test_corners_in_the_world_are_those_of_the_section(case):
    plane, scale, shear = case.facts["plane"], case.facts["scale"], case.facts["shear"]
    top_left, top_right, bottom_right, bottom_left = np.array(plane["corners_world"])
    assert np.linalg.norm(bottom_left - top_left) == pytest.approx((SIZE - 1) * UM / 1000 / scale[0], rel=1e-3)
    across = (top_right - top_left) / (SIZE - 1) / (UM / 1000)
    assert across @ np.array(plane["world"]["right"]) == pytest.approx(1 / scale[1], rel=1e-3)
    assert across @ np.array(plane["world"]["down"]) == pytest.approx(shear / scale[1], abs=1e-4)
    middle = (top_left + bottom_right) / 2
    assert middle == pytest.approx(np.array(plane["centre"])[::-1] * UM / 1000)
    assert (top_right + bottom_left) / 2 == pytest.approx(middle)


def test_landmarks_of_the_truth_are_as_far_off_as_the_plane(case):
    marks = case.facts["landmarks"]
    assert marks["count"] == len(marks["in_plane_um"]) == len(marks["out_of_plane_um"]) == 60
    assert marks["median_out_of_plane_um"] == pytest.approx(np.median(marks["out_of_plane_um"]))
    assert marks["median_out_of_plane_um"] < 1.5 * UM
    assert marks["median_in_plane_um"] < 2 * UM


def test_the_page_loads_nothing_and_names_the_verdict(case):
    page = (case.folder / "pair" / PAGE).read_text()
    bare = re.sub(r"data:image/\w+;base64,[\w+/=]+", "", page)
    assert not re.search(r"https?:|<script[^>]+src|<link", bare)
    assert f"Accepted, confidence {case.facts['confidence']:.2f}" in page
    for words in ("Registration: pair", "checkerboard", "60: median", "least Jacobian", "slice z =", "nats per pixel"):
        assert words in page
    assert page.count("data:image/") >= 9


# --- whatever the scan came as ---


def apart(facts, corners):
    """Mean distance of a section's corners from others in the world, voxels."""
    return np.linalg.norm(np.array(facts["plane"]["corners_world"]) - corners, axis=1).mean() * 1000 / UM


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


def pixels_of(case):
    return np.loadtxt(case.folder / "pixels.csv", delimiter=",", skiprows=1)


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


# --- what is refused ---


def refused(case, tmp_path, **changes):
    """The message, after checking that nothing was written."""
    before = sorted(path for path in tmp_path.rglob("*"))
    with pytest.raises(InputError) as caught:
        again(case, tmp_path / "pair", **changes)
    assert sorted(path for path in tmp_path.rglob("*")) == before
    return str(caught.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"voxel_um": -5}, "voxel_um is -5; it must be a number above 0."),
        ({"pixel_um": 0}, "pixel_um is 0; it must be a number above 0."),
        ({"pixel_um": "five"}, "pixel_um is 'five'; it must be a number above 0."),
        ({"guess_deg": -1}, "guess_deg is -1; it must be a number above 0."),
        ({"guess_um": float("nan")}, "guess_um is nan; it must be a number above 0."),
        ({"scan_voxel_um": -8}, "scan_voxel_um is -8; give one size in µm, or three: z,y,x."),
        ({"scan_voxel_um": (8, 8)}, "scan_voxel_um is (8, 8); give one size in µm, or three: z,y,x."),
        ({"scan_voxel_um": (8, 8, 0)}, "scan_voxel_um is (8, 8, 0); give one size"),
        ({"slab_um": -1}, "slab_um is -1; give the thickness in µm, at most"),
        ({"turn_deg": "left"}, "turn_deg is 'left'; give degrees."),
        ({"seed": -3}, "seed is -3; give a whole number of at least 0."),
        ({"seed": 0.5}, "seed is 0.5; give a whole number of at least 0."),
        ({"refine": "perhaps"}, "refine is 'perhaps'; it must be true or false."),
        ({"mirrored": 2}, "mirrored is 2; it must be true or false."),
        ({"dark_background": "perhaps"}, "dark_background is 'perhaps'; it must be true or false."),
        ({"guess": "middle"}, "guess is 'middle'; give a slice of the scan"),
        ({"crop": [0, 0, 500, 20]}, "crop is [0, 0, 500, 20]; give top,left,height,width in pixels within the slide's"),
        ({"crop": [-1, 0, 50, 20]}, "crop is [-1, 0, 50, 20]; give"),
        ({"crop": [0, 0, 0, 20]}, "crop is [0, 0, 0, 20]; give"),
        ({"crop": [0, 0, 50]}, "crop is [0, 0, 50]; give"),
        ({"crop": "all"}, "crop is 'all'; give"),
        ({"crop": [0, 0, 40, 224]}, "slide.png: the section is only 20×112 voxels of 8 µm; 32 along each side is"),
        ({"pixel_um": 1.0}, "slide.png: the section is only 28×28 voxels of 8 µm; 32 along each side is the least"),
        (
            {"pixel_um": 9.0},
            "slide.png has pixels of 9 µm, larger than the voxels of 8 µm. Check --pixel_um",
        ),
        ({"scan_voxel_um": (8, 8, 16)}, "scan.nii.gz has voxels of 8×8×16 µm (z×y×x), not cubes; --voxel_um 16"),
        ({"voxel_um": 4.0}, "scan.nii.gz"),
        ({"volume": "nowhere.nii"}, "nowhere.nii does not exist."),
        ({"section": "nowhere.png"}, "nowhere.png does not exist."),
        ({"volume_landmarks": "v.csv"}, "landmarks of one image alone tell nothing; give --volume_landmarks and"),
        ({"section_landmarks": "s.csv"}, "landmarks of one image alone tell nothing"),
        ({"volume_landmarks": "v.csv", "section_landmarks": "s.csv"}, "v.csv does not exist; landmarks are a CSV"),
    ],
)
def test_what_makes_no_sense_is_one_line(changes, message, case, tmp_path):
    said = refused(case, tmp_path, **changes)
    assert message in said
    assert "\n" not in said


def test_several_faults_have_a_line_each(case, tmp_path):
    assert len(refused(case, tmp_path, voxel_um=0, seed=-1, slab_um="thick").splitlines()) == 3


def test_a_section_larger_than_the_scan(case, tmp_path):
    write_volume(tmp_path / "small.nii.gz", case.scan[:40, :40, :40], UM)
    said = refused(case, tmp_path, volume=str(tmp_path / "small.nii.gz"))
    assert re.search(r"slide.png is larger than the scan: 0.896×0.896 mm \(4 µm pixels\) against 0.32×0.32×0.32", said)
    assert "--crop top,left,height,width" in said


def nan_everywhere(scan):
    return np.full_like(scan, np.nan, dtype=np.float32)


def one_nan(scan):
    changed = scan.astype(np.float32)
    changed[1, 50, 60] = np.nan  # in a slice that a quick look may pass over
    return changed


def one_infinite(scan):
    changed = scan.astype(np.float32)
    changed[-2, 50, 60] = np.inf
    return changed


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (nan_everywhere, "NaN or infinite pixels; fill or crop them; NaN outside the reconstruction circle alone"),
        (one_nan, "NaN or infinite pixels; fill or crop them; NaN outside the reconstruction circle alone"),
        (one_infinite, "NaN or infinite pixels; fill or crop them; NaN outside the reconstruction circle alone"),
        (np.zeros_like, "is empty: every voxel seen is 0."),
        (lambda scan: scan[:1], "a scan is one volume of at least 2 slices of 2×2 px"),
        (lambda scan: scan[:20], "the scan is only 20×112×112 voxels of 8 µm"),
    ],
)
def test_scans_that_show_nothing(change, message, case, tmp_path):
    write_volume(tmp_path / "bad.nii.gz", change(case.scan), UM)
    assert message in refused(case, tmp_path, volume=str(tmp_path / "bad.nii.gz"))


def test_sections_that_show_nothing(case, tmp_path):
    pixels = np.clip(np.random.default_rng(0).normal(240, 1, case.slide.pixels.shape), 0, 255).astype(np.uint8)
    write_slide(tmp_path / "glass.png", pixels, PIXEL_UM)
    said = refused(case, tmp_path, section=str(tmp_path / "glass.png"))
    assert re.search(r"glass.png is empty: its grey levels spread by \d\.\d only; check the file, or --crop.", said)


def test_an_inverted_section_is_refused_unless_that_is_meant(case, affine, tmp_path):
    write_slide(tmp_path / "inverted.png", 255 - case.slide.pixels, PIXEL_UM)
    said = refused(case, tmp_path, section=str(tmp_path / "inverted.png"))
    assert re.search(r"inverted.png looks inverted: where the scan is dark it has \d+ .* of 255", said)
    assert "--dark_background true" in said
    found = again(case, tmp_path / "pair", section=str(tmp_path / "inverted.png"), dark_background="true")
    assert plane_error(case, found) < 1.5
    assert found["accepted"]


@pytest.mark.parametrize("at", ["z=-8", "z=119"])
def test_a_wrong_guess_at_the_very_edge_is_not_believed(at, case, tmp_path):
    found = None
    with contextlib.suppress(InputError):  # "only 46% of the section lies in the scan", which is right too
        found = again(case, tmp_path / "pair", guess=at, guess_deg=1, guess_um=8)
    assert not found or not found["accepted"] or plane_error(case, found) < 2


@pytest.mark.parametrize(
    ("voxels", "pixels", "message"),
    [
        ("z,y,x\n1,2,3\n4,5,6\n", "row,column\n1,2\n", r"v.csv has 2 landmarks and .*s.csv has 1; line for line"),
        ("z,y\n1,2\n", "row,column\n1,2\n", "v.csv has no column x, or no line; it needs z, y, x"),
        ("z,y,x\n", "row,column\n1,2\n", "v.csv has no column z, y, x, or no line"),
        ("", "row,column\n1,2\n", "v.csv has no column z, y, x, or no line"),
        ("z,y,x\n1,2,3\n", "row,column\n1,two\n", r"s.csv, line 2: \['1', 'two'\]; give numbers."),
        ("z,y,x\n1,2,3\n", "row,column\n1\n", r"s.csv, line 2: \['1', None\]; give numbers."),
    ],
)
def test_landmarks_that_are_none(voxels, pixels, message, case, tmp_path):
    (tmp_path / "v.csv").write_text(voxels)
    (tmp_path / "s.csv").write_text(pixels)
    marks = {"volume_landmarks": str(tmp_path / "v.csv"), "section_landmarks": str(tmp_path / "s.csv")}
    said = refused(case, tmp_path, **marks)
    assert re.search(message, said)
    assert "\n" not in said


@pytest.mark.parametrize("text", [None, "{}", "no json", "[]"])
def test_an_output_that_holds_something_else_is_left_alone(text, case, tmp_path):
    (tmp_path / "pair").mkdir()
    (tmp_path / "pair" / "thesis.docx").write_text("dear")
    if text is not None:
        (tmp_path / "pair" / RESULT).write_text(text)
    said = refused(case, tmp_path)
    end = "is there and is no registration; name a new folder." if text is None else "holds another registration"
    assert end in said
    assert (tmp_path / "pair" / "thesis.docx").read_text() == "dear"


def test_an_output_that_is_a_file_is_left_alone(case, tmp_path):
    (tmp_path / "pair").write_text("dear")
    assert "is there and is no registration" in refused(case, tmp_path)
    assert (tmp_path / "pair").read_text() == "dear"


def test_an_empty_folder_may_be_filled(tmp_path):
    assert not finished_before(tmp_path / "none", tmp_path / "none" / RESULT, {})
    assert not finished_before(tmp_path, tmp_path / RESULT, {})


def test_no_crop_is_the_whole_slide():
    assert crop_of(SimpleNamespace(shape=(30, 40)), None) == (0, 0, 30, 40)
    assert crop_of(SimpleNamespace(shape=(30, 40)), (2, 3, 28, 37)) == (2, 3, 28, 37)


def test_the_same_again_is_not_done_again_and_another_is_refused(case, affine):
    folder = case.folder / "affine"
    times = {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}
    arguments = {"volume": case.volume, "section": case.section, "guess": case.guess, **NEAR}
    assert register(output=str(folder), **arguments) == (
        f"{folder} holds this registration already; look at {folder / PAGE}"
    )
    with pytest.raises(InputError, match="affine holds another registration; name a new folder, or delete this one"):
        register(output=str(folder), **arguments, seed=1)
    assert {path.name: path.stat().st_mtime_ns for path in folder.iterdir()} == times


def test_a_changed_slide_is_another_registration(case, affine, tmp_path):
    pixels = case.slide.pixels
    write_slide(tmp_path / "slide.png", pixels, PIXEL_UM)
    again(case, tmp_path / "pair", section=str(tmp_path / "slide.png"))
    write_slide(tmp_path / "slide.png", pixels[:, ::-1], PIXEL_UM)
    with pytest.raises(InputError, match="holds another registration"):
        again(case, tmp_path / "pair", section=str(tmp_path / "slide.png"))


# --- as a user starts it ---


def command_of(case, folder, **options):
    options = {"volume": case.volume, "section": case.section, "output": folder, **options}
    command = [sys.executable, "-m", "scripts.register"]
    return command + [word for name, value in options.items() for word in (f"--{name}", str(value))]


def started(command):
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def test_killed_in_mid_run_it_leaves_nothing_and_finishes_when_started_again(case, tmp_path):
    folder = tmp_path / "pair"
    command = command_of(case, folder, guess=json.dumps(case.guess), guess_deg=8, guess_um=80, crop="2,4,220,218")
    first = started(command)
    assert any("1/2 size" in line for line in first.stderr)  # reads up to there
    first.send_signal(signal.SIGKILL)
    first.communicate()
    assert first.returncode == -signal.SIGKILL
    assert not list(tmp_path.iterdir())
    second = started(command)
    said, trace = second.communicate(timeout=300)
    assert second.returncode == 0, trace
    assert "\naccepted, confidence" in said
    assert said.strip().endswith(f"look at {folder / PAGE}")
    assert "full size, local shifts 3" in trace
    assert plane_error(case, facts_of(folder)) < 1.5
    assert [path.name for path in tmp_path.iterdir()] == ["pair"]
    assert facts_of(folder)["request"]["crop"] == [2, 4, 220, 218]


def test_killed_while_writing_it_leaves_nothing_that_hinders(case, tmp_path):
    debris = tmp_path / ".pair.partial"
    debris.mkdir()
    (debris / RESULT).write_text("half of")
    again(case, tmp_path / "pair")
    assert [path.name for path in tmp_path.iterdir()] == ["pair"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"voxel_um": 0}, "error: voxel_um is 0; it must be a number above 0."),
    ],
)
def test_a_fault_on_the_command_line_is_one_line(options, message, case, tmp_path):
    began = time.monotonic()
    process = started(command_of(case, tmp_path / "pair", **options))
    said, fault = process.communicate(timeout=120)
    assert (process.returncode, said, fault.strip()) == (1, "", message)
    assert not list(tmp_path.iterdir())
    assert time.monotonic() - began < 60


def test_landmarks_far_off_and_a_wrong_pixel_size_raise_doubts(case, tmp_path):
    far = np.loadtxt(case.marks["volume_landmarks"], delimiter=",", skiprows=1) + (0, 0, 40)
    write_table(tmp_path / "far.csv", "z,y,x", far)
    marks = {**case.marks, "volume_landmarks": str(tmp_path / "far.csv")}
    assert not again(case, tmp_path / "far", **marks)["accepted"]
    stretched = again(case, tmp_path / "stretched", pixel_um=1.2 * PIXEL_UM)
    assert not stretched["accepted"]
