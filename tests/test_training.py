"""A training run as a whole: what it leaves, that it resumes to the same result, and what it refuses."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from ignite.engine import Events
from monai.bundle import ConfigParser

from bundle.atomic import PARTIAL, whole_file
from bundle.errors import InputError
from bundle.handlers import sample_grid
from bundle.inference import load_model
from bundle.trainers import CycleTrainer
from tests.conftest import ROOT, TINY, run_bundle

TRAIN = "configs/train.json"


def make_trainer(dataset: Path, output: Path, **ids) -> CycleTrainer:
    parser = ConfigParser()
    parser.read_config(str(ROOT / TRAIN))
    parser.update({"dataset_dir": str(dataset), "output_dir": str(output), "device": "cpu", **TINY, **ids})
    torch.manual_seed(0)
    trainer = parser.get_parsed_content("train#trainer")
    parser.get_parsed_content("train#keeper").restore(trainer)
    return trainer


def weights(run: Path) -> dict[str, torch.Tensor]:
    content = torch.load(run / "checkpoints" / "latest.pt", weights_only=True)
    flat = {f"{part}.{key}": value for part in ("g_xy", "d_y") for key, value in content["parts"][part].items()}
    moments = content["parts"]["optimizer_g"]["state"]
    return flat | {f"moment {key}": value["exp_avg"] for key, value in moments.items()}


def test_a_run_leaves_what_design_promises(trained):
    files = {str(path.relative_to(trained)) for path in trained.rglob("*") if path.is_file()}
    expected = {"config.json", "log.txt", "provenance.json", "samples/epoch_0002.png", "checkpoints/latest.pt"}
    expected |= {f"checkpoints/best_{term}.pt" for term in ("adv", "cycle", "identity", "pixel", "grey")}
    expected |= {"bundle/models/model.pt", "bundle/reverse.pt", "bundle/configs/inference.json", "bundle/LICENSE"}
    expected |= {"bundle/configs/metadata.json", "bundle/docs/README.md", "bundle/bundle/networks.py"}
    assert expected <= files
    assert any(name.startswith("tensorboard/") for name in files)
    assert not any("partial" in name or "__pycache__" in name for name in files)
    provenance = json.loads((trained / "provenance.json").read_text())
    assert provenance["pixel_um"] == 5.0
    assert len(provenance["data_sha256"]) == 1 + 3 * 3


def test_the_run_bundle_fits_its_network(trained):
    inference = json.loads((trained / "bundle" / "configs" / "inference.json").read_text())
    assert inference["network_def"]["width"] == TINY["width"]
    assert inference["network_def"]["blocks"] == TINY["blocks"]
    assert (inference["window"], inference["step"]) == (256, 64)
    assert inference["bone_intensity"] is None
    assert len(inference["background_rgb"]) == 3
    model = load_model(trained / "bundle")
    saved = torch.load(trained / "checkpoints" / "latest.pt", weights_only=True)["parts"]["g_xy"]
    assert all(torch.equal(value, saved[key]) for key, value in model.network.state_dict().items())


def test_a_run_can_be_repeated_from_its_saved_config(trained, tmp_path):
    done = run_bundle("run", str(trained / "config.json"), output_dir=tmp_path / "again", resume="false")
    assert done.returncode == 0, done.stderr
    first, second = weights(trained), weights(tmp_path / "again")
    assert all(torch.equal(first[key], second[key]) for key in first)


def test_interrupted_within_an_epoch_and_resumed_equals_uninterrupted(dataset, tmp_path):
    ids = {"epochs": 3, "patches_per_pair": 6}
    whole = make_trainer(dataset, tmp_path / "whole", **ids)
    whole.run()
    part = make_trainer(dataset, tmp_path / "part", **ids)
    stop_at(part, 8)
    part.run()
    assert torch.load(tmp_path / "part/checkpoints/latest.pt", weights_only=True)["iteration"] == 8
    resumed = make_trainer(dataset, tmp_path / "part", resume=True, **ids)
    resumed.run()
    first, second = weights(tmp_path / "whole"), weights(tmp_path / "part")
    assert all(torch.equal(first[key], second[key]) for key in first)
    for term in ("pixel", "adv"):
        best = [
            torch.load(tmp_path / run / f"checkpoints/best_{term}.pt", weights_only=True) for run in ("whole", "part")
        ]
        assert best[0]["value"] == best[1]["value"]
        assert best[0]["epoch"] == best[1]["epoch"]


def stop_at(trainer: CycleTrainer, iteration: int) -> None:
    """Send the process the signal of a batch system's time limit at a step."""

    def kill(engine):
        if engine.state.iteration == iteration:
            signal.raise_signal(signal.SIGTERM)

    trainer.add_event_handler(Events.ITERATION_STARTED, kill)


