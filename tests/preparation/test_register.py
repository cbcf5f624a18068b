"""From files to files: what is written is what ITK finds with it."""

import csv
import json
import os
import re
import signal
import subprocess
import sys
import time

import itk
import numpy as np
import pytest
from skimage.measure import block_reduce

from bundle.images.slides import read_slide
from bundle.preparation.registration.run import PAGE, RESULT
from tests.conftest import ROOT
from tests.helpers.registrations import (
    PIXEL_UM,
    SIZE,
    UM,
    again,
    facts_of,
    on_the_grid,
    plane_error,
    tfm,
    through,
    write_table,
)
from tests.helpers.registrations import affine as affine
from tests.helpers.registrations import case as case
from tests.helpers.registrations import little_effort as little_effort


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
