"""What a registration refuses, in a line and before anything is written, and what it does not believe."""

import contextlib
import re
from types import SimpleNamespace

import numpy as np
import pytest

from bundle.common.errors import InputError
from bundle.images.slides import write_slide
from bundle.preparation.phantom.dataset import write_volume
from bundle.preparation.registration.checks import crop_of, finished_before
from bundle.preparation.registration.run import PAGE, RESULT, register
from tests.helpers.registrations import NEAR, PIXEL_UM, UM, again, plane_error
from tests.helpers.registrations import affine as affine
from tests.helpers.registrations import case as case
from tests.helpers.registrations import little_effort as little_effort


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
