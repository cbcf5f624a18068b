"""Seconds of a training step in each arithmetic, beside a plain eager fp32 step, interleaved."""

from __future__ import annotations

import copy
import itertools
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import fire
import torch
from monai.bundle import ConfigParser
from torch import Tensor, nn

from bundle.networks import score
from bundle.networks.arithmetic import candidates
from bundle.networks.layers import is_instance_norm
from bundle.training.losses import Objective, least_squares
from bundle.training.trainers import CycleTrainer
from bundle.training.translation import Networks, Translation
from scripts.bench.patches import HOME, noise_dataset


def make_trainer(folder: Path, method: str | None = None, **ids: object) -> CycleTrainer:
    """The trainer of train.json, or of one of configs/methods, on one pair of noise."""
    parser = ConfigParser()
    names = ["train.json", *([f"methods/{method}.json"] if method else [])]
    parser.read_config([str(HOME / "configs" / name) for name in names])
    parser.update({"dataset_dir": str(folder / "data"), "output_dir": str(folder / "run"), "device": "cpu", **ids})
    return parser.get_parsed_content("train#trainer")


def plain_step(networks: Mapping[str, nn.Module], objective: Objective) -> Callable[[Mapping[str, Tensor]], None]:
    """A step as it is commonly written.

    Instance norm as PyTorch has it, no layout asked for, each image through its own pass, Adam as it comes, and the
    discriminators' gradients computed in the generators' step too, where nothing uses them. It has no image buffer.
    """
    own = {name: copy.deepcopy(network) for name, network in networks.items()}
    for parent in [module for network in own.values() for module in network.modules()]:
        for name, child in list(parent.named_children()):
            if is_instance_norm(child) and isinstance(child, nn.GroupNorm):
                setattr(parent, name, nn.InstanceNorm2d(child.num_channels))

    def adam(*names: str) -> torch.optim.Adam:
        weights = itertools.chain.from_iterable(own[name].parameters() for name in names)
        return torch.optim.Adam(weights, lr=2e-4, betas=(0.5, 0.999))

    of_generators, of_judges = adam("g_xy", "g_yx"), {name: adam(name) for name in ("d_x", "d_y")}

    def step(batch: Mapping[str, Tensor]) -> None:
        x, y = batch["source"], batch["target"]
        translation = Translation(Networks(**own), x, y, mask=batch["mask"])
        of_generators.zero_grad()
        objective(translation)[0].backward()
        of_generators.step()
        for name, real, fake in (("d_x", x, translation.fake_x), ("d_y", y, translation.fake_y)):
            of_judges[name].zero_grad()
            of_real, of_fake = score(own[name], real), score(own[name], fake.detach())
            ((least_squares(of_real, 1) + least_squares(of_fake, 0)) / 2).backward()
            of_judges[name].step()

    return step


def our_step(trainer: CycleTrainer, arithmetic: str) -> Callable[[Mapping[str, Tensor]], None]:
    """A step of the trainer in an arithmetic."""
    working = trainer.computing_with(arithmetic)

    def step(batch: Mapping[str, Tensor]) -> None:
        trainer.working = working
        trainer._iteration(trainer, batch)

    return step


def main(widths: tuple[int, ...] = (64, 32, 16), rounds: int = 5, batch: int = 4, patch: int = 128) -> None:
    """Print the median seconds, their range and the ratio to the plain step, for each width and arithmetic.

    Args:
        widths: of generators and discriminators; nine blocks.
        rounds: steps timed of each, after one to warm up.
        batch: patches in a step.
        patch: side of a patch, px.
    """
    print(f"batches of {batch} patches of {patch} px, {torch.get_num_threads()} threads, medians of {rounds} (range)")
    print("\n| width | step | s | × plain |\n|---|---|---|---|")
    for width in widths if isinstance(widths, (tuple, list)) else [widths]:
        with tempfile.TemporaryDirectory() as folder:
            noise_dataset(Path(folder) / "data", 2 * patch)
            trainer = make_trainer(Path(folder), width=width, batch_size=batch, patch_size=patch)
            images = next(iter(trainer.data_loader))
            steps = {"plain": plain_step(trainer.networks.named(), trainer.objective)}
            steps |= {name: our_step(trainer, name) for name in candidates(torch.device("cpu"), False)}
            times: dict[str, list[float]] = {name: [] for name in steps}
            for turn, (name, step) in itertools.product(range(1 + rounds), steps.items()):
                begin = time.perf_counter()
                step(images)
                if turn:
                    times[name].append(time.perf_counter() - begin)
        plain = statistics.median(times["plain"])
        for name, seconds in times.items():
            middle = statistics.median(seconds)
            print(f"| {width} | {name} | {middle:.3g} ({min(seconds):.3g}–{max(seconds):.3g}) | {plain / middle:.2f} |")


if __name__ == "__main__":
    fire.Fire(main)
