"""The expected error of a stained volume is held against the true one, and scored as planted."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest

from bundle.common.errors import InputError
from bundle.evaluation.error_layer import Layer, open_layer, score_layer, table
from bundle.evaluation.error_map import auroc_of_worst, trivial_scores, windows_of
from bundle.evaluation.volumes_command import volume_scores
from bundle.images.stained import number_map, stored
from bundle.images.stained.number_map import MapSpec
from bundle.images.stained.spec import StainSpec
from bundle.images.volumes.geometry import Geometry
from bundle.preparation.phantom.dataset import write_volume

SIDE = 96
CUBES = SIDE // 4


@pytest.fixture(scope="module")
def cubes() -> np.ndarray:
    """An error of whole levels that differs from window to window of 32 px, in cubes of 4."""
    rng = np.random.default_rng(0)
    return rng.permutation(27).reshape(3, 3, 3).repeat(8, 0).repeat(8, 1).repeat(8, 2).astype(np.float32) * 4 + 1


@pytest.fixture(scope="module")
def stain(cubes) -> np.ndarray:
    """What is off by that from a black truth."""
    voxels = cubes.repeat(4, 0).repeat(4, 1).repeat(4, 2)
    return voxels[..., None].repeat(3, 3).astype(np.uint8)


def scored(cubes: np.ndarray, stain: np.ndarray, **given) -> dict:
    layer = Layer(cubes, 0, given.pop("bound", 1.0), 0.9)
    return score_layer(layer, stain, np.zeros_like(stain), np.ones(stain.shape[:3], bool), 8, **given)


def test_a_planted_map_that_is_the_error_finds_the_worst_windows_and_covers_all(cubes, stain):
    found = scored(cubes, stain)
    assert (found["auroc"], found["coverage"], found["known"]) == (1, 1, 1)
    assert found["windows"] == 9 * SIDE // 8
    assert found["true_error"] == found["expected_error"] == pytest.approx(cubes.mean())
    ordered = np.sort(cubes[::8, ::8, ::8].ravel().repeat(4))
    assert found["abstention"]["0.5"] == pytest.approx(ordered[:54].mean())
    assert set(found["trivial"].values()) == {None}
    assert scored(np.full_like(cubes, 7), stain)["auroc"] == 0.5


def test_the_bound_is_told_of_all_and_by_tissue(cubes, stain):
    labels = np.zeros(stain.shape[:3], np.uint8)
    labels[:, :32] = 1
    tissues = {"bone": [1], "lacuna": [5]}
    found = scored(np.full_like(cubes, 10), stain, bound=5.0, labels=labels, tissues=tissues)
    assert found["coverage"] == pytest.approx((cubes <= 50).mean())
    assert found["tissues"] == {"bone": pytest.approx((cubes[:, :8] <= 50).mean()), "lacuna": None}


def test_what_is_not_known_does_not_count(cubes, stain):
    some = cubes.copy()
    some[:8] = np.nan
    found = scored(some, stain)
    assert found["known"] == pytest.approx(2 / 3)
    assert found["true_error"] == pytest.approx(cubes[8:].mean())
    nothing = scored(np.full_like(cubes, np.nan), stain)
    assert (nothing["windows"], nothing["auroc"], nothing["coverage"], nothing["true_error"]) == (0, None, None, None)


def test_scores_that_need_no_network_are_of_the_scan(cubes, stain):
    scan = np.random.default_rng(1).normal(0, 1000, stain.shape[:3]).astype(np.float32)
    found = scored(cubes, stain, scan=scan)
    everywhere, error, score = np.ones((SIDE, SIDE), bool), [], []
    for place in range(4, SIDE, 8):
        error.append(windows_of(stain[place, ..., 0], everywhere, 32))
        score.append(windows_of(trivial_scores(scan[place])["spread_16"], everywhere, 32))
    assert found["trivial"]["spread_16"] == pytest.approx(auroc_of_worst(*map(np.concatenate, (score, error))))
    assert found["trivial"]["grey"] == pytest.approx(1 - found["trivial"]["inverted_grey"])


@pytest.fixture
def volume(cubes, stain, tmp_path) -> Path:
    """A stained OME-Zarr with the map in it, its truth and labels."""
    geometry = Geometry((5.0, 5.0, 5.0), (0.0, 0.0, 0.0), np.eye(3))
    spec = StainSpec(stain.shape[:3], 3, geometry, {"expected_error": {"bound": 1.0, "level": 0.9}})
    path = tmp_path / "stained.ome.zarr"
    stored.create(path, "ome-zarr", spec)
    for start in range(0, SIDE, stored.DEPTH):
        stored.write_slab(path, "ome-zarr", spec, start, stain[start : start + stored.DEPTH])
    stored.finish(path, "ome-zarr", spec)
    write_map(path / "expected_error", spec, cubes)
    write_volume(tmp_path / "true.nii.gz", np.zeros_like(stain), 5.0)
    labels = np.full(stain.shape[:3], 6, np.uint8)
    labels[:, :32] = 8
    write_volume(tmp_path / "labels.nii.gz", labels, 5.0)
    return path


def write_map(path: Path, stain: StainSpec, cubes: np.ndarray) -> None:
    spec = MapSpec(stain, 4, "expected_error", "levels", (0.0, 100.0))
    number_map.create(path, spec)
    for start in range(0, len(cubes), spec.depth):
        number_map.write_slab(path, spec, start, cubes[start : start + spec.depth])
    number_map.finish(path, spec)


def test_the_command_scores_the_map_beside_the_stain(volume, tmp_path):
    truth, labels, output = tmp_path / "true.nii.gz", tmp_path / "labels.nii.gz", tmp_path / "scores.json"
    text = volume_scores(str(volume), str(truth), str(labels), output=str(output))
    assert re.search(r"^AUROC ↑ +1\.00", text, re.M)
    assert re.search(r"^within the bound \(%\), new bone +100\.0", text, re.M)
    assert "AUROC of the grey value" not in text  # no scan was given
    assert "mean error of the windows, 80 % kept" in text
    told = json.loads(output.read_text())
    assert told[str(volume)]["expected_error"]["coverage"] == 1
    assert "expected_error" not in told["truth"]


def test_a_part_has_its_own_cubes(volume, cubes):
    layer = open_layer(volume, (SIDE,) * 3, slice(37, 64))
    assert np.array_equal(layer.at(0, SIDE, SIDE)[::4, ::4], cubes[9])
    assert np.array_equal(layer.at(3, SIDE, SIDE)[::4, ::4], cubes[10])


def test_a_map_of_another_volume_or_without_its_bound_is_refused(volume, cubes):
    with pytest.raises(
        InputError, match=r"has \(24, 24, 24\) cubes, but .* has \(24, 24, 20\), of 4 voxels a side; stain"
    ):
        open_layer(volume, (SIDE, SIDE, 80), slice(0, SIDE))
    geometry = Geometry((5.0, 5.0, 5.0), (0.0, 0.0, 0.0), np.eye(3))
    write_map(volume / "expected_error", StainSpec((SIDE,) * 3, 3, geometry, {}), cubes)
    with pytest.raises(InputError, match="does not say its bound; stain the volume again, or remove the map"):
        open_layer(volume, (SIDE,) * 3, slice(0, SIDE))


def test_of_fewer_slices_than_are_left_out_one_is_looked_at(cubes, stain):
    layer, inside = Layer(cubes, 0, 1.0, 0.9), np.ones(stain.shape[:3], bool)
    assert score_layer(layer, stain[:8], 0 * stain[:8], inside[:8], 64)["windows"] == 9


def test_volumes_stand_side_by_side_in_the_table(cubes, stain):
    one, other = scored(cubes, stain), scored(np.full_like(cubes, np.nan), stain)
    text = table({"one": one, "other": other})
    assert "| expected error | one | other |" in text
    assert "| AUROC ↑ | 1.00 | not defined |" in text
    assert "| within the bound (%; 90 wanted) | 100.0 | not defined |" in text
