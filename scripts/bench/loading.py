"""How long a step waits for its batch: ``python -m scripts.bench.loading``.

A batch of the paper's (4 patches of 256 px) is cut by the transforms of ``train.json`` while a step runs that sleeps,
as the host does beside a GPU, or one that computes on every core, as on a CPU.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import fire
import torch
from monai.bundle import ConfigParser

from bundle.data.loader import PatchLoader
from scripts.bench.patches import HOME, SIZE, noise_dataset

WORKERS = (0, 1, 2)


def waits(loader: PatchLoader, step: Callable[[], None]) -> tuple[list[float], float]:
    """Run an epoch.

    Returns:
        Seconds each step waited for its batch, and seconds of the whole epoch.
    """
    begin = asked = time.perf_counter()
    waited = []
    for _ in loader:
        waited.append(time.perf_counter() - asked)
        step()
        asked = time.perf_counter()
    return waited, asked - begin


def busy(seconds: float) -> Callable[[], None]:
    """A step that computes, on as many threads as torch has, what takes ``seconds`` on an idle machine."""
    square = torch.rand(1024, 1024)
    square @ square
    begin = time.perf_counter()
    for _ in range(20):
        square @ square
    number = max(1, round(20 * seconds / (time.perf_counter() - begin)))

    def step() -> None:
        for _ in range(number):
            square @ square

    return step


def main(step: float = 0.15, steps: int = 25, rounds: int = 3, batch_size: int = 4, patch_size: int = 256) -> None:
    """Print the waits of 0, 1 and 2 processes, interleaved.

    Args:
        step: seconds of a step.
        steps: in an epoch.
        rounds: epochs of each.
        batch_size: patches in a batch.
        patch_size: their side in px.
    """
    with tempfile.TemporaryDirectory() as folder:
        noise_dataset(Path(folder), SIZE)
        parser = ConfigParser()
        parser.read_config(str(HOME / "configs" / "train.json"))
        parser.update({"dataset_dir": folder, "patch_size": patch_size, "patches_per_pair": steps * batch_size})
        dataset, sampler = (parser.get_parsed_content(f"train#{part}") for part in ("dataset", "sampler"))
    loaders = {number: PatchLoader(dataset, sampler, batch_size, number) for number in WORKERS}
    steps_of = {"sleeps": lambda: time.sleep(step), f"computes on {torch.get_num_threads()} threads": busy(step)}
    for kind, run in steps_of.items():
        measured: dict[int, list] = {number: [] for number in WORKERS}
        for _ in range(rounds):
            for number, loader in loaders.items():
                measured[number].append(waits(loader, run))
        print(f"a step of {step} s that {kind}:")
        for number, epochs in measured.items():
            later = [wait for waited, _ in epochs for wait in waited[1:]]
            firsts = [1e3 * waited[0] for waited, _ in epochs]
            each = statistics.median(total for _, total in epochs) / steps
            waited = f"{1e3 * statistics.median(later):.2f} ms (at most {1e3 * max(later):.1f})"
            first = f"{statistics.median(firsts):.0f} ms (at most {max(firsts):.0f})"
            print(f"  num_workers {number}: waits {waited}, first of an epoch {first}; {each:.4f} s a step")


if __name__ == "__main__":
    fire.Fire(main)
