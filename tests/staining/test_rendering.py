"""Pictures of a volume: what is planted is seen, in the right place, colour and order."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from bundle.images.volumes.planes import Copy, Planes, pixel_for, sweep
from bundle.staining.pictures import MARGIN, alpha, orthogonal_views, render, round_length, save_png, written_length
from bundle.staining.raycast import BLOCK, DARKEST, Camera, busy_blocks, cast, opacities, shades

GREY, RED, BLUE, TAN = (100, 100, 100), (200, 30, 40), (30, 40, 200), (180, 150, 100)


def column(colours, **changes) -> np.ndarray:
    """The one pixel of a ray along z through voxels of 1×1×1, sampled at their centres, unshaded."""
    rgb = np.array(colours, np.uint8).reshape(-1, 1, 1, 3)
    given = {
        "rgb": rgb,
        "shade": np.full(rgb.shape[:3], 255, np.uint8),
        "busy": np.ones([-(-size // BLOCK) for size in rgb.shape[:3]], bool),
        "opacity": opacities(1, 0),
        "voxel": np.ones(3),
        "cut": np.zeros((2, 3)),
        "origin": np.array([-5, 0.5, 0.5]),
        "right": np.array([0.0, 0, 1]),
        "down": np.array([0.0, 1, 0]),
        "away": np.array([1.0, 0, 0]),
        "step": 1.0,
        "top": 0,
        "height": 1,
        "width": 1,
    }
    return cast(*{**given, **changes}.values())[0, 0]


def test_alpha_is_the_inverted_mean():
    rng = np.random.default_rng(0)
    rgb = rng.integers(0, 256, (5, 4, 3), np.uint8)
    np.testing.assert_array_equal(alpha(rgb), np.rint(255 - rgb.mean(axis=-1)).astype(np.uint8))
    assert alpha(rgb).dtype == np.uint8
    assert alpha(np.array([[255, 255, 255], [0, 0, 0], [255, 0, 0]], np.uint8)).tolist() == [0, 255, 170]


def test_compositing_by_hand():
    first, second = (255 - 120) / 255, (255 - 51) / 255  # alpha of the two colours
    colours = [(240, 60, 60), (51, 51, 51)]
    expected = [first * a + (1 - first) * second * b for a, b in zip(*colours, strict=True)]
    covered = first + (1 - first) * second
    np.testing.assert_allclose(column(colours), [*expected, covered], rtol=1e-5)
    other = column(colours[::-1])  # what is in front counts first
    assert other[0] < column(colours)[0]


def test_white_is_clear_and_black_hides():
    assert column([(255, 255, 255)] * 9).tolist() == [0, 0, 0, 0]
    hidden = column([(255, 255, 255), (0, 0, 0), RED])
    assert hidden.tolist() == [0, 0, 0, 1]


def test_opacity_is_that_of_the_path_not_of_the_samples():
    whole, halves = opacities(1, 20), opacities(0.5, 20)
    np.testing.assert_allclose(1 - whole, (1 - halves) ** 2, atol=1e-6)
    assert whole[4 * 20] == 0
    assert whole[4 * 21] > 0
    assert whole[-1] == 1
    small = np.array([0.25, 1, 1])
    fine = column([GREY] * 8, opacity=opacities(0.25, 0), voxel=small, step=0.25)
    np.testing.assert_allclose(fine, column([GREY] * 2), rtol=1e-5)


def test_a_cut_shows_what_is_behind_it():
    colours = [RED, RED, BLUE, BLUE]
    seen = column(colours, cut=np.array([[-1, -1, -1], [2.0, 2, 2]]))
    np.testing.assert_allclose(seen, column([BLUE, BLUE]), rtol=1e-5)


def test_blocks_that_are_passed_unread_change_nothing():
    rng = np.random.default_rng(1)
    rgb = np.full((22, 1, 1, 3), 241, np.uint8)
    rgb[13:15] = rng.integers(0, 200, (2, 1, 1, 3))
    busy = busy_blocks(rgb, 20)
    assert busy.ravel().tolist() == [False, False, True, True, True, False]
    opacity = opacities(1, 20)
    np.testing.assert_array_equal(column(rgb, busy=busy, opacity=opacity), column(rgb, opacity=opacity))


def test_surfaces_turned_from_the_light_are_darker():
    rgb = np.full((24, 24, 24, 3), 255, np.uint8)
    rgb[6:18, 6:18, 6:18] = GREY
    shade = shades(rgb, np.ones(3), Camera.at(0, 0)) / 255
    front, back, top, bottom = shade[6, 12, 12], shade[17, 12, 12], shade[12, 6, 12], shade[12, 17, 12]
    assert shade[12, 12, 12] == 1  # no surface
    assert front > 0.85 > top > bottom
    assert back == pytest.approx(DARKEST, abs=0.01)


@pytest.mark.parametrize(("azimuth", "elevation"), [(0, 0), (-35, 25), (120, -50)])
def test_a_camera_does_not_mirror(azimuth, elevation):
    camera = Camera.at(azimuth, elevation)
    turn = np.stack([camera.right, camera.down, camera.away])[:, ::-1]  # in (x, y, z)
    np.testing.assert_allclose(turn @ turn.T, np.eye(3), atol=1e-12)
    assert np.linalg.det(turn) == pytest.approx(1)


def cubes() -> np.ndarray:
    """A red cube at small z, y and x; a blue one at large z, y and x."""
    rgb = np.full((20, 30, 40, 3), 255, np.uint8)
    rgb[2:8, 3:9, 4:10] = RED
    rgb[12:18, 21:27, 30:36] = BLUE
    return rgb


def middle_of(picture: np.ndarray, colour) -> np.ndarray:
    """Right and down, in px, of the pixels of about a colour, shaded or not."""
    hue = picture / np.maximum(picture.sum(axis=-1, keepdims=True), 1)
    near = np.abs(hue - np.array(colour) / sum(colour)).max(axis=-1) < 0.12
    assert near.sum() > 100
    return np.argwhere(near).mean(axis=0)[::-1]


@pytest.mark.parametrize(
    ("azimuth", "elevation", "width_um", "red", "blue"),
    [
        (0, 0, 80, (14, 12), (66, 48)),  # as slices lie: x to the right, y down
        (90, 0, 40, (10, 12), (30, 48)),  # from large x: z to the right
        (-90, 0, 40, (30, 12), (10, 48)),  # from x = 0: z to the left
        (0, 90, 80, (14, 30), (66, 10)),  # from y = 0: z upwards
    ],
)
def test_a_coloured_cube_is_seen_where_it_is(azimuth, elevation, width_um, red, blue):
    picture, pixel_um = render(cubes(), (2, 2, 2), azimuth, elevation, cut=0, size=240)
    assert picture.shape[1] == pytest.approx(width_um / pixel_um + 2 * MARGIN, abs=1)
    for colour, expected in ((RED, red), (BLUE, blue)):
        found = (middle_of(picture, colour) - MARGIN) * pixel_um
        np.testing.assert_allclose(found, expected, atol=2)


def test_the_cube_in_front_hides_the_other():
    rgb = np.full((20, 12, 12, 3), 255, np.uint8)
    rgb[2:8, 2:10, 2:10] = RED
    rgb[12:18, 2:10, 2:10] = BLUE
    for azimuth, seen in ((0, RED), (180, BLUE)):
        picture, _ = render(rgb, (1, 1, 1), azimuth, 0, cut=0, size=120)
        below = 34  # less of the picture is for labels above than below
        height, width = picture.shape[0] - below, picture.shape[1]
        at = picture[height // 2, width // 2]
        assert np.argmax(at) == np.argmax(seen)
        np.testing.assert_allclose(at, seen, atol=50)


def test_the_nearest_corner_is_cut_away():
    rgb = np.full((16, 16, 16, 3), 255, np.uint8)
    rgb[:] = RED
    rgb[8:, 8:, 8:] = BLUE  # hidden, but for the cut
    found = []
    for cut in (0, 0.5):
        picture, _ = render(rgb, (1, 1, 1), 145, -25, cut=cut, size=120)  # from the blue corner
        found.append(int(((picture[..., 2] > 150) & (picture[..., 0] < 120)).sum()))
    assert found[0] > 1000
    assert found[1] == 0


def test_an_empty_volume_is_white():
    for value in (255, 241):
        picture, _ = render(np.full((8, 9, 10, 3), value, np.uint8), (1, 1, 1), size=100)
        assert (picture > 245).mean() > 0.9  # but for outline, lengths and bar
        assert np.ptp(picture.astype(int), axis=-1).max() == 0


def test_a_finer_copy_looks_the_same():
    pictures = []
    for size in (256, 512):  # a thin rod along the rays, of which the alpha is little more than what is clear
        rgb = np.full((size, 2, 2, 3), (200, 160, 180), np.uint8)
        voxel_um = (512 / size, 4, 4)
        picture, _ = render(rgb, voxel_um, 0, 0, cut=0, clear=74, size=20)
        pictures.append(picture[MARGIN + 10, MARGIN + 10].astype(int))
    assert 0.3 < (255 - pictures[0][1]) / (255 - 160) < 0.9
    np.testing.assert_allclose(*pictures, atol=2)


def test_views_are_true_to_scale_and_in_their_places():
    stain = [
        np.full((*size, 3), colour, np.uint8)
        for size, colour in zip(((60, 80), (40, 80), (40, 60)), (RED, BLUE, TAN), strict=True)
    ]
    scan = [np.full(plane.shape[:2], value, np.uint8) for plane, value in zip(stain, (50, 90, 130), strict=True)]
    picture = orthogonal_views({"µCT": scan, "stain": stain}, (0.5, 0.25, 0.5), 5.0)
    assert picture.dtype == np.uint8
    places = []
    for colour, plane in zip((RED, BLUE, TAN), stain, strict=True):
        where = np.argwhere((picture == colour).all(axis=-1))
        np.testing.assert_array_equal(np.ptp(where, axis=0) + 1, plane.shape[:2])
        places.append(where.min(axis=0))
    for value, plane, place in zip((50, 90, 130), scan, places, strict=True):
        where = np.argwhere((picture == value).all(axis=-1))
        rows, columns = plane.shape
        top, left = place[0], place[1]
        above = where[(where[:, 1] >= left) & (where[:, 1] < left + columns) & (where[:, 0] < top)]
        assert len(above) >= rows * columns  # the scan's plane stands above the stain's
    assert places[0][0] == places[1][0] == places[2][0]
    assert places[0][1] < places[1][1] < places[2][1]


def test_planes_of_a_volume_by_slabs_are_those_of_the_whole():
    rng = np.random.default_rng(2)
    volume = rng.integers(0, 255, (12, 10, 8, 3), np.uint8)
    places = [[0, 7], [3], [1, 2, 7]]
    planes = Planes(volume.shape[:3], (5, 5, 5), places, 10.0, 3)
    sweep(((start, volume[start : start + 5]) for start in (0, 5, 10)), [planes])
    pairs = lambda image: image.astype(float).reshape(image.shape[0] // 2, 2, image.shape[1] // 2, 2, 3).mean((1, 3))
    for axis in range(3):
        expected = [pairs(np.take(volume, place, axis)) for place in places[axis]]
        np.testing.assert_allclose(planes.pictures(axis), expected, rtol=1e-5)


def test_planes_of_flat_voxels_are_true_to_scale():
    volume = np.arange(6, dtype=np.uint8).reshape(6, 1, 1, 1).repeat(8, axis=1).repeat(10, axis=2)
    planes = Planes(volume.shape[:3], (20, 5, 5), [[0], [0], [0]], pixel_for((6, 8, 10), (20, 5, 5), 360), 1)
    planes.add(0, volume)
    assert [planes.pictures(axis).shape[1:3] for axis in range(3)] == [(8, 10), (24, 10), (24, 8)]
    assert planes.pictures(1)[0, :, 0, 0].tolist() == np.repeat(range(6), 4).tolist()


def test_a_copy_is_the_mean_of_its_boxes():
    rng = np.random.default_rng(3)
    volume = rng.integers(0, 255, (9, 12, 15, 3), np.uint8)
    copy = Copy(volume.shape[:3], (1, 1, 1), 5, 3)
    sweep([(0, volume[:4]), (4, volume[4:])], [copy])
    expected = volume.reshape(3, 3, 4, 3, 5, 3, 3).mean(axis=(1, 3, 5))
    assert np.abs(copy.voxels - expected).max() <= 0.5 + 1e-3
    assert copy.voxel_um == (3, 3, 3)
    assert Copy((64, 8, 8), (1, 20, 20), 64, 3).shape == (26, 8, 8)  # no box is finer than a voxel


@pytest.mark.parametrize(
    ("longest", "length", "text"), [(9.9, 5, "5 µm"), (200, 200, "200 µm"), (1999, 1000, "1 mm"), (0.3, 0.2, "0.2 µm")]
)
def test_scale_bars_have_round_lengths(longest, length, text):
    assert round_length(longest) == (pytest.approx(length), text)
    assert written_length(1280) == "1.28 mm"


def test_a_png_states_its_pixel_size(tmp_path):
    save_png(tmp_path / "views.png", np.zeros((3, 4, 3), np.uint8), 2.5)
    with Image.open(tmp_path / "views.png") as picture:
        assert picture.size == (4, 3)
        assert picture.info["dpi"][0] == pytest.approx(25400 / 2.5, rel=1e-3)
