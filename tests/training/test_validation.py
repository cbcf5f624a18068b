"""Validation during a run: its figures, its best, its stop; and that training is the same with it and without."""

from __future__ import annotations

import csv
import os
import random
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from ignite.engine import Events
from monai.bundle import ConfigParser
from skimage.metrics import structural_similarity
from torch import nn
from torch.utils.tensorboard import SummaryWriter

from bundle.common.errors import InputError
from bundle.common.random_state import random_states_kept
from bundle.data.load import load_datalist
from bundle.evaluation.paired import evaluate
from bundle.evaluation.tables import METRICS
from bundle.images.slides import read_slide
from bundle.report.records import read_losses
from bundle.staining.model import load_model
from bundle.training.run import number_faults
from bundle.training.validation import Validation
from tests.conftest import ROOT, TINY, make_dataset, run_bundle
from tests.helpers.training import TRAIN, make_trainer

WEIGHTS = Path("weights") / "squeezenet1_1_features.pth"
EVERY_EPOCH = {"fold": 0, "validate_every": 1, "epochs": 4, "picture_every": 9}


def table(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def fold_data(tmp_path_factory) -> Path:
    """Three training pairs, of which fold 0 validates two."""
    return make_dataset(tmp_path_factory.mktemp("fold") / "data", pairs=3)


def make_parser(dataset: Path, output: Path, **ids) -> ConfigParser:
    parser = ConfigParser()
    parser.read_config(str(ROOT / TRAIN))
    parser.update({"dataset_dir": str(dataset), "output_dir": str(output), "device": "cpu", **TINY, **ids})
    return parser


def checkpoint(run: Path, name: str) -> dict:
    return torch.load(run / "checkpoints" / f"{name}.pt", weights_only=True)


def same(one: object, other: object) -> bool:
    """Whether two contents of checkpoints are bit-equal."""
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other)
    if isinstance(one, dict):
        return list(one) == list(other) and all(same(one[key], other[key]) for key in one)
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(map(same, one, other))
    return one == other


@pytest.fixture(scope="module")
def stopped(fold_data, shared, tmp_path_factory) -> Path:
    """A run that learns nothing, as its rate is 0, and has a patience of 2."""
    run = tmp_path_factory.mktemp("stopped") / "run"
    ids = {**TINY, **EVERY_EPOCH, "dataset_dir": fold_data, "output_dir": run, "epochs": 10, "learning_rate": 0}
    ids |= {"patience": 2, "deploy_checkpoint": "best_ssim", "lpips_weights": shared / WEIGHTS}
    done = run_bundle("training", TRAIN, **ids)
    assert done.returncode == 0, done.stdout + done.stderr
    return run


def test_a_run_without_a_gain_stops_at_the_end_of_its_patience_and_publishes(stopped):
    assert [int(row["epoch"]) for row in table(stopped / "validation.csv")] == [1, 1, 2, 2, 3, 3]
    log = (stopped / "log.txt").read_text()
    assert "stopped after epoch 3: ssim was best after epoch 1; validations without a gain since then: 2" in log
    deployed = torch.load(stopped / "bundle" / "models" / "model.pt", weights_only=True)
    assert same(deployed, checkpoint(stopped, "best_ssim")["g_xy"])
    assert "validation-ssim" in (stopped / "report.html").read_text()
    assert set(read_losses(stopped / "tensorboard")) >= {f"validation/{metric}" for metric in METRICS}


def test_resuming_a_run_that_stopped_trains_no_more_unless_it_may_wait_longer(stopped, fold_data, tmp_path):
    run = shutil.copytree(stopped, tmp_path / "run")
    ids = {**EVERY_EPOCH, "epochs": 10, "learning_rate": 0, "resume": True}
    before = checkpoint(run, "latest")
    resumed = make_trainer(fold_data, run, patience=2, **ids)
    resumed.run()
    assert same(checkpoint(run, "latest"), before)
    patient = make_trainer(fold_data, run, patience=3, **ids)
    patient.run()
    assert patient.state.epoch == 4


def test_figures_are_those_of_an_evaluation_of_the_same_weights(stopped, fold_data, shared, tmp_path):
    data = load_datalist(str(fold_data), fold=0)
    model = str(stopped / "bundle")
    splits = ["validation"]
    evaluate(
        data,
        model,
        str(tmp_path),
        "cpu",
        32,
        16,
        0.5,
        splits,
        str(shared / WEIGHTS),
        eval_baselines=False,
        eval_step=128,
    )
    expected = table(tmp_path / "evaluation" / "slides.csv")
    rows = [row for row in table(stopped / "validation.csv") if row["epoch"] == "1"]
    assert [row["slide"] for row in rows] == ["source/00.png", "source/02.png"]
    for row, other in zip(rows, expected, strict=True):
        assert {name: row[name] for name in METRICS} == {name: other[name] for name in METRICS}
    first = data.validation[0]
    mask = read_slide(first.mask).pixels[0] != 0
    colour = np.rint(data.background_rgb).reshape(3, 1, 1)
    stained = load_model(model, step=128)(read_slide(first.source).pixels)
    shown = [np.where(mask, pixels, colour).astype(np.uint8) for pixels in (stained, read_slide(first.target).pixels)]
    values = structural_similarity(*shown, channel_axis=0, data_range=255, full=True)[1]
    assert float(rows[0]["ssim"]) == pytest.approx(values[:, mask].mean(), abs=1e-9)


