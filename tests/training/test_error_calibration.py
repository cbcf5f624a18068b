"""Expected errors learnt from sections that were held back: planted ones are found, and bounds hold."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from bundle.data.load import load_datalist
from bundle.networks.error_map import ErrorMap
from bundle.networks.likeness import Likeness
from bundle.staining.model import load_model
from bundle.training import error_map
from bundle.training.error_map import Judged, calibrated
from tests.conftest import TINY, make_dataset, run_bundle

SIZE = 96


def judged(seed: int, specimen: str = "", scale: float = 1.0) -> Judged:
    """A section whose errors have a mean that one of its four features tells, and are drawn from it."""
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(SIZE // 4, SIZE // 4, 4)).astype(np.float32)
    mean = 12 * np.exp(0.8 * np.tanh(features[..., 2]))
    pixels = np.kron(mean, np.ones((4, 4))) * scale
    mask = np.ones((SIZE, SIZE), bool)
    mask[:10] = False
    error = np.where(mask, rng.exponential(pixels), 250.0).astype(np.float32)  # outside, nothing counts
    return Judged(specimen or f"rat {seed}", features, error, mask)


@pytest.fixture(scope="module")
def found() -> ErrorMap:
    return calibrated([judged(seed) for seed in range(5)])


def test_a_planted_error_is_found(found):
    new = judged(77)
    expected, true = new.predicted(found.head)[new.mask], 12 * np.exp(0.8 * np.tanh(new.features[..., 2]))
    assert np.corrcoef(expected, np.kron(true, np.ones((4, 4)))[new.mask])[0, 1] > 0.8  # interpolated between cells
    assert expected.mean() == pytest.approx(new.error[new.mask].mean(), rel=0.1)
    assert found.calibration.auroc > 0.6
    assert found.calibration.mean == pytest.approx(np.mean([judged(seed).error[10:].mean() for seed in range(5)]), 0.05)


def test_its_bound_holds_on_what_it_has_not_seen(found):
    for seed in (77, 78, 79):
        new = judged(seed)
        within = new.error[new.mask] <= found.calibration.bound * new.predicted(found.head)[new.mask]
        assert within.mean() == pytest.approx(0.9, abs=0.03)
    assert found.calibration.coverage == pytest.approx(0.9, abs=0.03)
    assert found.calibration.level == 0.9


def test_specimens_are_left_out_whole():
    pairs = [judged(0, "a"), judged(1, "a"), judged(2, "b", scale=4.0), judged(3, "b", scale=4.0)]
    told = calibrated(pairs).calibration
    assert told.specimens == 2
    assert told.coverage < 0.75  # what a says of b is wrong, and that is said
    assert calibrated([judged(0, "a"), judged(1, "a")]).calibration.specimens == 1  # then pair by pair


def test_the_same_sections_give_the_same_map_and_leave_chance_alone(found):
    before = torch.get_rng_state()
    again = calibrated([judged(seed) for seed in range(5)])
    assert torch.equal(torch.get_rng_state(), before)
    assert again.calibration == found.calibration
    weights = again.head.state_dict()
    assert all(torch.equal(weights[name], value) for name, value in found.head.state_dict().items())


def test_one_section_is_too_few():
    assert calibrated([judged(0)]) is None


@pytest.fixture(scope="module")
def held_back(tmp_path_factory):
    """A run with a fold of two pairs, and what it said."""
    folder = tmp_path_factory.mktemp("held_back")
    make_dataset(folder / "data", pairs=5)
    configs = "['configs/train.json','configs/profiles/demo.json']"
    ids = {**TINY, "epochs": 1, "fold": 1, "validate_every": 0}
    done = run_bundle("training", configs, dataset_dir=folder / "data", output_dir=folder / "run", **ids)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder / "run", done.stdout + done.stderr


def test_a_training_leaves_both(held_back):
    run, said = held_back
    assert "error map: learnt from 2 pairs of the validation fold" in said
    models = run / "bundle" / "models"
    assert ErrorMap.load(models / "error_map.pt").calibration.specimens == 2
    likeness = Likeness.load(models / "likeness.npz")
    assert np.isfinite(likeness.usual)
    assert (models / "error_map.pt").stat().st_size + (models / "likeness.npz").stat().st_size < 1e6


def test_a_fold_that_was_learnt_from_is_none_to_judge_by(tmp_path):
    began = {"config": {"fold": 0}, "data_sha256": {"a": "1"}}
    same = {"data_sha256": {"a": "1"}}  # its config is that of the beginning
    other_fold = {**same, "config": {"fold": 1}}
    other_data = {"data_sha256": {"a": "2"}}
    assert error_map.always_held_back(tmp_path)  # of before there were records
    for resumed, held in ([], True), ([same], True), ([same, other_fold], False), ([other_data], False):
        (tmp_path / "provenance.json").write_text(json.dumps({**began, "resumed": resumed}))
        assert error_map.always_held_back(tmp_path) == held


def test_what_the_bundle_expects_is_what_was_learnt(held_back, monkeypatch):
    """The head beside the weights gives on a section what it gave where it was learnt."""
    run, _ = held_back
    data = load_datalist(run.parent / "data", fold=1)
    model = load_model(run / "bundle")
    inference = json.loads((run / "bundle/configs/inference.json").read_text())
    weights = model.network.state_dict()
    own = {name: value for name, value in weights.items() if not name.startswith("error.")}
    monkeypatch.setattr(error_map, "MOST_BYTES", 8 * 64 * 72 * 3)  # three features at a time
    section = error_map._judge(data, data.validation[0], inference, own, "cpu")
    head = ErrorMap.load(run / "bundle/models/error_map.pt").head
    _, cells = model.with_error(error_map.load_pair(data.validation[0])["source"])
    rows = torch.from_numpy(section.features.reshape(-1, section.features.shape[-1]))
    assert head.levels(rows).numpy() == pytest.approx(cells.ravel(), rel=0.02)  # windows are blended after or before


def test_without_pairs_held_back_a_line_says_so(trained):
    assert not (trained / "bundle/models/error_map.pt").exists()
    assert (trained / "bundle/models/likeness.npz").exists()
    said = (trained / "log.txt").read_text()
    assert "no error map: every pair was learnt from; train another run with --fold 0 to have one." in said
