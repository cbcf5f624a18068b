"""Trainings for tests: made from the config in this process, or started as a user starts them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch
from ignite.engine import Events
from monai.bundle import ConfigParser
from monai.utils import set_determinism

from bundle.common.run_folder import LATEST
from bundle.training.trainers import CycleTrainer
from tests.conftest import ROOT, TINY

TRAIN = "configs/train.json"


def make_trainer(dataset: Path, output: Path, **ids) -> CycleTrainer:
    """The trainer of ``train.json``, tiny, restored if ``resume`` is set."""
    parser = ConfigParser()
    parser.read_config(str(ROOT / TRAIN))
    parser.update({"dataset_dir": str(dataset), "output_dir": str(output), "device": "cpu", **TINY, **ids})
    set_determinism(0)
    trainer = parser.get_parsed_content("train#trainer")
    parser.get_parsed_content("train#keeper").restore(trainer)
    return trainer


def command(dataset: Path, output: Path, **ids) -> list[str]:
    """What a user types to train, tiny, from any folder."""
    typed = [sys.executable, "-m", "monai.bundle", "run", "training", "--config_file", str(ROOT / TRAIN)]
    values = {**TINY, "dataset_dir": dataset, "output_dir": output, "device": "cpu", **ids}
    return typed + [part for name, value in values.items() for part in (f"--{name}", str(value))]


def started(dataset: Path, output: Path, cwd: Path, **ids) -> subprocess.Popen:
    """That, running, in a process group of its own as from a terminal; both streams can be read as one."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    return subprocess.Popen(
        command(dataset, output, **ids),
        cwd=cwd,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=environment,
        start_new_session=True,
    )


def stop_at(trainer: CycleTrainer, iteration: int, number: int = signal.SIGTERM) -> None:
    """Send the process the signal of a batch system's time limit at a step."""

    def kill(engine):
        if engine.state.iteration == iteration:
            signal.raise_signal(number)

    trainer.add_event_handler(Events.ITERATION_STARTED, kill)


def latest(run: Path) -> dict[str, Any]:
    """The content of the last checkpoint of a run."""
    return torch.load(run / LATEST, weights_only=True)


def flat(content: Any, name: str = "") -> dict[str, Any]:
    """Nested containers as one dictionary of their leaves."""
    pairs = content.items() if isinstance(content, dict) else enumerate(content)
    leaves: dict[str, Any] = {}
    for key, value in pairs:
        inner = f"{name}.{key}"
        leaves |= flat(value, inner) if isinstance(value, (dict, list, tuple)) else {inner: value}
    return leaves


def differences(one: dict[str, Any], other: dict[str, Any]) -> list[str]:
    """What is not the same, bit for bit, in two checkpoints: weights, moments, buffers, random numbers, all."""
    first, second = flat(one), flat(other)
    return [
        name
        for name in sorted(set(first) | set(second))
        if name not in first or name not in second or not _same(first[name], second[name])
    ]


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, torch.Tensor):
        return isinstance(other, torch.Tensor) and one.shape == other.shape and torch.equal(one, other)
    return one == other
