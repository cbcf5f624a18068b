"""A training shared out over processes: that it is the training of one process, and that they end together."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from bundle.common import processes
from bundle.common.errors import InputError
from bundle.data import sharing
from bundle.data.patches import PatchSampler
from tests.conftest import ROOT, TINY, make_dataset, run_bundle
from tests.helpers.shared_trainings import RUNS, trainer
from tests.helpers.training import differences, latest

CONFIGS = "['configs/train.json','configs/multi_gpu_train.json']"
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", "-m"]
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}


def typed(dataset: Path, output: Path, **ids) -> list[str]:
    """What a user types to train with two processes."""
    values = {**TINY, "dataset_dir": dataset, "output_dir": output, **ids}
    command = [*TORCHRUN, "monai.bundle", "run", "training", "--config_file", CONFIGS]
    return command + [part for name, value in values.items() for part in (f"--{name}", str(value))]


def launched(command: list[str]) -> subprocess.CompletedProcess:
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=ENVIRONMENT, timeout=300)


@contextlib.contextmanager
def training(dataset: Path, output: Path) -> Iterator[tuple[subprocess.Popen, list[int]]]:
    """A training of two processes that has ended an epoch, and their numbers by rank."""
    command = typed(dataset, output, epochs=1000)
    launch = subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=ENVIRONMENT
    )
    try:
        deadline = time.monotonic() + 120
        while not (output / "samples" / "epoch_0002.png").exists() and time.monotonic() < deadline:
            time.sleep(0.1)
        children = Path(f"/proc/{launch.pid}/task/{launch.pid}/children").read_text().split()
        yield launch, [int(child) for child in children]
    finally:
        launch.kill()


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_dataset(tmp_path_factory.mktemp("distributed") / "data")


@pytest.fixture(scope="module")
def of_two(data: Path) -> Path:
    """The runs of :mod:`tests.helpers.shared_trainings` by two processes."""
    folder = data.parent / "of_two"
    done = launched([*TORCHRUN, "tests.helpers.shared_trainings", str(data), str(folder)])
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def networks(run: Path) -> dict[str, torch.Tensor]:
    parts = latest(run)["parts"]
    return {f"{name}.{key}": value for name in parts if name[:2] in ("g_", "d_") for key, value in parts[name].items()}


def furthest(one: Path, other: Path) -> float:
    """Largest difference of a weight."""
    first, second = networks(one), networks(other)
    assert set(first) == set(second)
    return max(float((first[key] - second[key]).abs().max()) for key in first)


@pytest.mark.parametrize("name", ["cycle", "short_batch", "one_way"])
def test_two_processes_train_what_one_does(of_two, data, tmp_path, name):
    method, ids = RUNS[name]
    trainer(data, tmp_path / name, method, **ids).run()
    shared, alone = latest(of_two / name), latest(tmp_path / name)
    assert shared["iteration"] == alone["iteration"] == {"cycle": 30, "short_batch": 4, "one_way": 2}[name]
    assert furthest(of_two / name, tmp_path / name) < 1e-8
    assert shared["sums"] == pytest.approx(alone["sums"], rel=1e-5)  # what is logged
    for buffer in (part for part in alone["parts"] if part.startswith("buffer")):
        images = shared["parts"][buffer]["images"], alone["parts"][buffer]["images"]
        assert len(images[0]) == 4
        assert torch.allclose(torch.stack(images[0]), torch.stack(images[1]), atol=1e-8)


@pytest.mark.parametrize("name", ["cycle", "pix2pix"])  # pix2pix has dropout, so each process has its random numbers
def test_two_processes_stop_together_and_resume_to_the_same_bits(of_two, name):
    stopped, resumed = latest(of_two / f"{name}_resumed_part"), latest(of_two / f"{name}_resumed")
    assert stopped["iteration"] < resumed["iteration"]
    assert differences(resumed, latest(of_two / name)) == []


def test_one_process_goes_on_with_what_two_began(of_two, data):
    method, ids = RUNS["cycle"]
    run = of_two / "cycle_resumed_part"
    trainer(data, run, method, resume=True, **ids).run()
    assert furthest(run, of_two / "cycle") < 1e-8


def test_dropout_is_not_the_same_in_every_process(of_two):
    first, second = latest(of_two / "pix2pix")["rng"]
    assert not torch.equal(first["cpu"], second["cpu"])


def test_a_fault_is_one_line_and_nothing_is_written(data, tmp_path):
    done = launched(typed(data, tmp_path / "run", batch_size=3))
    assert done.returncode == 1
    assert done.stderr.count("error: batch_size is 3, which 2 processes cannot share out evenly") == 1
    assert not (tmp_path / "run").exists()


def test_the_overlay_without_torchrun_is_one_process(data, tmp_path):
    done = run_bundle("training", CONFIGS, dataset_dir=data, output_dir=tmp_path / "run", **{**TINY, "epochs": 1})
    assert done.returncode == 0, done.stderr
    assert len(latest(tmp_path / "run")["rng"]) == 1


@pytest.mark.slow
def test_torchrun_without_the_overlay_is_refused(data, tmp_path):
    command = typed(data, tmp_path / "run")
    command[command.index(CONFIGS)] = "configs/train.json"
    done = launched(command)
    assert done.returncode == 1
    assert "torchrun started 2 processes, but this config does not share a training out" in done.stderr
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_sigterm_ends_both_with_143_and_leaves_one_whole_run(data, tmp_path):
    run = tmp_path / "run"
    with training(data, run) as (launch, processes):
        os.kill(processes[1], signal.SIGTERM)  # torchrun reports the code of what it did not end itself
        output, _ = launch.communicate(timeout=60)
    assert output.count("exitcode  : 143") == 2, output
    assert output.count("--resume true goes on from it") == 1
    assert "rank 1" not in output
    assert sum("training on 2 pairs" in line for line in (run / "log.txt").read_text().splitlines()) == 1
    assert len(list((run / "tensorboard").iterdir())) == 1
    assert (run / "bundle" / "models" / "model.pt").exists()
    assert (run / "report.html").exists()
    weights = latest(run)["parts"]["g_xy"]
    assert not any("module" in key for key in weights)
    done = run_bundle("run", str(run / "config.json"), resume="true", epochs=latest(run)["iteration"] // 4 + 1)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_a_killed_process_ends_the_launch_and_the_run_goes_on(data, tmp_path):
    run = tmp_path / "run"
    with training(data, run) as (launch, processes):
        os.kill(processes[1], signal.SIGKILL)
        output, _ = launch.communicate(timeout=60)
    assert launch.returncode == 1
    assert output.count("error: another process of this training was killed") == 1
    steps = latest(run)["iteration"]
    done = launched(typed(data, run, resume="true", epochs=steps // 4 + 1))
    assert done.returncode == 0, done.stderr
    assert latest(run)["iteration"] == 4 * (steps // 4 + 1)


PARTED = """
import atexit, sys
from bundle.common import processes
atexit.register(print, "a handler ran")
processes.begin("cpu")
class Late:
    def __del__(self): print("taken down")
