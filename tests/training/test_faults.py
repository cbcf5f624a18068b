"""What may go wrong in the middle of a training ends it in one line, with nothing lost."""

from __future__ import annotations

import logging
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from ignite.engine import Events

from bundle.common.errors import InputError
from bundle.common.run_folder import LATEST, log_to
from bundle.data.load import load_datalist
from bundle.data.patches import PatchDataset
from bundle.training.displays import sample_grid
from bundle.training.step_memory import activation_bytes, weight_bytes
from bundle.training.trainers import CycleTrainer
from tests.conftest import ROOT, TINY, make_dataset, run_bundle
from tests.helpers.training import TRAIN, differences, latest, make_trainer
from tests.training.test_resume import stop_at

IDS = {"epochs": 2, "patches_per_pair": 6, "picture_every": 2, "save_minutes": 0}  # 12 steps


def state_of(trainer: CycleTrainer) -> dict:
    """A copy of everything that a checkpoint would hold of a trainer."""
    parts = {name: part.state_dict() for name, part in trainer.state_parts().items()}
    return torch.utils._pytree.tree_map(lambda leaf: leaf.clone() if torch.is_tensor(leaf) else leaf, parts)


def plant_nan(trainer: CycleTrainer, steps: set[int], key: str = "source") -> None:
    """Make one pixel of the batch of some steps NaN."""

    def spoil(engine):
        if engine.state.iteration + 1 in steps:
            engine.state.batch[key][0, 0, 0, 0] = float("nan")

    trainer.add_event_handler(Events.GET_BATCH_COMPLETED, spoil)


def plant_gradient(trainer: CycleTrainer, network: str, step: int) -> None:
    """Make one gradient of a network infinite at a step whose losses are fine."""

    def spoil(gradient):
        return gradient * float("inf") if trainer.state.iteration == step else gradient

    next(iter(trainer.networks.named()[network].parameters())).register_hook(spoil)


SPOILT = {
    "a pixel of the scan": (lambda trainer: plant_nan(trainer, {5}, "source"), "adv is nan, cycle is nan"),
    "a pixel of the stain": (lambda trainer: plant_nan(trainer, {5}, "target"), "pixel is nan"),
    "a generator's gradient": (lambda trainer: plant_gradient(trainer, "g_yx", 5), "gradient of g is inf"),
    "a discriminator's gradient": (lambda trainer: plant_gradient(trainer, "d_x", 5), "gradient of d_x is inf"),
}


@pytest.mark.parametrize("what", SPOILT)
def test_a_step_that_is_not_finite_stops_the_run_and_changes_nothing(what, dataset, tmp_path):
    spoil, named = SPOILT[what]
    trainer = make_trainer(dataset, tmp_path / "run", **IDS)
    kept = {}
    spoil(trainer)
    trainer.add_event_handler(Events.ITERATION_COMPLETED(once=4), lambda engine: kept.update(state_of(engine)))
    with pytest.raises(InputError) as raised:
        trainer.run()
    message = str(raised.value)
    assert "\n" not in message
    assert re.search(r"epoch 1, step 5: .* from a batch of \S*data/\S+\.png", message)
    assert named in message
    assert not differences(kept, state_of(trainer))
    assert latest(tmp_path / "run")["iteration"] == 4