def test_the_learning_rate_falls_in_a_straight_line_to_nothing(dataset, tmp_path):
    trainer = make_trainer(dataset, tmp_path, learning_rate=0.3, decay_epochs=2, epochs=5, patches_per_pair=1)
    rates = []
    trainer.add_event_handler(
        Events.ITERATION_COMPLETED, lambda e: rates.append(e.optimizers["d_x"].param_groups[0]["lr"])
    )
    trainer.run()
    assert rates == pytest.approx([0.3, 0.3, 0.3, 0.2, 0.1])


def test_ctrl_c_writes_latest_and_exits_130(dataset, tmp_path):
    command = [sys.executable, "-m", "monai.bundle", "run", "training", "--config_file", str(ROOT / TRAIN)]
    ids = {**TINY, "epochs": 1000, "dataset_dir": dataset, "output_dir": tmp_path / "run", "device": "cpu"}
    command += [part for name, value in ids.items() for part in (f"--{name}", str(value))]
    process = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    latest = tmp_path / "run" / "checkpoints" / "latest.pt"
    deadline = time.monotonic() + 120
    while not latest.exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 130, output
    assert "--resume true goes on from it" in output
    assert "Traceback" not in output
    assert torch.load(latest, weights_only=True)["iteration"] > 0
    assert (tmp_path / "run" / "bundle" / "models" / "model.pt").exists()


def test_ctrl_c_that_ends_the_reader_of_a_pipe_still_saves(dataset, tmp_path):
    ids = {**TINY, "epochs": 1000, "dataset_dir": dataset, "output_dir": tmp_path / "run", "device": "cpu"}
    command = [sys.executable, "-m", "monai.bundle", "run", "training", "--config_file", TRAIN]
    command += [part for name, value in ids.items() for part in (f"--{name}", str(value))]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    latest = tmp_path / "run" / "checkpoints" / "latest.pt"
    deadline = time.monotonic() + 120
    while not latest.exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    before = latest.stat().st_mtime_ns
    process.stdout.close()
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=60) == 130
    assert latest.stat().st_mtime_ns > before
    assert (tmp_path / "run" / "bundle" / "models" / "model.pt").exists()


def test_killed_while_saving_leaves_the_last_whole_checkpoint(tmp_path):
    path = tmp_path / "latest.pt"
    path.write_bytes(b"whole")
    assert not list(tmp_path.glob(PARTIAL))
    code = (
        "import os, signal, sys; from pathlib import Path; from bundle.atomic import PARTIAL, whole_file\n"
        "with whole_file(Path(sys.argv[1])) as partial:\n"
        "    partial.write_bytes(b'half'); os.kill(os.getpid(), signal.SIGKILL)"
    )
    subprocess.run([sys.executable, "-c", code, str(path)], cwd=ROOT, check=False)
    assert path.read_bytes() == b"whole"
    assert list(tmp_path.glob(PARTIAL))
    with whole_file(path) as partial:
        partial.write_bytes(b"new")
    assert path.read_bytes() == b"new"


