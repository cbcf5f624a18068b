"""What a user knows of a section's place becomes the pose that it says, by hand; what says nothing is refused."""

import json

import numpy as np
import pytest

from bundle.common.errors import InputError
from bundle.images.volumes.geometry import Geometry
from bundle.preparation.registration.guess import read_guess
from bundle.preparation.registration.landmarks import errors_um
from bundle.preparation.registration.levels import pixel_places
from bundle.preparation.registration.similarity import reslice

GRID = Geometry((5.0, 5.0, 5.0), (0.0, 0.0, 0.0), np.eye(3))
FORM_SIZE = (40, 50, 60)


def guessed(guess, turn_deg=0.0, mirrored=False, scan=GRID, grid=GRID, size=FORM_SIZE):
    return read_guess(guess, turn_deg, mirrored, 15.0, 300.0, scan, grid, size)


@pytest.mark.parametrize("axis", range(3))
@pytest.mark.parametrize("turn", [0, 90, 180, 270])
@pytest.mark.parametrize("mirrored", [False, True])
def test_a_slice_turned_by_hand(axis, turn, mirrored):
    """What the section looks like is made with numpy; the guess must read it from the volume."""
    volume = np.random.default_rng(0).random((30, 30, 30)).astype(np.float32)
    shown = volume.take(12, axis)
    looks = np.rot90(shown, turn // 90)  # the slice is this, turned clockwise: rot90 turns the other way
    section = looks[:, ::-1] if mirrored else looks
    guess = guessed(f"{'zyx'[axis]}=12", turn, mirrored, size=(30, 30, 30))
    places, pose = pixel_places((30, 30), (30, 30), 1), guess.pose.matrix()
    pose[:, 2] += 1  # for the frame that keeps the outermost pixels inside
    found = reslice(np.pad(volume, 1, mode="edge"), places, pose)
    assert found == pytest.approx(section.ravel(), abs=1e-4)
    assert (guess.angle_deg, guess.shift_px) == (15.0, 60.0)


def test_a_slice_turned_by_any_angle():
    pose = guessed("z=7.5", 30.0).pose
    c, s = np.cos(np.pi / 6), np.sin(np.pi / 6)
    assert pose.centre == pytest.approx([7.5, 24.5, 29.5])
    assert pose.frame[:, 0] == pytest.approx([0, c, -s])  # what is below lies to the left after a clockwise turn
    assert pose.frame[:, 1] == pytest.approx([0, s, c])
    assert pose.linear == pytest.approx(np.eye(2))


@pytest.mark.parametrize("guess", ["y=20", " y = 20 ", "y=20.0"])
def test_a_slice_in_several_spellings(guess):
    assert guessed(guess).pose.centre == pytest.approx([19.5, 20, 29.5])


def test_a_slice_counts_the_files_voxels():
    scan = Geometry((2.5, 2.5, 2.5), (0.0, 0.0, 0.0), np.eye(3))
    assert guessed("z=21", scan=scan).pose.centre[0] == pytest.approx((21 + 0.5) / 2 - 0.5)


def test_three_corners_by_hand():
    pose = guessed([[10, 10, 10], [10, 10, 30], [10, 40, 10]]).pose
    assert pose.centre == pytest.approx([10, 25, 20])
    assert pose.frame[:, :2] == pytest.approx(np.array([[0, 0], [1, 0], [0, 1]]))
    scan = Geometry((10.0, 5.0, 2.5), (0.0, 0.0, 0.0), np.eye(3))
    finer = guessed([[4.75, 10, 20.5], [4.75, 10, 60.5], [4.75, 40, 20.5]], scan=scan).pose
    assert finer.centre == pytest.approx([10, 25, 20])
    assert finer.linear == pytest.approx(np.eye(2))  # a guess is not stretched


def test_an_earlier_registration_on_other_voxels(tmp_path):
    plane = {"down": [0, 1, 0], "right": [0, 0, 1], "centre": [9.5, 20, 30.5], "voxel_um": 5.0}
    (tmp_path / "r.json").write_text(json.dumps({"plane": plane}))
    coarse = Geometry((10.0, 10.0, 10.0), (0.0, 0.0, 0.0), np.eye(3))
    guess = guessed(str(tmp_path / "r.json"), grid=coarse, size=(20, 25, 30))
    assert guess.pose.centre == pytest.approx([4.5, 9.75, 15.0])
    assert guess.pose.frame[:, :2] == pytest.approx(np.eye(3)[:, 1:])
    assert guess.shift_px == 30.0


@pytest.mark.parametrize(
    ("guess", "message"),
    [
        ("middle", r"guess is 'middle'; give a slice of the scan \(--guess z=600\), three corners"),
        ("w=3", "guess is 'w=3'"),
        (600, "guess is 600"),
        ([[1, 2, 3], [4, 5, 6]], r"guess is \[\[1, 2, 3\], \[4, 5, 6\]\]"),
        ([[1, 2], [4, 5], [6, 7]], "guess is"),
        ([[1, 2, float("nan")], [4, 5, 6], [6, 7, 8]], "guess is"),
        ([[0, 0, 0], [10, 10, 10], [20, 20, 20]], "the three corners lie on one line"),
        ([[5, 5, 5]] * 3, "the three corners lie on one line"),
        ("z=99", r"guess 'z=99' puts the section's middle at voxel \(99, 24, 30\), outside the scan"),
        ("z=-30", "outside the scan"),
        ([[90, 0, 0], [90, 0, 50], [90, 50, 0]], "outside the scan"),
        ("nowhere.json", "guess nowhere.json does not exist; give a slice"),
    ],
)
def test_guesses_that_are_none(guess, message):
    with pytest.raises(InputError, match=message) as caught:
        guessed(guess)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["no json", "{}", '{"plane": {"down": [1]}}', '{"plane": 3}', "[]"])
def test_a_file_that_is_no_registration_is_no_guess(text, tmp_path):
    (tmp_path / "r.json").write_text(text)
    with pytest.raises(InputError, match="r.json is no registration.json: .*; give a slice"):
        guessed(str(tmp_path / "r.json"))


def test_landmarks_apart_by_hand():
    voxels, expected = np.array([[1.0, 2, 3], [4, 4, 4]]), np.array([[3.0, 2, 3], [4, 7, 8]])
    found = errors_um(voxels, expected, np.array([1.0, 0, 0]), 5.0)
    assert found == {"in_plane_um": [0.0, 25.0], "out_of_plane_um": [10.0, 0.0]}
