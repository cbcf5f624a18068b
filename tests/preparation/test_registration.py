"""A section is found again in its volume: phantoms whose truth is known, and local shifts that were planted."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter, map_coordinates

from bundle.preparation.phantom.block import RIGID
from bundle.preparation.registration import plane as planes
from bundle.preparation.registration.confidence import ACCEPTED, FEWEST, HELD, RIVAL_PX, Verdict, chance, judge
from bundle.preparation.registration.finish import make_slab
from bundle.preparation.registration.levels import Level, classify, colour_centres, pixel_places, to_bins
from bundle.preparation.registration.plane import find_plane
from bundle.preparation.registration.pose import Pose
from bundle.preparation.registration.search import Climbed, Effort, Guess, distinct, poses_near, random_poses, reach_of
from bundle.preparation.registration.similarity import BINS
from bundle.preparation.registration.trace import Trace
from bundle.preparation.registration.warp import (
    BLOCK_PX,
    LEAST_JACOBIAN,
    Blocks,
    jacobian,
    match_blocks,
    smooth_field,
    without_folds,
)
from scripts.bench.registration import half, in_plane_error, make_trial, plane_error, run, start, true_pose

SIZE = 128
LITTLE = Effort(600, (8, 4, 2), 1)  # to compare runs, not to find planes


@pytest.fixture(scope="module")
def trial():
    return make_trial(1, size=SIZE)


@pytest.fixture(scope="module")
def other():
    return make_trial(0, size=SIZE).volume


def near(slide, seed=6):
    """A start 10° and 20 voxels off, which is as far in this block as 40 in one of 256."""
    guess = start(slide, np.random.default_rng(seed))
    true = true_pose(slide)
    return replace(guess, pose=replace(guess.pose, centre=(guess.pose.centre + true.centre) / 2))


@pytest.fixture(scope="module")
def found(trial):
    trace = Trace(shown=False)
    return find_plane(trial.volume, trial.slide.pixels, 5.0, near(trial.slide), trace=trace)


def test_the_plane_is_recovered_from_a_start_that_is_off(trial, found):
    slide = trial.slide
    assert plane_error(slide, near(slide).pose) > 5
    assert plane_error(slide, found.finished.pose) < 2
    assert in_plane_error(slide, found.finished.pose, RIGID) < 2
    assert in_plane_error(slide, found.finished.pose, RIGID, found.finished.warp) < 1
    assert found.verdict.accepted
    assert found.verdict.sentence.startswith("accepted, confidence 0.9")


def test_scale_and_shear_are_those_of_the_distortion(trial, found):
    true = true_pose(trial.slide)
    assert found.finished.pose.scale == pytest.approx(true.scale, abs=0.015)
    assert found.finished.pose.shear == pytest.approx(true.shear, abs=0.015)


def test_a_section_in_a_wrong_volume_of_the_same_material_is_not_accepted(trial, other, found, monkeypatch):
    monkeypatch.setattr(planes, "TRIES", (1,))
    wrong = find_plane(other, trial.slide.pixels, 5.0, near(trial.slide), trace=Trace(shown=False))
    assert not wrong.verdict.accepted
    assert wrong.verdict.sentence.startswith("NOT accepted")
    assert wrong.verdict.placed < found.verdict.placed
    assert wrong.finished.score < found.finished.score


def test_a_section_turned_over_on_its_slide_is_found_too(trial, found):
    """The mirror image is the same plane seen from below."""
    over = replace(
        trial.slide,
        pixels=trial.slide.pixels[..., ::-1],
        places=trial.slide.places[..., ::-1],
        labels=trial.slide.labels[:, ::-1],
    )
    pose = near(trial.slide).pose
    guess = Guess(Pose.of_matrix(pose.steps * [1, -1], pose.centre))
    turned = find_plane(trial.volume, np.ascontiguousarray(over.pixels), 5.0, guess, trace=Trace(shown=False))
    assert plane_error(over, turned.finished.pose) < 2
    assert in_plane_error(over, turned.finished.pose, RIGID) < 2
    assert turned.finished.pose.frame[:, 2] @ found.finished.pose.frame[:, 2] < -0.99


def test_without_a_guess_the_plane_is_found_either_side_up(trial, monkeypatch):
    monkeypatch.setattr(planes, "GLOBAL", Effort(100_000, (150, 40, 8), 3))  # a small block needs no more
    monkeypatch.setattr(planes, "TRIES", (1,))
    free = find_plane(trial.volume, trial.slide.pixels, 5.0, trace=Trace(shown=False))
    assert plane_error(trial.slide, free.finished.pose) < 2
    assert in_plane_error(trial.slide, free.finished.pose, RIGID) < 2


def test_the_same_seed_finds_the_same_and_says_so_in_the_trace(trial, monkeypatch, capsys):
    monkeypatch.setattr(planes, "GUESSED", LITTLE)
    traces = [Trace() for _ in range(3)]
    runs = [
        find_plane(trial.volume, trial.slide.pixels, 5.0, near(trial.slide), seed, trace)
        for seed, trace in zip((3, 3, 4), traces, strict=True)
    ]
    one, again, another = (run.finished for run in runs)
    assert np.array_equal(one.pose.points(np.eye(2)), again.pose.points(np.eye(2)))
    assert np.array_equal(one.warp, again.warp)
    assert one.score == again.score
    assert runs[0].verdict == runs[1].verdict
    assert not np.array_equal(one.pose.centre, another.pose.centre)
    stages = [row[0] for row in traces[0].rows]
    assert stages[0] == "1/4 size, 600 poses"
    assert stages[-1] == "full size, local shifts 3"
    assert [row[2:] for row in traces[0].rows] == [row[2:] for row in traces[1].rows]
    assert f"{stages[-1]}: {one.score:.3f} nats per pixel" in capsys.readouterr().err


def test_what_is_not_accepted_is_tried_again_with_more_poses(trial, other, monkeypatch):
    monkeypatch.setattr(planes, "GUESSED", LITTLE)
    monkeypatch.setattr(planes, "TRIES", (1, 2))
    trace = Trace()
    wrong = find_plane(other, trial.slide.pixels, 5.0, near(trial.slide), 3, trace)
    assert not wrong.verdict.accepted
    assert [row[0] for row in trace.rows if "poses" in row[0]] == ["1/4 size, 600 poses", "1/4 size, 1200 poses"]
    final = [row[2] for row in trace.rows if row[0] == "full size, local shifts 3"]
    assert wrong.finished.score == pytest.approx(max(final), abs=1e-3)


# --- guesses and starts ---


def test_poses_near_a_guess_stay_within_it():
    guess = Guess(Pose(np.eye(3), np.array([50.0, 60, 70]), np.eye(2)), 15.0, 20.0)
    frames, centres = poses_near(guess, np.random.default_rng(0), 3000, 80.0)
    angles = np.rad2deg(np.arccos(np.clip((np.trace(frames, axis1=1, axis2=2) - 1) / 2, -1, 1)))
    off = np.linalg.norm(centres - guess.pose.centre, axis=1)
    assert 14 < angles.max() < 15.1
    assert 19 < off.max() < 20.01
    assert np.array_equal(frames[0], guess.pose.frame) or angles.min() < 2
    assert np.linalg.det(frames) == pytest.approx(np.ones(3000))


def test_random_poses_go_everywhere():
    frames, centres = random_poses(np.random.default_rng(0), 4000, (100, 120, 140), (90, 80))
    assert np.linalg.det(frames) == pytest.approx(np.ones(4000))
    assert np.abs(frames[:, :, 2].mean(0)).max() < 0.06
    assert (centres >= 0).all()
    assert (centres <= [100, 120, 140]).all()


def test_distinct_keeps_the_best_of_what_lies_together():
    poses = [Pose(np.eye(3), np.array([at, 0.0, 0.0]), np.eye(2)) for at in (0, 3, 10, 11, 40)]
    climbed = [Climbed(pose, value, 1) for pose, value in zip(poses, (1.0, 2.0, 3.0, 2.5, 0.5), strict=True)]
    kept = distinct(climbed, 50.0, 5.0, 3)
    assert [each.score for each in kept] == [3.0, 2.0, 0.5]
    assert [each.score for each in distinct(climbed, 50.0, 5.0, 2)] == [3.0, 2.0]


def test_the_slab_holds_the_plane_in_its_middle(trial):
    pose = true_pose(trial.slide)
    pose = replace(pose, linear=np.eye(2))
    volume = np.indices((SIZE,) * 3).sum(0).astype(np.float32)  # a ramp keeps its values under any symmetric blur
    slab = make_slab(volume, trial.slide.pixels, pose, 1.5)
    depth, rows, columns = slab.volume.shape
    assert slab.shape == trial.slide.pixels.shape[1:]
    steps = [np.arange(size) - (size - 1) / 2 for size in (rows, columns)]
    places = np.stack(np.meshgrid(*steps, indexing="ij"), axis=-1).reshape(-1, 2)
    expected = pose.points(places).sum(1).reshape(rows, columns)
    inner = (slice(rows // 3, -(rows // 3)), slice(columns // 3, -(columns // 3)))
    greys, ramp = slab.volume[depth // 2][inner].ravel(), expected[inner].ravel()
    open_ = (greys > 0) & (greys < BINS - 1)
    slope, offset = np.polyfit(ramp[open_], greys[open_], 1)
    assert greys[open_] == pytest.approx(slope * ramp[open_] + offset, abs=1e-2)
    assert slope > 0


# --- local shifts ---

FIELD = (160, 176)


def a_field(amplitude, seed=0, smooth=32):
    noise = np.random.default_rng(seed).standard_normal((2, *FIELD))
    field = gaussian_filter(noise, (0, smooth, smooth), mode="wrap")
    return field * amplitude / np.hypot(*field).max()


def two_modalities(warp):
    """A level whose section is a recoloured slice of the volume, and shows at p what lies at p + warp of the plane."""
    shape = tuple(size + 40 for size in FIELD)
    texture = gaussian_filter(np.random.default_rng(5).standard_normal(shape), 2.5)
    texture = (texture - texture.min()) / np.ptp(texture)
    volume = np.repeat(texture[None].astype(np.float32), 5, axis=0)
    rows, columns = np.indices(FIELD)
    seen = map_coordinates(texture, np.stack([rows, columns]) + 20 + warp, order=1)
    # colours are no function that rises: dark and bright of the volume are both dark here
    section = np.stack([255 * np.abs(np.sin(7 * seen)), 200 * (seen > 0.5) + 20, 255 * (1 - seen) ** 2])
    section = np.clip(section + np.random.default_rng(6).normal(0, 4, section.shape), 0, 255).astype(np.uint8)
    classes = classify(section, colour_centres(section))
    level = Level(1, to_bins(volume, volume), pixel_places(FIELD, FIELD, 1), classes, FIELD)
    flat = Pose(np.array([[0.0, 0, 1], [1, 0, 0], [0, 1, 0]]), (np.array(volume.shape) - 1) / 2, np.eye(2))
    return level, flat


@pytest.mark.parametrize("seed", [0, 1])
def test_a_planted_warp_is_recovered_where_blocks_tell(seed):
    planted = a_field(3.0, seed)
    level, pose = two_modalities(planted)
    blocks = match_blocks(level, pose, 6)
    field = smooth_field(blocks, FIELD)
    off = np.hypot(*(field - planted))
    assert np.hypot(*planted).mean() > 1
    assert off[16:-16, 16:-16].mean() < 0.5
    assert np.quantile(off[16:-16, 16:-16], 0.95) < 0.7
    for _ in range(2):  # what is left is found in further turns
        field = field + smooth_field(match_blocks(level, pose, 3, field), FIELD)
    assert np.hypot(*(field - planted))[16:-16, 16:-16].mean() < off[16:-16, 16:-16].mean()


def test_a_shift_of_the_whole_is_found_in_every_block_to_part_of_a_pixel():
    planted = np.broadcast_to(np.array([2.0, -1.5])[:, None, None], (2, *FIELD))
    level, pose = two_modalities(planted)
    blocks = match_blocks(level, pose, 5)
    inner = (slice(None), slice(1, -1), slice(1, -1))
    assert blocks.reach == 5
    assert blocks.shifts[inner][0] == pytest.approx(2.0, abs=0.3)
    assert blocks.shifts[inner][1] == pytest.approx(-1.5, abs=0.5)
    assert (blocks.weights >= 0).all()
    assert np.array_equal(blocks.best, blocks.matches.max((0, 1)))
    assert blocks.rows[:3].tolist() == [BLOCK_PX // 4, 3 * BLOCK_PX // 4, 5 * BLOCK_PX // 4]


def test_a_warp_known_already_leaves_nothing_to_find():
    planted = a_field(3.0)
    level, pose = two_modalities(planted)
    left = match_blocks(level, pose, 3, planted).shifts[:, 1:-1, 1:-1]
    assert np.abs(left).mean() < 0.15


def test_the_peak_of_a_parabola_is_found_by_hand():
    matches = np.zeros((5, 5, 1, 1), np.float32)
    rows, columns = np.indices((5, 5)) - 2
    matches[..., 0, 0] = 10 - (rows - 0.3) ** 2 - (columns + 0.75) ** 2
    blocks = Blocks(np.array([0]), np.array([0]), matches)
    assert blocks.shifts.ravel() == pytest.approx([0.3, -0.75], abs=1e-5)
    assert blocks.weights[0, 0] == pytest.approx(2 * (matches.max() - matches.mean()), rel=1e-5)


def test_a_smooth_field_of_equal_shifts_is_flat_and_weightless_blocks_do_not_count():
    matches = np.zeros((7, 7, 6, 7), np.float32)
    rows, columns = np.indices((7, 7)) - 3
    matches[:] = (-((rows - 1) ** 2) - (columns + 2) ** 2)[:, :, None, None]
    matches[:, :, 2, 3] = 1.0  # the same at all shifts: no weight
    middles = np.arange(8, 200, 16)
    field = smooth_field(Blocks(middles[:6], middles[:7], matches), (96, 112))
    assert field[0] == pytest.approx(1.0, abs=1e-3)
    assert field[1] == pytest.approx(-2.0, abs=1e-3)


@pytest.mark.parametrize("matrix", [[[1.1, 0.0], [0.0, 0.9]], [[1.0, 0.2], [-0.3, 1.2]], [[-0.5, 0], [0, 1]]])
def test_the_jacobian_of_a_linear_field_is_its_determinant(matrix):
    places = np.indices((20, 24)).astype(float)
    warp = np.einsum("ij,jhw->ihw", np.array(matrix) - np.eye(2), places) + 3
    assert jacobian(warp) == pytest.approx(np.linalg.det(matrix))


def test_a_field_that_folds_is_flattened_and_keeps_its_form():
    folding = a_field(3.0, smooth=3) * 8
    assert jacobian(folding).min() < 0
    flat = without_folds(folding)
    share = flat.ravel() @ folding.ravel() / (folding.ravel() @ folding.ravel())
    assert jacobian(flat).min() >= LEAST_JACOBIAN
    assert flat == pytest.approx(share * folding)
    assert jacobian(flat / 0.8).min() < LEAST_JACOBIAN  # no flatter than it must be


def test_a_field_without_folds_is_left_as_it_is():
    fine = a_field(3.0)
    assert jacobian(fine).min() > LEAST_JACOBIAN
    assert np.array_equal(without_folds(fine), fine)


# --- what is believed ---


def test_confidence_rises_with_each_evidence_and_falls_with_a_rival():
    assert chance(1.0, 1.0, 0.0) > 0.99
    assert chance(0.3, 0.6, 0.97) < 0.01
    assert chance(0.70, 0.815, 0.9) == pytest.approx(ACCEPTED)
    assert chance(0.8, 0.85, 0) > chance(0.75, 0.85, 0) > chance(0.75, 0.8, 0) > chance(0.75, 0.8, 0.95)


def test_too_few_blocks_or_no_detail_are_not_believed(found):
    finished = found.finished
    blank = replace(finished, slab=replace(finished.slab, classes=np.zeros_like(finished.slab.classes)))
    verdict = judge(blank, [])
    assert verdict.blocks < FEWEST
    assert verdict.confidence == 0
    assert not verdict.accepted


def test_only_rivals_far_away_count(found):
    with_near = judge(found.finished, [(0.999, RIVAL_PX - 1)])
    with_far = judge(found.finished, [(0.999, RIVAL_PX + 1), (0.5, 100.0)])
    assert with_near.rival == 0
    assert with_far.rival == 0.999
    assert with_far.confidence < with_near.confidence


def test_a_verdict_in_words():
    verdict = Verdict(0.98, 0.9, 0.85, 0.7, 200)
    assert verdict.sentence == (
        "accepted, confidence 0.98: 90% of 200 blocks match best where the whole puts them (usual limit 70%), 85% "
        f"match better in the plane than above or below it ({HELD:.0%}), the best other plane tells 70% of this one "
        "(90% at most)"
    )
    doubted = replace(verdict, rival=0.0, doubts=("the 3 landmarks lie 900 µm off (median)",))
    assert doubted.sentence.startswith("NOT accepted")
    assert doubted.sentence.endswith("900 µm off (median)")
    assert "no other plane comes near" in doubted.sentence


def test_reach_is_the_same_for_a_section_on_its_side():
    assert reach_of((100, 60)) == reach_of((60, 100)) > 0


def test_half_of_a_slide_holds_its_screw(trial):
    part = half(trial.slide)
    assert sorted(part.labels.shape) == [SIZE // 2, SIZE]
    assert part.pixels.shape[1:] == part.labels.shape == part.places.shape[1:]
    points = trial.slide.plane.points(*part.places)
    assert np.array_equal(part.labels, map_coordinates(trial.block.labels, points, order=0, mode="nearest"))


# --- the limits that docs/registration.md states, at the size it states them for ---


@pytest.mark.slow
@pytest.mark.parametrize("number", [0, 4])
def test_at_full_size_planes_are_found_and_wrong_ones_refused(number):
    trial, other = make_trial(number), make_trial(number ^ 1).volume
    for arm in ("whole", "half"):
        row = run(trial, other, arm, number)
        assert row["plane"] < 3, arm  # a good result by the docs; 1.63 on one CPU where others stay below 1.5
        assert row["bone"] < 2, arm
        assert row["confidence"] >= ACCEPTED, arm
    free = run(trial, other, "whole_free", number)
    assert free["plane"] < 3
    wrong = run(trial, other, "whole_wrong", number)
    assert wrong["confidence"] < ACCEPTED
