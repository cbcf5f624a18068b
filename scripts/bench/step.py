"""Seconds of one training step on the CPU, alone and beside programs that keep cores busy.

As every run of a config waits: --asleep true. As PyTorch comes: with OMP_WAIT_POLICY= before the command.
"""

from __future__ import annotations

import multiprocessing
import statistics
import tempfile
import time
from pathlib import Path

import fire
import torch
from monai.bundle import ConfigParser

from bundle.common.openmp import wait_asleep
from scripts.bench.patches import HOME, noise_dataset


def _spin() -> None:
    while True:
        pass


def main(busy: int = 0, steps: int = 5, method: str | None = None, asleep: bool = False, **ids: float) -> None:
    """Print the median and range, after one step to warm up.

    Args:
        busy: processes that do nothing but use a core each.
        steps: steps to time.
        method: a name of configs/methods; none for the paired CycleGAN.
        asleep: let threads sleep while they wait, as every run does.
        ids: of train.json, on top of the demo profile.
    """
    if asleep:
        wait_asleep()
    others = [multiprocessing.Process(target=_spin, daemon=True) for _ in range(busy)]
    with tempfile.TemporaryDirectory() as folder:
        parser = ConfigParser()
        overlays = [f"methods/{method}.json"] if method else []
        parser.read_config([str(HOME / "configs" / name) for name in ("train.json", *overlays, "profiles/demo.json")])
        dataset = noise_dataset(Path(folder) / "data", 512)
        parser.update({"dataset_dir": str(dataset), "output_dir": folder, "device": "cpu", **ids})
        trainer = parser.get_parsed_content("train#trainer")
        batch = next(iter(trainer.data_loader))
        for other in others:
            other.start()
        seconds = []
        for _ in range(steps + 1):
            begin = time.perf_counter()
            trainer._iteration(trainer, batch)
            seconds.append(time.perf_counter() - begin)
        for other in others:
            other.terminate()
    timed, threads = seconds[1:], torch.get_num_threads()
    print(
        f"{statistics.median(timed):.2f} s a step ({min(timed):.2f}–{max(timed):.2f}), {threads} threads, "
        f"{busy} busy, {'asleep' if asleep else 'as it comes'}"
    )


if __name__ == "__main__":
    fire.Fire(main)