def test_resuming_a_finished_run_trains_no_more_but_can_deploy_another_checkpoint(trained, tmp_path):
    before = weights(trained)
    data = trained.parent / "data"
    ids = {**TINY, "dataset_dir": data, "output_dir": trained, "resume": True, "deploy_checkpoint": "best_pixel"}
    done = run_bundle("training", TRAIN, **ids)
    assert done.returncode == 0, done.stdout + done.stderr
    assert all(torch.equal(before[key], value) for key, value in weights(trained).items())
    provenance = json.loads((trained / "provenance.json").read_text())
    assert provenance["resumed"][0]["started"] >= provenance["started"]
    deployed = torch.load(trained / "bundle" / "models" / "model.pt", weights_only=True)
    best = torch.load(trained / "checkpoints" / "best_pixel.pt", weights_only=True)["g_xy"]
    assert all(torch.equal(deployed[key], best[key]) for key in best)


REFUSED = {
    "mistyped id": ({"epohcs": 3}, "'epohcs' is not an id of this config; did you mean 'epochs'?"),
    "missing dataset": ({"dataset_dir": "nowhere"}, "nowhere/datalist.json does not exist"),
    "bad number": ({"batch_size": 0}, "batch_size is 0; it must be a whole number of at least 1."),
    "bad weight": ({"lambda_pixel": -1}, "lambda_pixel is -1; a weight is a number of at least 0."),
    "patch too large": ({"patch_size": 128}, "smaller than a patch of 128 px"),
    "precision": ({"precision": "half"}, "precision is 'half'"),
    "upsampling": ({"upsampling": "bicubic"}, "upsampling is 'bicubic'; it must be one of nearest, transposed."),
    "output below a file": ({"output_dir": "LICENSE/run"}, "output_dir LICENSE/run cannot be written"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_bad_input_is_one_line_and_nothing_is_written(dataset, tmp_path, name):
    changed, message = REFUSED[name]
    ids = {"dataset_dir": dataset, "output_dir": tmp_path / "run", **TINY, **changed}
    done = run_bundle("training", TRAIN, **ids)
    assert done.returncode == 1
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "run").exists()


def test_a_folder_that_holds_a_run_is_not_overwritten(trained):
    done = run_bundle("training", TRAIN, dataset_dir=trained.parent / "data", output_dir=trained, **TINY)
    assert done.returncode == 1
    assert "already holds a run; pass --resume true" in done.stderr


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"width": 6}, "is of another architecture"),
        ({"patches_per_pair": 6}, "steps an epoch"),
    ],
)
def test_resuming_with_something_else_is_refused(trained, tmp_path, change, message):
    with pytest.raises(InputError, match=message):
        make_trainer(trained.parent / "data", trained, resume=True, **change)


def test_a_corrupt_checkpoint_is_refused(dataset, tmp_path):
    latest = tmp_path / "run" / "checkpoints" / "latest.pt"
    latest.parent.mkdir(parents=True)
    latest.write_bytes(b"PK\x03\x04 not a checkpoint")
    with pytest.raises(InputError, match=r"latest\.pt is not a readable checkpoint"):
        make_trainer(dataset, tmp_path / "run", resume=True)


def test_masked_discriminator_option_reaches_the_trainer(dataset, tmp_path):
    trainer = make_trainer(dataset, tmp_path / "run", mask_discriminator=True)
    batch = next(iter(trainer.data_loader))
    translation = trainer.translate(batch)
    shown = translation.show(translation.y, translation.background_y)
    outside = batch["mask"].expand(-1, 3, -1, -1) == 0
    assert outside.any()
    assert torch.equal(shown[outside], trainer.background_y.expand_as(shown)[outside])
    assert torch.equal(shown[~outside], translation.y[~outside])
    assert sample_grid(translation, batch["mask"]).shape == (2 * 32, 5 * 32, 3)


def test_inverting_the_source_negates_it(dataset, tmp_path):
    plain, inverted = (
        next(iter(make_trainer(dataset, tmp_path / "run", jitter=0, invert_source=flag).data_loader))["source"]
        for flag in (False, True)
    )
    assert torch.allclose(plain, -inverted, atol=1e-6)
    assert plain.shape == (2, 3, 32, 32)
