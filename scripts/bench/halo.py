"""A slide of 1024² px by a network with a halo, in windows side by side, beside one with instance norm in windows.

python -m scripts.bench.halo [--width 16] [--blended False]
"""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable

import fire
import torch
from monai.inferers import Inferer, SlidingWindowInferer
from torch import Tensor

from bundle.networks import FieldGenerator, ResnetGenerator
from bundle.networks.accelerate import accelerate
from bundle.networks.halo import HaloInferer


def levels(image: Tensor) -> Tensor:
    """A stain in [−1, 1] as it is written, in 8 bits."""
    return torch.round((image + 1) * 127.5)


def psnr(found: Tensor, expected: Tensor) -> float:
    """Of images in 8 bits, dB."""
    error = float((found - expected).square().mean())
    return 10 * math.log10(255**2 / error) if error else math.inf


def main(width: int = 16, side: int = 1024, threads: int = 1, rounds: int = 2, blended: bool = True) -> None:
    """Print the table as Markdown; weights are random, whole slides are timed, in turn, and the fastest counts.

    Args:
        width: of both networks.
        side: of the slide, px: noise.
        threads: that PyTorch uses.
        rounds: how often each is timed.
        blended: also stain in windows of 256 px every 64 px with the network with a halo.
    """
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    field, resnet = FieldGenerator(width=width).eval(), ResnetGenerator(width=width).eval()
    x = torch.rand(1, 3, side, side) * 2 - 1
    sliding = SlidingWindowInferer(256, threads, 0.7499, mode="gaussian", padding_mode="replicate")
    exact, fast = accelerate(field), accelerate(field, "fast")

    def windows(size: int) -> HaloInferer:
        return HaloInferer(size, field.halo, field.multiple)

    ways: dict[str, tuple[Inferer, Callable[[Tensor], Tensor]]] = {
        "`ResnetGenerator`, `exact`, 256 px every 64 px": (sliding, accelerate(resnet)),
        "`FieldGenerator`, `exact`, 1024 px": (windows(1024), exact),
        "the same, 512 px": (windows(512), exact),
        "the same, 256 px": (windows(256), exact),
        "the same, `fast`, 1024 px": (windows(1024), fast),
    }
    if blended:
        ways["the same, `exact`, 256 px every 64 px, blended"] = (sliding, exact)
    made, seconds = {}, dict.fromkeys(ways, math.inf)
    for _, (name, (inferer, network)) in itertools.product(range(rounds), ways.items()):
        began = time.process_time()
        with torch.inference_mode():
            made[name] = levels(inferer(x, network))
        seconds[name] = min(seconds[name], time.process_time() - began)
    first, second, *_ = ways
    print(f"width {width}, {side}² px, {threads} thread(s); exact: {exact.arithmetic}; fast: {fast.arithmetic}\n")
    differ = "values that differ from the second's, of 100,000"
    print(f"| | seconds of a processor | × the first | {differ} | by at most | PSNR, dB |")
    print("|---|---|---|---|---|---|")
    for name in ways:
        apart = (made[name] - made[second]).abs()
        share, most = 1e5 * float((apart > 0).float().mean()), int(apart.max())
        quality = f"{share:.1f} | {most} | {psnr(made[name], made[second]):.1f}"
        quality = "| |" if name == first else quality
        print(f"| {name} | {seconds[name]:.1f} | {seconds[first] / seconds[name]:.1f} | {quality} |")


if __name__ == "__main__":
    fire.Fire(main)