def test_training_is_bit_equal_with_and_without_validation(fold_data, tmp_path):
    for name, every in {"with": 1, "without": 0}.items():
        make_trainer(fold_data, tmp_path / name, **{**EVERY_EPOCH, "epochs": 2, "validate_every": every}).run()
    one, other = checkpoint(tmp_path / "with", "latest"), checkpoint(tmp_path / "without", "latest")
    assert len(one["parts"].pop("validation")["rows"]) == 4
    assert other["parts"].pop("validation") == {"rows": []}
    assert same(one, other)
    assert not (tmp_path / "without" / "validation.csv").exists()


def test_the_best_checkpoint_is_the_best_epoch_of_the_table(fold_data, tmp_path):
    trainer = make_trainer(fold_data, tmp_path, **EVERY_EPOCH)
    after = {}
    trainer.add_event_handler(
        Events.EPOCH_COMPLETED,
        lambda engine: after.update(
            {engine.state.epoch: {k: v.clone() for k, v in engine.networks.g_xy.state_dict().items()}}
        ),
    )
    trainer.run()
    assert not any(same(after[1], weights) for epoch, weights in after.items() if epoch > 1)
    rows = table(tmp_path / "validation.csv")
    for metric in ("ssim", "psnr"):
        by_epoch = [np.mean([float(row[metric]) for row in rows if row["epoch"] == str(e)]) for e in (1, 2, 3, 4)]
        best = checkpoint(tmp_path, f"best_{metric}")
        assert best["epoch"] == 1 + int(np.argmax(by_epoch))
        assert best["value"] == pytest.approx(max(by_epoch))
        assert same(best["g_xy"], after[best["epoch"]])


@pytest.mark.parametrize("when", ["within an epoch", "before its validation is saved"])
def test_a_resumed_run_has_the_table_and_the_best_of_an_uninterrupted_one(fold_data, tmp_path, when):
    make_trainer(fold_data, tmp_path / "whole", **EVERY_EPOCH).run()
    part = make_trainer(fold_data, tmp_path / "part", **EVERY_EPOCH)
    if when == "within an epoch":
        part.add_event_handler(Events.ITERATION_STARTED(once=5), lambda engine: signal.raise_signal(signal.SIGTERM))
        part.run()
        assert checkpoint(tmp_path / "part", "latest")["iteration"] == 5
    else:
        keep = {}

        def copy(engine):
            if engine.state.epoch == 2:
                keep["latest"] = (tmp_path / "part/checkpoints/latest.pt").read_bytes()

        part.add_event_handler(Events.EPOCH_COMPLETED, copy)
        part.run()
        (tmp_path / "part/checkpoints/latest.pt").write_bytes(keep["latest"])
    assert len(table(tmp_path / "part/validation.csv")) >= 4
    make_trainer(fold_data, tmp_path / "part", resume=True, **EVERY_EPOCH).run()
    assert (tmp_path / "part/validation.csv").read_bytes() == (tmp_path / "whole/validation.csv").read_bytes()
    for name in ("best_ssim", "best_psnr", "latest"):
        one, other = checkpoint(tmp_path / "whole", name), checkpoint(tmp_path / "part", name)
        assert same(one.get("g_xy", one.get("parts")), other.get("g_xy", other.get("parts")))
        assert [one.get(key) for key in ("epoch", "value")] == [other.get(key) for key in ("epoch", "value")]


class Planted:
    """Slides whose metrics are given, epoch by epoch."""

    metrics = METRICS
    notes: tuple[str, ...] = ()

    def __init__(self, metric: str, values: list[list[float]]) -> None:
        self.metric = metric
        self.values = iter(values)

    def __len__(self) -> int:
        return 2

    def __call__(self, weights) -> list[dict]:
        empty = dict.fromkeys(METRICS, 0.5)
        return [{"slide": str(n), **empty, self.metric: value} for n, value in enumerate(next(self.values))]