def test_the_files_named_are_those_of_the_batch(dataset, tmp_path):
    trainer = make_trainer(dataset, tmp_path / "run", **IDS)
    plant_nan(trainer, {5})
    with pytest.raises(InputError) as raised:
        trainer.run()
    pairs = {int(index) % 12 // 6 for index in trainer.state.batch["patch"]}
    named = re.findall(r"(\w+/\d+)\.png", str(raised.value))
    assert set(named) == {f"{kind}/{pair:02d}" for pair in pairs for kind in ("source", "target", "mask")}


def test_steps_left_out_are_counted_and_a_resume_goes_on_counting(dataset, tmp_path, caplog):
    spoilt = {2, 5, 8, 12}
    runs = []
    for name, stop in (("whole", None), ("stopped", 7)):
        trainer = make_trainer(dataset, tmp_path / name, skip_nonfinite=4, **IDS)
        plant_nan(trainer, spoilt)
        if stop:
            stop_at(trainer, stop)
            trainer.run()
            trainer = make_trainer(dataset, tmp_path / name, skip_nonfinite=4, resume=True, **IDS)
            plant_nan(trainer, spoilt)
        trainer.run()
        runs.append(latest(tmp_path / name))
    assert not differences(*runs)
    assert runs[0]["parts"]["guard"] == {"skipped": 4}
    assert runs[0]["sums"]["steps"] == 4  # of the six of the last epoch
    assert "the step was left out (3 of at most 4)" in caplog.text
    assert all(torch.isfinite(value).all() for value in runs[0]["parts"]["g_xy"].values())


def test_one_step_too_many_stops_the_run(dataset, tmp_path):
    trainer = make_trainer(dataset, tmp_path / "run", skip_nonfinite=2, **IDS)
    plant_nan(trainer, {2, 3, 5})
    with pytest.raises(InputError, match=r"step 5: .*stopped after 2 such steps .*--resume true --skip_nonfinite 10"):
        trainer.run()
    assert latest(tmp_path / "run")["parts"]["guard"] == {"skipped": 2}


def test_what_ended_a_run_stands_in_its_log(dataset, tmp_path):
    trainer = make_trainer(dataset, tmp_path / "run", **IDS)
    log_to(tmp_path / "log.txt")
    plant_nan(trainer, {2})
    try:
        with pytest.raises(InputError):
            trainer.run()
    finally:
        logging.getLogger("bundle").handlers.clear()
    assert "ERROR epoch 1, step 2: loss is nan" in (tmp_path / "log.txt").read_text().splitlines()[-1]


def test_a_step_left_out_is_as_if_it_had_never_been(dataset, tmp_path):
    trainer = make_trainer(dataset, tmp_path / "run", skip_nonfinite=9, **IDS)
    kept = {}
    plant_nan(trainer, {5})
    trainer.add_event_handler(Events.ITERATION_COMPLETED(once=4), lambda engine: kept.update(state_of(engine)))
    trainer.add_event_handler(Events.ITERATION_COMPLETED(once=5), lambda engine: engine.terminate())
    trainer.run()
    changed = differences(kept, state_of(trainer))
    assert changed == [".guard.skipped"]


@pytest.fixture
def disk(tmp_path):
    """A disk of 8 MB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(folder)], capture_output=True).returncode:
        pytest.skip("no small disk could be mounted here, so a really full one was not tried")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=False)


def fill(disk: Path, leave: int) -> None:
    """Fill a disk up, but for some bytes."""
    with (disk / "filler").open("wb", buffering=0) as file:
        file.write(bytes(max(0, shutil.disk_usage(disk).free - leave)))


@pytest.mark.parametrize("leave", [0, 40_000])
def test_a_disk_that_fills_up_ends_the_run_with_the_last_checkpoint_whole(dataset, disk, tmp_path, leave):
    trainer = make_trainer(dataset, disk / "run", **IDS)
    trainer.add_event_handler(Events.ITERATION_STARTED(once=9), lambda: fill(disk, leave))
    with pytest.raises(InputError) as raised:
        trainer.run()
    assert f"the disk of output_dir {disk / 'run'} is full" in str(raised.value)
    assert "latest.pt holds step 8: make room, then --resume true goes on from it." in str(raised.value)
    assert latest(disk / "run")["iteration"] == 8
    assert not list(disk.rglob("*partial*"))
    (disk / "filler").unlink()
    make_trainer(dataset, disk / "run", resume=True, **IDS).run()
    make_trainer(dataset, tmp_path / "whole", **IDS).run()
    assert not differences(latest(tmp_path / "whole"), latest(disk / "run"))


def test_a_disk_that_is_full_for_a_picture_says_so_too(dataset, disk, monkeypatch):
    trainer = make_trainer(dataset, disk / "run", **{**IDS, "picture_every": 1})

    def filling(*arguments):
        fill(disk, 0)
        return sample_grid(*arguments)

    monkeypatch.setattr("bundle.training.displays.sample_grid", filling)
    with pytest.raises(InputError, match="is full"):
        trainer.run()
    assert latest(disk / "run")["iteration"] == 6
    assert not list(disk.rglob("*partial*"))


def test_a_log_that_cannot_be_written_ends_the_run(dataset, disk):
    trainer = make_trainer(dataset, disk / "run", **IDS)
    log_to(disk / "run" / "log.txt")
    try:
        trainer.add_event_handler(Events.ITERATION_STARTED(once=3), lambda: fill(disk, 0))
        trainer.add_event_handler(
            Events.ITERATION_STARTED(once=3), lambda: [logging.getLogger("bundle").info("x" * 99) for _ in range(99)]
        )
        with pytest.raises(InputError, match="is full"):
            trainer.run()
    finally:
        logging.getLogger("bundle").handlers.clear()


def test_a_full_disk_at_the_command_line_is_one_line_and_exit_code_1(dataset, disk):
    fill(disk, 120_000)
    done = run_bundle("training", TRAIN, dataset_dir=dataset, output_dir=disk / "run", **TINY)
    assert done.returncode == 1
    assert "is full" in done.stderr
    assert "Traceback" not in done.stderr


MEMORY = {
    "GPU": lambda: torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
    "CPU": lambda: torch.empty(2**60),
    "Python": MemoryError,
}


@pytest.mark.parametrize("kind", MEMORY)
def test_out_of_memory_names_sizes_that_would_fit(kind, dataset, tmp_path):
    trainer = make_trainer(dataset, tmp_path / "run", batch_size=4, patch_size=64)
    term = trainer.objective.terms["pixel"]

    def ask(translation):
        if translation.x.device.type != "meta":
            if kind == "CPU":
                MEMORY[kind]()
            raise MEMORY[kind]()
        return term(translation)

    trainer.objective.terms["pixel"] = ask
    with pytest.raises(InputError) as raised:
        trainer.run()
    message = str(raised.value)
    assert "out of memory on cpu: a step with batch_size 4 and patch_size 64 takes about" in message
    assert re.search(r"--batch_size [23] \(.* GiB\) or --patch_size 32 \(.* GiB\) would fit", message)
    assert not (tmp_path / "run" / LATEST).exists()  # the next try may use this folder


PEAK = """
import re, sys
from pathlib import Path
from tests.helpers.training import make_trainer

def status(name):  # not getrusage, whose peak can be that of the process which started this one
    return 1024 * int(re.search(name + ":\\s+(\\d+)", Path("/proc/self/status").read_text())[1])

trainer = make_trainer(Path(sys.argv[1]), Path(sys.argv[2]), batch_size=2, patch_size=128, width=16, patches_per_pair=1)
batch = next(iter(trainer.data_loader))
before = status("VmRSS")
trainer._iteration(trainer, batch)
print(status("VmHWM") - before)
"""


def test_the_memory_that_a_step_is_said_to_take_is_what_it_takes(tmp_path):
    dataset = make_dataset(tmp_path / "data", size=(136, 136))
    measured = subprocess.run(
        [sys.executable, "-c", PEAK, str(dataset), str(tmp_path / "run")], cwd=ROOT, capture_output=True, text=True
    )
    trainer = make_trainer(dataset, tmp_path / "run", batch_size=2, patch_size=128, width=16, patches_per_pair=1)
    estimated = weight_bytes(trainer.networks) + 2 * activation_bytes(trainer, 128)
    assert 2 / 3 < estimated / int(measured.stdout.split()[-1]) < 3 / 2


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:100])


@pytest.mark.parametrize(("harm", "message"), [(Path.unlink, "does not exist"), (truncate, "truncated or corrupt")])
def test_a_file_that_goes_bad_between_check_and_training_is_named(harm, message, dataset):
    data = load_datalist(str(dataset))
    harm(dataset / "target/01.png")
    with pytest.raises(InputError, match=rf"target/01\.png .*{message}"):
        PatchDataset(data.training, dict, 1, 0)
