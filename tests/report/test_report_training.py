"""How a run went: losses, validation, what it resumed."""

from __future__ import annotations

import json
import shutil

import numpy as np
from torch.utils.tensorboard import SummaryWriter

from bundle.common.charts import POINTS, smoothed
from bundle.evaluation.tables import METRICS, write_csv
from bundle.report.records import read_losses
from tests.conftest import TINY, run_bundle
from tests.helpers.pages import Page, words
from tests.helpers.report import written


def test_a_resumed_run_ends_with_all_its_steps_and_says_when(trained, tmp_path):
    folder = shutil.copytree(trained, tmp_path / "run", ignore=shutil.ignore_patterns("evaluation", "report.html"))
    configs = "['configs/train.json','configs/profiles/demo.json']"
    ids = {**TINY, "epochs": 3, "resume": "true", "dataset_dir": trained.parent / "data", "output_dir": folder}
    done = run_bundle("training", configs, **ids)
    assert done.returncode == 0, done.stdout + done.stderr
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert page.count("<dt>resumed</dt>") == 1
    text = words(page)
    assert "12 steps are recorded" in text
    assert "Training patches after epoch 3 of 3" in text
    (resumed,) = json.loads((folder / "provenance.json").read_text())["resumed"]
    assert f"config {resumed['config_sha256']}" in text
    assert "--epochs 3 --pool_size" in text  # the command of the second part
    assert "<dt>arithmetic</dt><dd>fp32</dd>" in page
    assert "<dt>ended</dt><dd>by itself</dd>" in page


def test_a_step_that_was_repeated_counts_once(tmp_path):
    for values in ((5.0, 4.0, 3.0), (2.0, 1.0)):
        with SummaryWriter(str(tmp_path)) as writer:
            for value in values:
                writer.add_scalar("loss", value, 10 + (5 if value > 2 else 3) - int(value))
    steps, values = read_losses(tmp_path)["loss"]
    assert steps.tolist() == [10, 11, 12]
    assert values.tolist() == [5, 2, 1]
    assert read_losses(tmp_path / "nowhere") == {}


def test_validation_during_the_run_is_drawn_with_its_best_epoch(tmp_path):
    values = {25: (0.5, 0.7), 50: (0.7, 0.8), 60: (0.9, 0.5)}
    rows = [
        {"epoch": epoch, "slide": f"<{number}>", "ssim": value, "psnr": 20 - epoch / 10 + number, "lpips": None}
        for epoch, pair in values.items()
        for number, value in enumerate(pair)
    ]
    write_csv(tmp_path / "validation.csv", ("epoch", "slide", *METRICS), rows)
    text = written(tmp_path)
    page = Page(text)
    assert "Best after epoch 50 (circle): 0.75. Grey: each slide." in words(text)
    assert "Best after epoch 25 (circle): 18. Grey: each slide." in words(text)
    labels = [attributes["aria-label"] for attributes in page.all("svg")]
    assert labels == [
        f"{heading} of the validation slides over the epochs; best after epoch {best}."
        for heading, best in (("SSIM ↑", 50), ("PSNR ↑ (dB)", 25))
    ]


def test_curves_are_smoothed_by_means_of_windows():
    assert smoothed(np.array([[1, 2, 3], [5.0, 7.0, 6.0]])).tolist() == [[1, 2, 3], [5, 7, 6]]
    long = np.stack([np.arange(1, 2 * POINTS), np.arange(1, 2 * POINTS)]).astype(float)  # one short of two a window
    steps, values = smoothed(long)
    assert len(steps) == POINTS
    assert (steps[0], values[0], steps[-1], values[-1]) == (2, 1.5, 2 * POINTS - 1, 2 * POINTS - 1)
