"""Curves of a run are those of one run, however often it was killed and resumed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from ignite.engine import Events
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from bundle.common.errors import InputError
from bundle.common.run_folder import PROVENANCE
from bundle.training.tracking import MlflowRun, settings
from tests.helpers.training import make_trainer

RECORD = {"code": "abc", "config_sha256": "d", "data_sha256": {"a.png": "e"}, "dataset_dir": "/data"}
RECORD |= {"config": {"epochs": 3, "zoom": [0.9, 1.1], "train": {}, "training": [{"_target_": "x"}], "imports": ["$y"]}}


def curves(run: Path) -> dict[str, list[tuple[int, float]]]:
    """Step and value of every point of every curve, as TensorBoard shows them."""
    events = EventAccumulator(str(run / "tensorboard"), size_guidance={"scalars": 0})
    events.Reload()
    return {tag: [(point.step, point.value) for point in events.Scalars(tag)] for tag in events.Tags()["scalars"]}


def killed(dataset: Path, run: Path, step: int, **ids) -> None:
    """Train until a step is taken and no further, without another save."""
    trainer = make_trainer(dataset, run, **ids)

    def end(engine):
        raise RuntimeError("killed")

    trainer.add_event_handler(Events.ITERATION_COMPLETED(once=step), end)
    with pytest.raises(RuntimeError, match="killed"):
        trainer.run()


def test_curves_of_a_run_killed_twice_are_those_of_an_uninterrupted_one(dataset, tmp_path):
    make_trainer(dataset, tmp_path / "whole", epochs=3).run()
    killed(dataset, tmp_path / "parts", 3, epochs=3)  # of 4 in an epoch: begins anew
    killed(dataset, tmp_path / "parts", 7, epochs=3, resume=True)
    make_trainer(dataset, tmp_path / "parts", epochs=3, resume=True).run()
    whole, parts = curves(tmp_path / "whole"), curves(tmp_path / "parts")
    assert {"loss", "adv", "cycle", "identity", "pixel", "grey", "d_x", "d_y"} <= set(whole)
    assert [step for step, _ in whole["loss"]] == list(range(1, 13))
    rates = [set(both.pop("learning_rate")) for both in (whole, parts)]  # shown again where a run goes on
    assert parts == whole
    assert rates[0] == rates[1]


def test_every_step_that_a_checkpoint_holds_is_on_disk_when_it_is_written(dataset, tmp_path, monkeypatch):
    from bundle.training.run_state import RunKeeper

    seen, save = [], RunKeeper.save

    def look(keeper, engine):
        steps = [step for step, _ in curves(tmp_path).get("loss", [])] if engine.state.iteration else []
        seen.append(steps == list(range(1, engine.state.iteration + 1)))
        save(keeper, engine)

    monkeypatch.setattr(RunKeeper, "save", look)
    make_trainer(dataset, tmp_path, save_minutes=0).run()
    assert len(seen) >= 8
    assert all(seen)


def mlflow_runs(folder: Path) -> list:
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=(folder / "mlflow").resolve().as_uri())
    names = [experiment.experiment_id for experiment in client.search_experiments()]
    return [(client, run) for run in client.search_runs(names)]


def test_mlflow_has_one_run_with_every_epoch_once_through_a_kill_and_a_resume(dataset, tmp_path):
    pytest.importorskip("mlflow", reason="mlflow is not installed (pip install mlflow-skinny), so nothing was reported")
    tmp_path.joinpath(PROVENANCE).write_text(json.dumps(RECORD))
    tmp_path.joinpath("config.json").write_text("{}")
    killed(dataset, tmp_path, 7, epochs=3, mlflow=True)
    ((_, run),) = mlflow_runs(tmp_path)
    assert run.info.status == "FAILED"
    trainer = make_trainer(dataset, tmp_path, epochs=3, mlflow=True, resume=True)
    reporter = next(
        handler.__self__
        for handler, *_ in trainer._event_handlers[Events.EPOCH_COMPLETED]
        if isinstance(getattr(handler, "__self__", None), MlflowRun)
    )
    trainer.run()
    reporter.conclude()
    ((client, run),) = mlflow_runs(tmp_path)
    assert run.info.status == "FINISHED"
    assert run.data.params == {"epochs": "3", "zoom": "[0.9, 1.1]"}
    assert run.data.tags["code"] == "abc"
    assert {artifact.path for artifact in client.list_artifacts(run.info.run_id)} == {"config.json", PROVENANCE}
    losses = dict(curves(tmp_path)["loss"])
    points = client.get_metric_history(run.info.run_id, "loss")
    assert [point.step for point in points] == [1, 2, 3]
    for point in points:
        steps = range(4 * point.step - 3, 4 * point.step + 1)
        assert point.value == pytest.approx(sum(losses[step] for step in steps) / 4, rel=1e-5)
    assert set(run.data.metrics) >= {"loss", "cycle", "d_x", "learning_rate"}


def test_a_server_that_fails_in_the_middle_is_warned_of_and_gets_all_later(dataset, tmp_path, monkeypatch, caplog):
    mlflow = pytest.importorskip("mlflow", reason="mlflow is not installed (pip install mlflow-skinny)")
    tmp_path.joinpath(PROVENANCE).write_text(json.dumps(RECORD))
    send, calls = mlflow.MlflowClient.log_batch, []

    def fails_once(*args, **kwargs):
        calls.append(args)
        if len(calls) == 1:
            raise mlflow.exceptions.MlflowException("no answer")
        return send(*args, **kwargs)

    monkeypatch.setattr("mlflow.MlflowClient.log_batch", fails_once)
    make_trainer(dataset, tmp_path, mlflow=True).run()
    assert "not reported to MLflow: no answer; the training goes on" in caplog.text
    ((client, run),) = mlflow_runs(tmp_path)
    assert [point.step for point in client.get_metric_history(run.info.run_id, "loss")] == [1, 2]


def test_settings_are_the_values_of_a_config_without_its_wiring():
    assert settings(RECORD["config"]) == {"epochs": "3", "zoom": "[0.9, 1.1]"}


def test_mlflow_that_is_not_there_is_one_line_with_the_command(monkeypatch):
    monkeypatch.setattr("bundle.training.tracking.find_spec", lambda name: None)
    with pytest.raises(InputError, match="not installed; pip install .*mlflow") as caught:
        MlflowRun("run", None, None, mlflow=True)
    assert len(str(caught.value).splitlines()) == 1
    MlflowRun("run", None, None)  # not asked for


@pytest.mark.parametrize("value", [1, None, ""])
def test_mlflow_is_true_false_or_a_uri(value):
    with pytest.raises(InputError, match="mlflow is .*; it must be true, false or the URI"):
        MlflowRun("run", None, None, mlflow=value)
