"""Trainings for tests of :mod:`bundle.common.processes`: the same code as one process, or as ``torchrun`` starts it.

``torchrun --standalone --nproc_per_node=2 -m tests.helpers.shared_trainings DATASET FOLDER`` leaves a run in
``FOLDER`` for each of :data:`RUNS`.
"""

from __future__ import annotations

import shutil
import signal
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from ignite.engine import Events
from monai.bundle import ConfigParser
from monai.utils import set_determinism
from torch import Tensor

from bundle.common import processes
from bundle.training.trainers import ConditionalTrainer, CycleTrainer
from bundle.training.translation import Translation
from tests.conftest import ROOT, TINY

# 30 steps of 4 patches; 7 patches of a pair leave a last batch of 2
CYCLE = {**TINY, "batch_size": 4, "patches_per_pair": 12, "epochs": 5}
RUNS: dict[str, tuple[str, dict[str, Any]]] = {
    "cycle": ("cyclegan", {**CYCLE, "lambda_pixel": 6, "lambda_grey": 1}),
    "short_batch": ("cyclegan", {**CYCLE, "patches_per_pair": 7, "epochs": 1, "lambda_structure": 1}),
    "one_way": ("one_way", {**CYCLE, "patches_per_pair": 4, "epochs": 1}),
    "pix2pix": ("pix2pix", {**CYCLE, "patches_per_pair": 8, "epochs": 1}),
}


class Float64:
    """A trainer whose sums round so little that their order makes no difference.

    In float32 it does: after a few steps one |a − b| has the other sign, and from then on two runs part,
    as those of one process do with one thread and with two.
    """

    def __init__(self, networks: Mapping[str, torch.nn.Module], **arguments: Any) -> None:
        super().__init__(networks={name: network.double() for name, network in networks.items()}, **arguments)

    def translate(self, batch: Mapping[str, Tensor]) -> Translation:
        """In float64."""
        return super().translate({key: batch[key].double() for key in ("source", "target", "mask")})


class CycleFloat64(Float64, CycleTrainer):
    """Of a cycle, or of one way."""


class ConditionalFloat64(Float64, ConditionalTrainer):
    """Of pix2pix."""


def trainer(dataset: Path, output: Path, method: str, **ids: Any) -> CycleTrainer:
    """A trainer of the config as a user composes it, restored if ``resume`` is set."""
    parser = ConfigParser()
    files = ["train.json", "multi_gpu_train.json", f"methods/{method}.json"]
    parser.read_config([str(ROOT / "configs" / file) for file in files])
    parser.update({"dataset_dir": str(dataset), "output_dir": str(output), "device": "cpu", **ids})
    target = parser["train#trainer"]["_target_"].replace("bundle.training.trainers.", "tests.helpers.shared_trainings.")
    parser["train#trainer"]["_target_"] = target.replace("Trainer", "Float64")
    set_determinism(0)
    made: CycleTrainer = parser.get_parsed_content("train#trainer")
    parser.get_parsed_content("train#keeper").restore(made)
    return made


def interrupted(dataset: Path, output: Path, method: str, at: int, **ids: Any) -> None:
    """The same with a SIGTERM that reaches the last process alone; resumed, and as it was before that."""
    first = trainer(dataset, output, method, **ids)

    def terminate(engine: CycleTrainer) -> None:
        if engine.state.iteration == at and processes.rank() == processes.processes() - 1:
            signal.raise_signal(signal.SIGTERM)

    first.add_event_handler(Events.ITERATION_STARTED, terminate)
    first.run()
    assert first.state.iteration == at
    if processes.is_main():
        shutil.copytree(output, output.with_name(f"{output.name}_part"))
    processes.barrier()
    trainer(dataset, output, method, resume=True, **ids).run()


def main(dataset: Path, folder: Path) -> None:
    """Every run, and those that dropout or a last short batch tells apart interrupted too."""
    torch.set_num_threads(1)
    processes.begin("cpu")
    for name, (method, ids) in RUNS.items():
        trainer(dataset, folder / name, method, **ids).run()
    interrupted(dataset, folder / "cycle_resumed", "cyclegan", at=15, **RUNS["cycle"][1])
    interrupted(dataset, folder / "pix2pix_resumed", "pix2pix", at=2, **RUNS["pix2pix"][1])
    processes.end()


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