@pytest.mark.parametrize(
    ("metric", "means", "stop", "best"),
    [
        ("ssim", [0.1, 0.3, 0.2, 0.3, 0.25, 0.9], 5, 2),  # an equal value is no gain
        ("lpips", [0.5, 0.4, 0.45, 0.3, 0.3, 0.31, 0.32, 0.1], 7, 4),
        ("psnr", [20.0, 21.0, 20.5, 20.4, 22.0, 23.0, 24.0, 25.0], 8, 8),  # never three without a gain
        ("detail", [0.4, 0.8, 1.4, 0.7, 2.0, 1.0], 5, 2),  # 1.4 is farther from 1 than 0.8
    ],
)
def test_the_run_stops_at_the_planted_epoch_and_keeps_the_best(tmp_path, metric, means, stop, best):
    slides = Planted(metric, [[mean - 0.05, mean + 0.05] for mean in means])
    handler = Validation(slides, str(tmp_path), SummaryWriter(str(tmp_path / "tb")), 1, metric, 3)
    network = nn.Linear(1, 1)
    ended: list[bool] = []
    engine = SimpleNamespace(
        deployable=lambda: {"g_xy": network.state_dict()},
        terminate=lambda: ended.append(True),
    )
    handler.started(engine)
    for epoch in range(1, len(means) + 1):
        engine.state = SimpleNamespace(epoch=epoch, max_epochs=len(means), iteration=10 * epoch)
        nn.init.constant_(network.bias, epoch)
        handler.epoch_completed(engine)
        if ended:
            break
    assert epoch == stop
    kept = checkpoint(tmp_path, f"best_{metric}")
    assert (kept["epoch"], kept["g_xy"]["bias"].item()) == (best, best)
    assert sorted(kept) == ["epoch", "g_xy", "value"]


def test_random_states_are_kept():
    draw = lambda: (torch.rand(1).item(), np.random.rand(), random.random())
    with random_states_kept():
        expected = draw()
    with random_states_kept():
        draw()
    assert draw() == expected


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        ({"validation_metric": "mse"}, "is 'mse'; it must be one of lpips, detail, gradient_correlation, ssim, psnr."),
        ({"patience": 3}, "patience is 3, but fold is null: no slide would be validated; pass --fold N"),
        ({"patience": 3, "fold": 0, "validate_every": 0}, "patience is 3, but validate_every is 0: no slide would be"),
        (
            {"deploy_checkpoint": "best_foo"},
            "is 'best_foo'; it must be one of latest, best_adv, best_cycle, best_identity",
        ),
        ({"deploy_checkpoint": "best_structure"}, "deploy_checkpoint is 'best_structure'; it must be one of"),  # λ is 0
        ({"deploy_checkpoint": "best_ssim"}, "deploy_checkpoint is 'best_ssim', but fold is null: no slide"),
    ],
)
def test_ids_that_make_no_sense_are_refused(tmp_path, ids, message):
    (fault,) = number_faults(make_parser(tmp_path, tmp_path, **ids))
    assert message in fault


def test_lpips_that_is_needed_and_windows_with_gaps_are_refused(fold_data, tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    refused = {
        "no SqueezeNet weights": [{"validation_metric": "lpips"}, {"deploy_checkpoint": "best_lpips"}],
        "validate_step is 300; it must not be above the window of 256 px": [{"validate_step": 300}],
    }
    for message, changes in refused.items():
        for ids in changes:
            with pytest.raises(RuntimeError) as wrapped:  # by MONAI; a user sees the line alone
                make_parser(fold_data, tmp_path, fold=0, **ids).get_parsed_content("train#slides")
            assert isinstance(wrapped.value.__cause__, InputError)
            assert message in str(wrapped.value.__cause__)
    make_parser(fold_data, tmp_path, validation_metric="lpips").get_parsed_content("train#slides")


def test_a_run_without_a_fold_says_that_it_is_not_validated(trained):
    assert "no validation during the run: fold is null" in (trained / "log.txt").read_text()
    assert not (trained / "validation.csv").exists()


@pytest.mark.slow
def test_two_processes_of_torchrun_stop_after_the_same_epoch(fold_data, tmp_path):
    configs = "['configs/train.json','configs/multi_gpu_train.json']"
    ids = {**TINY, **EVERY_EPOCH, "dataset_dir": fold_data, "output_dir": tmp_path / "run", "device": "cpu"}
    ids |= {"epochs": 10, "learning_rate": 0, "patience": 2}
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--nproc_per_node=2",
        "--standalone",
        "-m",
        "monai.bundle",
    ]
    command += ["run", "training", "--config_file", configs]
    command += [part for name, value in ids.items() for part in (f"--{name}", str(value))]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=environment, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr  # they would wait for each other if one went on
    assert [row["epoch"] for row in table(tmp_path / "run" / "validation.csv")] == ["1", "1", "2", "2", "3", "3"]
    assert (done.stdout + done.stderr).count("validation after epoch 1 ") == 1