late = Late()
print("said", end=" ")
processes.end(7)
print("went on")
"""


def test_a_process_that_parts_runs_its_exit_handlers_and_no_finaliser(tmp_path):
    environment = {**ENVIRONMENT, "RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": "localhost", "MASTER_PORT": "0"}
    command = [sys.executable, "-c", PARTED]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout) == (7, "said a handler ran\n"), done.stderr


class Patches:
    """As many patches as asked for, and nothing else."""

    def __init__(self, number: int) -> None:
        self.number, self.patches_per_pair = number, number

    def __len__(self) -> int:
        return self.number


def as_rank(monkeypatch: pytest.MonkeyPatch, rank: int, number: int) -> None:
    monkeypatch.setattr(sharing, "rank", lambda: rank)
    monkeypatch.setattr(sharing, "processes", lambda: number)


def test_shares_of_every_batch_make_the_batch(monkeypatch):
    alone = PatchSampler(Patches(14), seed=3)
    alone.epoch, alone.start = 1, 4  # resumed within the second epoch
    parts = []
    for rank in range(2):
        as_rank(monkeypatch, rank, 2)
        sampler = sharing.ShareSampler(Patches(14), seed=3, batch_size=4)
        sampler.epoch, sampler.start = 1, 4
        assert len(sampler) == 7
        parts.append(list(sampler))
    order = list(alone)
    assert parts[0] == [*order[0:2], *order[4:6], order[8]]
    assert parts[1] == [*order[2:4], *order[6:8], order[9]]


def test_what_cannot_be_shared_out_is_refused(monkeypatch):
    as_rank(monkeypatch, 0, 4)
    with pytest.raises(InputError, match=r"batch_size is 6, which 4 processes cannot share out evenly"):
        sharing.share(6)
    with pytest.raises(InputError, match=r"the last batch of an epoch has 2 patches.*use a multiple of 4"):
        sharing.ShareSampler(Patches(10), seed=0, batch_size=4)


def test_alone_nothing_is_exchanged():
    image = torch.rand(2, 3)
    assert processes.gathered(image) is image
    assert processes.summed(image) is image
    assert torch.equal(processes.own_share(image), image)
    assert processes.every_state("state") == ["state"]
    assert processes.means({"a": image[0, 0]}) == {"a": float(image[0, 0])}
    assert (processes.greatest(3), processes.any_rank(False), processes.is_main()) == (3, False, True)
