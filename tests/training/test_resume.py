"""A run that is stopped, killed or damaged goes on as if nothing had been, or says why it does not."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from shutil import copytree

import numpy as np
import pytest
import torch
from ignite.engine import Events

from bundle.common.errors import InputError
from bundle.common.random_state import random_state, set_random_state
from bundle.common.run_folder import LATEST, PREVIOUS
from bundle.images.slides import read_slide, write_slide
from tests.conftest import ROOT, TINY, make_dataset, run_bundle
from tests.helpers.training import TRAIN, differences, latest, make_trainer, started, stop_at

SHORT = {"epochs": 3, "patches_per_pair": 10, "picture_every": 3}  # 30 steps; the buffers hold 4 images


def until(condition, timeout_s: float = 120) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert condition()


def step_of(run: Path) -> int:
    """The step that a run's checkpoint holds; −1 while it has none."""
    return latest(run)["iteration"] if (run / LATEST).exists() else -1


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    """A run of 30 steps that nothing interrupted; its dataset is ``data`` beside it."""
    folder = tmp_path_factory.mktemp("whole")
    make_trainer(make_dataset(folder / "data"), folder / "run", **SHORT).run()
    return folder / "run"


def test_fifteen_steps_a_kill_and_fifteen_more_equal_thirty_bit_for_bit(whole, tmp_path):
    data, killed = whole.parent / "data", tmp_path / "run"
    code = (
        "import os, signal, sys; from pathlib import Path; from ignite.engine import Events\n"
        "from tests.training.test_resume import SHORT, make_trainer, stop_at\n"
        "trainer = make_trainer(Path(sys.argv[1]), Path(sys.argv[2]), save_minutes=0, **SHORT)\n"
        "stop_at(trainer, 16, signal.SIGKILL); trainer.run()"
    )
    done = subprocess.run([sys.executable, "-c", code, str(data), str(killed)], cwd=ROOT, check=False)
    assert done.returncode == -signal.SIGKILL
    assert step_of(killed) == 15
    assert len(latest(killed)["parts"]["buffer_x"]["images"]) == 4
    make_trainer(data, killed, resume=True, **SHORT).run()
    assert not differences(latest(whole), latest(killed))
    for term in ("pixel", "adv"):
        best = [torch.load(run / f"checkpoints/best_{term}.pt", weights_only=True) for run in (whole, killed)]
        assert not differences(*best)


def test_stopped_by_a_signal_within_an_epoch_and_resumed_equals_uninterrupted(whole, tmp_path):
    data, stopped = whole.parent / "data", tmp_path / "run"
    part = make_trainer(data, stopped, **SHORT)
    stop_at(part, 8)
    part.run()
    assert step_of(stopped) == 8
    make_trainer(data, stopped, resume=True, **SHORT).run()
    assert not differences(latest(whole), latest(stopped))


def test_a_run_killed_before_its_first_save_is_there_to_be_resumed(dataset, tmp_path):
    trainer = make_trainer(dataset, tmp_path, **SHORT)
    before = {name: value.clone() for name, value in trainer.networks.g_xy.state_dict().items()}
    trainer.add_event_handler(Events.EPOCH_STARTED, lambda engine: engine.terminate())
    trainer.run()
    assert step_of(tmp_path) == 0
    saved = latest(tmp_path)["parts"]["g_xy"]
    assert all(torch.equal(before[name], saved[name]) for name in before)


def test_ctrl_c_writes_latest_and_exits_130(dataset, tmp_path):
    run = tmp_path / "run"
    process = started(dataset, run, tmp_path, epochs=1000)
    until(lambda: step_of(run) > 0)
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 130, output
    assert "--resume true goes on from it" in output
    assert "Traceback" not in output
    assert (run / "bundle" / "models" / "model.pt").exists()


def test_ctrl_c_that_ends_the_reader_of_a_pipe_still_saves(dataset, tmp_path):
    run = tmp_path / "run"
    process = started(dataset, run, tmp_path, epochs=1000)
    until(lambda: step_of(run) > 0)
    before = step_of(run)
    process.stdout.close()
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=60) == 130
    assert step_of(run) > before
    assert (run / "bundle" / "models" / "model.pt").exists()


def test_a_time_limit_that_reaches_the_workers_too_saves_and_exits_143(dataset, tmp_path):
    run = tmp_path / "run"
    process = started(dataset, run, tmp_path, epochs=1000, num_workers=2)
    until(lambda: step_of(run) > 0)
    before = step_of(run)
    os.killpg(process.pid, signal.SIGTERM)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 143, output
    assert output.count("stopping after this step") == 1
    assert "Traceback" not in output
    assert step_of(run) > before


