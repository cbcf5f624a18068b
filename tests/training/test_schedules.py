"""Learning rates by hand, and in the optimizers of a run."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from ignite.engine import Events
from monai.bundle import ConfigParser

from bundle.common.config import unknown_ids
from bundle.common.errors import InputError
from bundle.report.records import read_losses
from bundle.training.learning_rate import BeginsLater, CosineDecay, ExponentialDecay, LinearDecay
from bundle.training.losses import Objective
from tests.conftest import ROOT, TINY

EXPONENTIAL = {
    "_target_": "bundle.training.learning_rate.ExponentialDecay",
    "learning_rate": "@learning_rate",
    "every_epochs": 2,
}


def test_the_rate_falls_in_a_straight_line_to_nothing_or_stays():
    assert [LinearDecay(0.3, 2)(epoch, 5) for epoch in range(1, 6)] == pytest.approx([0.3, 0.3, 0.3, 0.2, 0.1])
    assert {LinearDecay(0.3)(epoch, 5) for epoch in range(1, 6)} == {0.3}


def test_the_rate_of_liu_is_nine_tenths_every_two_epochs():
    rates = [ExponentialDecay(0.0002)(epoch, 500) for epoch in range(1, 7)]
    assert rates == pytest.approx([2e-4, 2e-4, 1.8e-4, 1.8e-4, 1.62e-4, 1.62e-4])


def test_the_rate_rises_and_falls_along_half_a_cosine():
    schedule = CosineDecay(0.4, decay_epochs=3, warmup_epochs=1)
    half_a_cosine = [0.4 * (1 + np.cos(np.pi * step / 4)) / 2 for step in (1, 2, 3)]
    assert [schedule(epoch, 6) for epoch in range(1, 7)] == pytest.approx([0.2, 0.4, 0.4, *half_a_cosine])
    assert CosineDecay(0.4)(1, 5) == CosineDecay(0.4)(5, 5) == 0.4
    with pytest.raises(InputError, match="warmup_epochs is -1"):
        CosineDecay(0.4, warmup_epochs=-1)


def test_a_term_begins_later():
    objective = Objective({"adv": abs, "pixel": abs}, {"adv": 2, "pixel": 1})
    handler = BeginsLater(objective, "adv", 0.5)
    weights = []
    for epoch in (1, 2, 3, 4):
        handler(SimpleNamespace(state=SimpleNamespace(epoch=epoch, max_epochs=4)))
        weights.append(objective.weights["adv"])
    assert weights == [0, 0, 2, 2]
    assert objective.weights["pixel"] == 1
    with pytest.raises(InputError, match="without the term adv is 1.5"):
        BeginsLater(objective, "adv", 1.5)


@pytest.mark.parametrize(("change", "message"), [({"factor": 1.5}, "factor is 1.5"), ({"every_epochs": 0}, "is 0")])
def test_a_decay_that_makes_no_sense_is_refused(change, message):
    with pytest.raises(InputError, match=message):
        ExponentialDecay(0.1, **change)


def rates_of_a_run(dataset: Path, output: Path, **ids) -> list[float]:
    parser = ConfigParser()
    parser.read_config(str(ROOT / "configs" / "train.json"))
    parser.update({**TINY, "dataset_dir": str(dataset), "output_dir": str(output), "device": "cpu", **ids})
    parser.update({"learning_rate": 0.3, "epochs": 5, "patches_per_pair": 1})
    assert unknown_ids(parser.get()) == []
    trainer = parser.get_parsed_content("train#trainer")
    rates = []
    trainer.add_event_handler(
        Events.ITERATION_COMPLETED, lambda engine: rates.append(engine.optimizers["d_x"].param_groups[0]["lr"])
    )
    trainer.run()
    parser.get_parsed_content("train#writer").flush()
    steps, shown = read_losses(output / "tensorboard")["learning_rate"]
    assert steps.tolist() == [1, 2, 3, 4, 5]
    assert shown.tolist() == pytest.approx(rates)
    return rates


def test_a_run_has_the_rates_of_its_schedule_and_shows_them(dataset, tmp_path):
    linear = rates_of_a_run(dataset, tmp_path / "linear", decay_epochs=2)
    assert linear == pytest.approx([0.3, 0.3, 0.3, 0.2, 0.1])
    stepped = rates_of_a_run(dataset, tmp_path / "stepped", schedule=EXPONENTIAL)
    assert stepped == pytest.approx([0.3, 0.3, 0.27, 0.27, 0.243])
