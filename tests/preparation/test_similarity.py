"""Mutual information, reslicing and poses against numpy, scipy and scikit-image."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.ndimage import map_coordinates
from scipy.spatial.transform import Rotation
from skimage.measure import block_reduce

from bundle.preparation.registration.levels import COLOURS, halve, halve_volume, make_levels, pixel_places
from bundle.preparation.registration.pose import AFFINE, RIGID, Pose
from bundle.preparation.registration.search import _scores, distance
from bundle.preparation.registration.similarity import BINS, OUTSIDE, reslice, score, scores
from bundle.preparation.registration.trace import Trace

SHAPE = (14, 17, 20)  # three sizes, so that axes cannot be mistaken
SECTION = (12, 16)


def a_pose(seed=0, off=(0.0, 0.0, 0.0), stretch=0.05):
    rng = np.random.default_rng(seed)
    linear = np.eye(2) + stretch * rng.standard_normal((2, 2))
    steps = Rotation.random(random_state=seed).as_matrix()[:, :2] @ linear
    return Pose.of_matrix(steps, (np.array(SHAPE) - 1) / 2 + off)


def a_volume(seed=0, shape=SHAPE):
    return (np.random.default_rng(seed).random(shape) * (BINS - 1)).astype(np.float32)


def some_classes(colours, seed=0, count=SECTION[0] * SECTION[1]):
    return np.random.default_rng(seed).integers(0, colours, count).astype(np.uint8)


def sliced(volume, points, pose):
    """Grey values of scipy at the pixels, and which of those lie in the volume."""
    where = (points @ pose.matrix()[:, :2].T + pose.matrix()[:, 2]).T
    last = np.array(volume.shape)[:, None] - 1
    inside = ((where >= 0) & (where <= last)).all(axis=0)
    return map_coordinates(volume.astype(float), where, order=1, mode="nearest"), inside


def information(greys, classes, colours):
    """Mutual information of numpy, every grey shared linearly between the two nearest bins."""
    joint = np.zeros((colours, BINS))
    low = np.minimum(np.floor(greys).astype(int), BINS - 2)
    np.add.at(joint, (classes, low), 1 - (greys - low))
    np.add.at(joint, (classes, low + 1), greys - low)
    joint /= joint.sum()
    expected = joint.sum(1, keepdims=True) @ joint.sum(0, keepdims=True)
    seen = joint > 0
    return float((joint[seen] * np.log(joint[seen] / expected[seen])).sum())


def score_of(volume, points, classes, pose, colours):
    return score(volume, points, classes, pose.matrix(), np.ones((colours, BINS)))  # what was there is forgotten


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("off", [(0, 0, 0), (4, -3, 6)])
def test_score_is_numpys_mutual_information_times_the_share_inside(seed, off):
    volume, points, classes = a_volume(seed), pixel_places(SECTION, SECTION, 1), some_classes(5, seed)
    pose = a_pose(seed, off)
    greys, inside = sliced(volume, points, pose)
    expected = inside.mean() * information(greys[inside], classes[inside], 5)
    assert 0.1 < inside.mean() <= 1
    assert inside.mean() < 1 or off == (0, 0, 0)
    assert score_of(volume, points, classes, pose, 5) == pytest.approx(expected, abs=1e-6)


def flat_pose():
    """Rows and columns of the section along y and x of the volume, in its slice 3."""
    middle = [3.0, (SHAPE[1] - 1) / 2, (SHAPE[2] - 1) / 2]
    return Pose(np.array([[0.0, 0, 1], [1, 0, 0], [0, 1, 0]]), np.array(middle), np.eye(2))


@pytest.mark.parametrize("colours", [2, 3, 8])
def test_identical_images_of_k_equal_classes_share_ln_k(colours):
    shape = (SHAPE[1], SHAPE[2] - SHAPE[2] % colours)
    classes = (np.arange(shape[0] * shape[1]) % colours).astype(np.uint8)
    volume = np.zeros((5, *shape), np.float32)
    volume[:] = 2 * classes.reshape(shape)
    middle = np.array([3.0, (shape[0] - 1) / 2, (shape[1] - 1) / 2])
    pose = replace(flat_pose(), centre=middle)
    found = score_of(volume, pixel_places(shape, shape, 1), classes, pose, colours)
    assert found == pytest.approx(np.log(colours), abs=1e-5)


def test_independent_images_share_nothing():
    shape = (300, 300)
    volume = np.repeat(a_volume(1, (1, *shape)), 3, axis=0)
    pose = replace(flat_pose(), centre=np.array([1.0, 149.5, 149.5]))
    classes = some_classes(4, 2, 90_000)
    found = score_of(volume, pixel_places(shape, shape, 1), classes, pose, 4)
    assert 0 <= found < (4 - 1) * (BINS - 1) / (2 * 90_000) * 2  # twice the bias of so many pixels


@pytest.mark.parametrize("off", [(100, 0, 0), (0, 0, -100)])
def test_a_section_outside_tells_nothing(off):
    volume, points = a_volume(), pixel_places(SECTION, SECTION, 1)
    assert score_of(volume, points, some_classes(3), a_pose(0, off), 3) == 0.0


def test_one_colour_or_one_grey_tells_nothing():
    points, pose = pixel_places(SECTION, SECTION, 1), a_pose(1)
    assert score_of(a_volume(), points, np.zeros(len(points), np.uint8), pose, 1) == pytest.approx(0, abs=1e-12)
    even = np.full(SHAPE, 7.25, np.float32)
    assert score_of(even, points, some_classes(3), pose, 3) == pytest.approx(0, abs=1e-6)


def test_scores_of_many_poses_are_those_of_each():
    volume, points, classes = a_volume(), pixel_places(SECTION, SECTION, 1), some_classes(6)
    poses = [a_pose(seed, (seed, 0, 0)) for seed in range(9)]
    together = scores(volume, points, classes, np.stack([pose.matrix() for pose in poses]), 6)
    assert together.tolist() == [score_of(volume, points, classes, pose, 6) for pose in poses]


@pytest.mark.parametrize("workers", [1, 2, 5])
def test_any_number_of_workers_finds_the_same(workers, monkeypatch):
    rng = np.random.default_rng(3)
    level = make_levels(a_volume(0, (32, 32, 32)), (rng.random((3, 64, 64)) * 255).astype(np.uint8))[0]
    frames = Rotation.random(50, random_state=0).as_matrix()
    centres = rng.random((50, 3)) * 31
    poses = [Pose(frame, centre, np.eye(2)).matrix(level.factor) for frame, centre in zip(frames, centres, strict=True)]
    images = level.volume, level.points, level.classes
    expected = [score(*images, pose, np.zeros((COLOURS, BINS))) for pose in poses]
    found = []
    for number in (workers, 3):
        monkeypatch.setenv("OMP_NUM_THREADS", str(number))
        found.append(_scores(level, frames, centres, Trace(shown=False)))
    assert found[0] == pytest.approx(expected, abs=1e-9)
    assert np.array_equal(*found)


@pytest.mark.parametrize("dtype", [np.float32, np.uint16])
@pytest.mark.parametrize("seed", range(3))
def test_reslice_is_scipys_linear_interpolation(seed, dtype):
    volume, points, pose = a_volume(seed).astype(dtype), pixel_places((24, 26), (24, 26), 1), a_pose(seed)
    greys, inside = sliced(volume, points, pose)
    found = reslice(volume, points, pose.matrix())
    assert 0.1 < inside.mean() < 1
    assert found[inside] == pytest.approx(greys[inside], abs=1e-4)
    assert (found[~inside] == OUTSIDE).all()


def test_reslice_reaches_the_outermost_voxels_and_no_farther():
    volume = a_volume()
    straight = np.column_stack([np.eye(3)[:, 1], np.eye(3)[:, 2], [SHAPE[0] - 1, 0, 0]])
    ends = np.array([[0, 0], [SHAPE[1] - 1, SHAPE[2] - 1], [SHAPE[1] - 0.99, 0], [0, -0.01]])
    found = reslice(volume, ends, straight)
    assert found.tolist() == [volume[-1, 0, 0], volume[-1, -1, -1], OUTSIDE, OUTSIDE]


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("turned_over", [False, True])
def test_a_pose_of_steps_has_those_steps(seed, turned_over):
    rng = np.random.default_rng(seed)
    steps = Rotation.random(random_state=seed).as_matrix()[:, :2] @ (np.eye(2) + 0.2 * rng.standard_normal((2, 2)))
    steps = steps[:, ::-1] if turned_over else steps
    pose = Pose.of_matrix(steps, [1, 2, 3])
    assert pose.steps == pytest.approx(steps, abs=1e-12)
    assert pose.frame.T @ pose.frame == pytest.approx(np.eye(3), abs=1e-12)
    assert np.linalg.det(pose.frame) == pytest.approx(1)
    assert pose.linear[1, 0] == pytest.approx(0, abs=1e-12)
    assert (np.diag(pose.linear) > 0).all()
    assert pose.points(np.array([[0, 0], [2, -3]])) == pytest.approx(
        np.array([[1, 2, 3], [1, 2, 3] + 2 * steps[:, 0] - 3 * steps[:, 1]])
    )


def test_scale_and_shear_of_a_matrix_made_by_hand():
    frame = Rotation.random(random_state=1).as_matrix()
    section_from_plane = np.array([[1.02, 0.03 * 0.98], [0.0, 0.98]])  # 2 % taller, 2 % narrower, 3 % sheared
    pose = Pose.of_matrix(frame[:, :2] @ np.linalg.inv(section_from_plane), np.zeros(3))
    assert pose.scale == pytest.approx((1.02, 0.98))
    assert pose.shear == pytest.approx(np.linalg.inv(section_from_plane)[0, 1] * 0.98)
    assert pose.frame == pytest.approx(frame)
    rows = pose.linear @ np.array([0, 100]) - pose.linear @ np.array([0, 0])
    assert rows[0] / rows[1] == pytest.approx(pose.shear)  # rows moved over the columns gone along


REACH = 80.0


@pytest.mark.parametrize("axis", range(3))
@pytest.mark.parametrize("degrees", [-170.0, -3.0, 1e-7, 20.0])
def test_a_turn_is_scipys_rotation_in_the_sections_own_frame(axis, degrees):
    pose = a_pose(4)
    move = np.zeros(RIGID)
    move[axis] = np.deg2rad(degrees) * REACH
    turned = pose.moved(move, REACH)
    expected = Rotation.from_rotvec(np.deg2rad(degrees) * pose.frame[:, axis]).as_matrix() @ pose.frame
    assert turned.frame == pytest.approx(expected, abs=1e-12)
    assert turned.centre == pytest.approx(pose.centre)
    assert turned.linear == pytest.approx(pose.linear)


@pytest.mark.parametrize("seed", range(3))
def test_any_turn_is_scipys_rotation(seed):
    pose, turn = a_pose(seed), np.random.default_rng(seed).standard_normal(3)
    expected = pose.frame @ Rotation.from_rotvec(turn).as_matrix()
    assert pose.moved(turn * REACH, REACH).frame == pytest.approx(expected, abs=1e-12)


def test_shifts_scales_and_shear_of_a_move():
    pose = a_pose(2)
    shifted = pose.moved(np.array([0, 0, 0, 1.0, -2.0, 3.0]), REACH)
    assert shifted.centre - pose.centre == pytest.approx(pose.frame @ [1, -2, 3])
    flat = Pose(pose.frame, pose.centre, np.eye(2))
    every = np.zeros(AFFINE)
    every[6:] = np.log(1.03) * REACH, np.log(0.96) * REACH, 2.0
    assert flat.moved(every, REACH).linear == pytest.approx(np.array([[1.03, 2 / REACH], [0, 0.96]]))
    assert pose.moved(np.zeros(AFFINE), REACH).points(np.eye(2)) == pytest.approx(pose.points(np.eye(2)))


@pytest.mark.parametrize("parameter", range(AFFINE))
def test_a_move_of_one_is_about_a_voxel_at_the_reach(parameter):
    pose, corners = Pose(np.eye(3), np.zeros(3), np.eye(2)), REACH * np.array([[1, 0], [0, 1], [-1, 0], [0, -1]])
    moved = pose.moved(np.eye(AFFINE)[parameter], REACH)
    assert np.linalg.norm(moved.points(corners) - pose.points(corners), axis=1).max() == pytest.approx(1, abs=0.01)


def test_distance_of_two_poses_by_hand():
    pose = a_pose(1)
    moved = replace(pose, centre=pose.centre + [3, 0, 4])
    assert distance(pose, moved, 50.0) == pytest.approx(5)
    turned = Pose(np.eye(3), np.zeros(3), np.eye(2)).moved(np.array([0, 0, np.pi * 50]), 50.0)  # half a turn in place
    assert distance(Pose(np.eye(3), np.zeros(3), np.eye(2)), turned, 50.0) == pytest.approx(2 * 50 * np.sqrt(2))


@pytest.mark.parametrize("factor", [1, 2, 4])
def test_a_reduced_volume_keeps_the_values_of_a_ramp(factor):
    shape = (32, 40, 48)
    z, y, x = np.indices(shape)
    ramp = (z + 2 * y + 3 * x).astype(np.float32)
    small = ramp
    for _ in range(int(np.log2(factor))):
        small = halve_volume(small)
    pose = Pose.of_matrix(
        Rotation.from_euler("xyz", [20, -30, 40], degrees=True).as_matrix()[:, :2], np.array([15.0, 20, 24])
    )
    full = (16, 24)
    places = pixel_places((full[0] // factor, full[1] // factor), full, factor)
    found = reslice(small, places, pose.matrix(factor))
    assert found == pytest.approx(pose.points(places * factor) @ [1, 2, 3], abs=1e-3)


@pytest.mark.parametrize("shape", [(8, 10), (3, 9, 13)])
@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_halve_is_block_reduce(shape, dtype):
    image = (np.random.default_rng(0).random(shape) * 255).astype(dtype)
    even = image[..., : shape[-2] // 2 * 2, : shape[-1] // 2 * 2]
    expected = block_reduce(even.astype(float), (*(1,) * (len(shape) - 2), 2, 2), np.mean)
    assert halve(image).dtype == np.float32
    assert halve(image) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("shape", [(6, 8, 10), (7, 9, 11)])
def test_halve_volume_is_block_reduce(shape):
    volume = (np.random.default_rng(0).random(shape) * 65535).astype(np.uint16)
    even = volume[tuple(slice(size // 2 * 2) for size in shape)]
    assert halve_volume(volume) == pytest.approx(block_reduce(even.astype(float), 2, np.mean), rel=1e-6)


@pytest.mark.parametrize("full", [(64, 96), (65, 99), (70, 67)])
@pytest.mark.parametrize("factor", [1, 2, 4])
def test_a_pixel_is_in_the_same_place_at_all_levels(full, factor):
    rows, columns = np.indices(full, dtype=np.float32)
    for number, coordinate in enumerate((rows, columns)):
        small = coordinate
        for _ in range(int(np.log2(factor))):
            small = halve(small)
        places = pixel_places(small.shape, full, factor)
        expected = small.ravel() - (full[number] - 1) / 2  # where the reduced pixel's middle lies on the full grid
        assert places[:, number] * factor == pytest.approx(expected, abs=1e-4)


def test_levels_are_of_one_place_each():
    rng = np.random.default_rng(0)
    volume, section = a_volume(0, (70, 66, 64)), (rng.random((3, 130, 101)) * 255).astype(np.uint8)
    levels = make_levels(volume, section)
    assert [level.factor for level in levels] == [4, 2]
    for level in levels:
        assert level.volume.shape == tuple(size // level.factor for size in volume.shape)
        assert level.volume.min() == 0
        assert level.volume.max() == BINS - 1
        assert len(level.points) == len(level.classes) == np.prod(level.shape)
        assert level.shape == (130 // level.factor, 101 // level.factor)
        assert level.classes.max() < COLOURS