def test_resuming_a_finished_run_trains_no_more_but_can_deploy_another_checkpoint(trained, tmp_path):
    data, trained = trained.parent / "data", copytree(trained, tmp_path / "run")  # others look at the original
    before = latest(trained)
    ids = {**TINY, "dataset_dir": data, "output_dir": trained, "resume": True, "deploy_checkpoint": "best_pixel"}
    done = run_bundle("training", TRAIN, **ids)
    assert done.returncode == 0, done.stdout + done.stderr
    assert not differences(before, latest(trained))
    provenance = json.loads((trained / "provenance.json").read_text())
    assert provenance["resumed"][0]["started"] >= provenance["started"]
    deployed = torch.load(trained / "bundle" / "models" / "model.pt", weights_only=True)
    best = torch.load(trained / "checkpoints" / "best_pixel.pt", weights_only=True)["g_xy"]
    assert not differences(deployed, best)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"width": 6}, "is of another architecture"),
        ({"patches_per_pair": 6}, "steps an epoch"),
        ({"epochs": 2}, "epochs is 2, but the run in .* has done 3"),
    ],
)
def test_resuming_with_something_else_is_refused(whole, change, message):
    with pytest.raises(InputError, match=message):
        make_trainer(whole.parent / "data", whole, resume=True, **{**SHORT, **change})


@pytest.fixture
def run(whole, tmp_path) -> Path:
    """A copy of a run, to be damaged: its last checkpoint and the one before it."""
    for kept in (LATEST, PREVIOUS):
        (tmp_path / kept).parent.mkdir(exist_ok=True)
        (tmp_path / kept).write_bytes((whole / kept).read_bytes())
    return tmp_path


def truncate(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def flip_a_bit(path: Path) -> None:
    """In the middle of a weight, where PyTorch would read on without a word."""
    content = bytearray(path.read_bytes())
    weight = next(iter(latest(path.parents[1])["parts"]["g_xy"].values()))
    place = content.index(weight.numpy().tobytes())
    content[place + 2] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("damage", [truncate, flip_a_bit, os.remove])
def test_a_damaged_checkpoint_gives_way_to_the_one_before_it(whole, run, damage, caplog):
    before = torch.load(run / PREVIOUS, weights_only=True)["iteration"]
    damage(run / LATEST)
    trainer = make_trainer(whole.parent / "data", run, resume=True, **SHORT)
    (warning,) = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert f"going on from {run / PREVIOUS}, the one before it" in warning
    trainer.run()
    assert before < step_of(run) == 30
    assert not differences(latest(whole), latest(run))


def test_if_both_checkpoints_are_corrupt_one_line_names_both(whole, run):
    for kept in (LATEST, PREVIOUS):
        truncate(run / kept)
    with pytest.raises(InputError) as raised:
        make_trainer(whole.parent / "data", run, resume=True, **SHORT)
    assert "\n" not in str(raised.value)
    assert str(run / LATEST) in str(raised.value)
    assert str(run / PREVIOUS) in str(raised.value)


def test_a_corrupt_checkpoint_that_is_the_only_one_is_refused(dataset, tmp_path):
    (tmp_path / LATEST).parent.mkdir()
    (tmp_path / LATEST).write_bytes(b"PK\x03\x04 not a checkpoint")
    with pytest.raises(InputError, match=r"latest\.pt is not a readable checkpoint"):
        make_trainer(dataset, tmp_path, resume=True)


def test_data_that_changed_since_the_run_began_is_named_and_refused(whole, tmp_path):
    data = copytree(whole.parent / "data", tmp_path / "data")
    make_trainer(data, whole, resume=True, **SHORT)  # moved, but the same
    changed = read_slide(data / "target/01.png").pixels
    changed[0, 0, 0] ^= 1
    write_slide(data / "target/01.png", changed)
    with pytest.raises(InputError, match=r"target/01\.png changed since the run in .* restore it, start another"):
        make_trainer(data, whole, resume=True, **SHORT)
    make_trainer(data, whole, resume="changed", **SHORT)


class Count:
    """Something else with a state."""

    def __init__(self) -> None:
        self.count = 0

    def state_dict(self):
        return {"count": self.count}

    def load_state_dict(self, state):
        self.count = state["count"]


def test_other_parts_are_kept_and_restored_and_may_be_missing(dataset, tmp_path):
    count, resumed, new = Count(), Count(), Count()
    keeper = json.loads((ROOT / TRAIN).read_text())["train"]["keeper"]
    part = f"{keeper[1:]}#parts"
    count.count = 3
    trainer = make_trainer(dataset, tmp_path, **{part: {"count": count}})
    trainer.add_event_handler(Events.EPOCH_STARTED, lambda engine: engine.terminate())
    trainer.run()
    make_trainer(dataset, tmp_path, resume=True, **{part: {"count": resumed, "new": new}})
    assert (resumed.count, new.count) == (3, 0)


def test_random_numbers_of_every_library_go_on_where_they_stood(tmp_path):
    random.gauss(0, 1), np.random.standard_normal()  # half a pair is left over in both
    torch.save(random_state(), tmp_path / "state.pt")

    def draws():
        return [
            random.gauss(0, 1),
            random.random(),
            np.random.standard_normal(),
            np.random.rand(),
            float(torch.rand(())),
        ]

    first = draws()
    set_random_state(torch.load(tmp_path / "state.pt", weights_only=True))
    assert draws() == first
