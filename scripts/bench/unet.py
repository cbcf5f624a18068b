"""A step of Pix2Pix beside the one that is commonly written, and where the difference lies.

``OMP_NUM_THREADS=1 python -m scripts.bench.unet``: ours in each arithmetic; the same two networks, stepped as in the
authors' PyTorch code (Zhu and Isola, pytorch-CycleGAN-and-pix2pix); and that code's own networks. Then the last layer
of each U-Net alone, and ours as the faster arithmetics compute it.
"""

from __future__ import annotations

import copy
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from monai.bundle import ConfigParser
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from bundle.common.command_line import command
from bundle.networks import score
from bundle.networks.arithmetic import candidates
from bundle.networks.fast.training_layers import TwinEnlarged
from bundle.training.trainers import CycleTrainer
from scripts.bench.patches import HOME, noise_dataset
from scripts.bench.training import our_step

Step = Callable[[Mapping[str, Tensor]], None]


class Level(nn.Module):
    """A level of their U-Net with all that are below it; its input is joined to its output."""

    def __init__(self, outer: int, inner: int, below: nn.Module | None, dropout: bool) -> None:
        super().__init__()
        down = [nn.LeakyReLU(0.2, True), nn.Conv2d(outer, inner, 4, 2, 1)]
        down += [] if below is None else [nn.InstanceNorm2d(inner), below]
        channels = inner if below is None else 2 * inner
        up = [nn.ReLU(True), nn.ConvTranspose2d(channels, outer, 4, 2, 1), nn.InstanceNorm2d(outer)]
        self.layers = nn.Sequential(*down, *up, *([nn.Dropout(0.5)] if dropout else []))

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) → (B, 2C, H, W)."""
        return torch.cat([x, self.layers(x)], 1)


def their_unet(width: int, levels: int) -> nn.Module:
    """Their U-Net, which halves a patch ``levels`` times."""
    sizes = [min(2**level, 8) * width for level in range(levels)]
    below: nn.Module | None = None
    for level in range(levels - 1, 0, -1):
        below = Level(sizes[level - 1], sizes[level], below, dropout=3 < level < levels - 1)
    assert below is not None
    last = nn.ConvTranspose2d(2 * width, 3, 4, 2, 1)
    return nn.Sequential(nn.Conv2d(3, width, 4, 2, 1), below, nn.ReLU(True), last, nn.Tanh())


def their_discriminator(width: int) -> nn.Module:
    """Their PatchGAN of pairs."""
    layers: list[nn.Module] = [nn.Conv2d(6, width, 4, 2, 1), nn.LeakyReLU(0.2, True)]
    for times, stride in ((1, 2), (2, 2), (4, 1)):
        layers += [nn.Conv2d(times * width, 2 * times * width, 4, stride, 1), nn.InstanceNorm2d(2 * times * width)]
        layers += [nn.LeakyReLU(0.2, True)]
    return nn.Sequential(*layers, nn.Conv2d(8 * width, 1, 4, 1, 1))


def common_step(generator: nn.Module, judge: nn.Module) -> Step:
    """Their step: the discriminator's two passes, then the generator; Adam as it comes."""
    adam = [torch.optim.Adam(network.parameters(), lr=2e-4, betas=(0.5, 0.999)) for network in (generator, judge)]

    def error(images: Tensor, expected: float) -> Tensor:
        found = score(judge, images)
        return F.mse_loss(found, torch.full_like(found, expected))

    def step(batch: Mapping[str, Tensor]) -> None:
        x, y = batch["source"], batch["target"]
        fake = generator(x)
        pair = torch.cat([x, fake], 1)
        judge.requires_grad_(True)
        adam[1].zero_grad()
        ((error(pair.detach(), 0) + error(torch.cat([x, y], 1), 1)) / 2).backward()
        adam[1].step()
        judge.requires_grad_(False)
        adam[0].zero_grad()
        (error(pair, 1) + 100 * (fake - y).abs().mean()).backward()
        adam[0].step()

    return step


def last_layers(final: nn.Sequential, batch: int, size: int) -> dict[str, Callable[[], None]]:
    """The last layer of our U-Net, in two ways, and of theirs, forward and backward."""
    ours, theirs = final[2], nn.ConvTranspose2d(final[2].in_channels, 3, 4, 2, 1)
    x, slope = torch.randn(batch, ours.in_channels, size // 2, size // 2), torch.randn(batch, 3, size, size)

    by_four = TwinEnlarged(ours, torch.float32)

    def derived(image: Tensor) -> Tensor:
        by_four.current = by_four.derive()
        return by_four(image)

    def both_ways(layer: Callable[[Tensor], Tensor]) -> Callable[[], None]:
        return lambda: layer(x.clone().requires_grad_()).backward(slope)

    return {
        "ours: enlarged, 4×4 convolution": both_ways(final[:3]),
        "the same by four 3×3 of the small image": both_ways(derived),
        "theirs: 4×4 transposed convolution": both_ways(theirs),
    }


def report(run: Mapping[str, Callable[[], None]], rounds: int, least: str) -> None:
    """Print CPU seconds of interleaved rounds, after one to warm up, as Markdown."""
    times: dict[str, list[float]] = {name: [] for name in run}
    for turn in range(rounds + 1):
        for name, do in run.items():
            begin = time.process_time()
            do()
            if turn:
                times[name].append(time.process_time() - begin)
    base = statistics.median(times[least])
    print("| | CPU s (range) | × |\n|---|---|---|")
    for name, seconds in times.items():
        middle = statistics.median(seconds)
        print(f"| {name} | {middle:.3g} ({min(seconds):.3g}–{max(seconds):.3g}) | {middle / base:.2f} |", flush=True)


def main(width: int = 16, batch: int = 4, patch: int = 128, rounds: int = 7) -> None:
    """Print both tables.

    Args:
        width: of generator and discriminator.
        batch: patches in a step.
        patch: side of a patch, px.
        rounds: steps timed of each.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        noise_dataset(folder / "data", 2 * patch)
        parser = ConfigParser()
        parser.read_config([str(HOME / "configs" / file) for file in ("train.json", "methods/pix2pix.json")])
        parser.update({"dataset_dir": str(folder / "data"), "output_dir": str(folder / "run"), "device": "cpu"})
        parser.update({"width": width, "batch_size": batch, "patch_size": patch})
        trainer: CycleTrainer = parser.get_parsed_content("train#trainer")
        images = next(iter(trainer.data_loader))
    ours = trainer.networks.named()
    theirs = their_unet(width, len(ours["g_xy"].down)), their_discriminator(width)  # type: ignore[arg-type]
    steps = {f"ours, `{name}`": our_step(trainer, name) for name in candidates(torch.device("cpu"), False)}
    steps["our networks, common step"] = common_step(*(copy.deepcopy(ours[key]) for key in ("g_xy", "d_y")))
    steps["their networks, common step"] = common_step(*theirs)
    run = {name: lambda step=step: step(images) for name, step in steps.items()}
    report(run, rounds, "their networks, common step")
    final = copy.deepcopy(ours["g_xy"].final)
    report(last_layers(final, batch, patch), rounds, "theirs: 4×4 transposed convolution")  # type: ignore[arg-type]


if __name__ == "__main__":
    command(main)
