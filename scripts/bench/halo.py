"""A slide of 1024² px in windows side by side, where the network allows it, beside one in windows that overlap.

python -m scripts.bench.halo [--width 16] [--blended False]
"""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable
from typing import Any

import fire
import torch
from monai.inferers import Inferer, SlidingWindowInferer
from torch import Tensor

from bundle.networks import FieldGenerator, ResnetGenerator
from bundle.networks.accelerate import Accelerated, accelerate
from bundle.networks.halo import HaloInferer
from bundle.networks.specimen_norm import SpecimenInferer, SpecimenNetwork
from bundle.staining.model import load_model
from scripts.bench.generator import phantom_slide


def levels(image: Tensor) -> Tensor:
    """A stain in [−1, 1] as it is written, in 8 bits."""
    return torch.round((image + 1) * 127.5)


def psnr(found: Tensor, expected: Tensor) -> float:
    """Of images in 8 bits, dB."""
    error = float((found - expected).square().mean())
    return 10 * math.log10(255**2 / error) if error else math.inf


class Inside:
    """Seconds of a processor that are spent in a network."""

    def __init__(self) -> None:
        self.seconds = 0.0
        for owner, name in ((Accelerated, "_translate"), (SpecimenNetwork, "learn")):
            self._watch(owner, name)

    def _watch(self, owner: Any, name: str) -> None:
        do = getattr(owner, name)

        def watched(*given: Any) -> Any:
            began = time.process_time()
            made = do(*given)
            self.seconds += time.process_time() - began
            return made

        setattr(owner, name, watched)


def main(
    width: int = 16,
    side: int = 1024,
    threads: int = 1,
    rounds: int = 2,
    blended: bool = True,
    bundle: str | None = None,
) -> None:
    """Print the table as Markdown; whole slides are timed, in turn, and the fastest counts.

    Args:
        width: of both networks.
        side: of the slide, px.
        threads: that PyTorch uses.
        rounds: how often each is timed.
        blended: also stain in windows of 256 px every 64 px with the network with a halo.
        bundle: a trained bundle of ``firm``, to stain a phantom with its network; else weights are random, and the
            slide is noise.
    """
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    field, resnet = FieldGenerator(width=width).eval(), ResnetGenerator(width=width).eval()
    x = torch.rand(1, 3, side, side) * 2 - 1
    if bundle is not None:
        model = load_model(bundle, error_map=None)
        image = torch.from_numpy(phantom_slide(side).astype("float32"))
        resnet, x = model.network, model.preprocessing({"image": image})["image"][None].as_subclass(Tensor)
    sliding = SlidingWindowInferer(256, threads, 0.7499, mode="gaussian", padding_mode="replicate")
    exact, fast = accelerate(field), accelerate(field, "fast")
    plain, specimen, quick = (SpecimenNetwork(accelerate(resnet, speed)) for speed in ("stock", "exact", "fast"))
    for network in (plain, specimen, quick):
        network.settle(plain.learn(x))
    for network in (quick, fast):
        network.choose(x)

    def windows(size: int) -> HaloInferer:
        return HaloInferer(size, field.halo, field.multiple)

    def settled(size: int) -> HaloInferer:
        return SpecimenInferer(size, resnet.reach, resnet.multiple).settled()

    itself, alone = SpecimenInferer(1024, resnet.reach, resnet.multiple), accelerate(resnet, "fast")
    itself(x, alone)  # so that its arithmetic is chosen
    one, other = "`ResnetGenerator`, one section's statistics, ", "`FieldGenerator`, "
    ways: dict[str, tuple[Inferer, Callable[[Tensor], Tensor], str]] = {
        "`ResnetGenerator`, MONAI alone, 256 px every 64 px": (sliding, resnet, ""),
        "`ResnetGenerator`, `exact`, 256 px every 64 px": (sliding, accelerate(resnet), ""),
        f"{one}`exact`, 1024 px": (settled(1024), specimen, one),
        f"{one}`exact`, 512 px": (settled(512), specimen, one),
        f"{one}`exact`, 256 px": (settled(256), specimen, one),
        f"{one}`fast`, 1024 px": (settled(1024), quick, one),
        f"{one}`stock`, 1024 px": (settled(1024), plain, one),
        f"{one}`exact`, a slide by itself": (itself, accelerate(resnet), one),
        f"{one}`fast`, a slide by itself": (itself, alone, one),
        f"{other}`exact`, 1024 px": (windows(1024), exact, other),
        f"{other}`exact`, 512 px": (windows(512), exact, other),
        f"{other}`exact`, 256 px": (windows(256), exact, other),
        f"{other}`fast`, 1024 px": (windows(1024), fast, other),
    }
    if blended:
        ways[f"{other}`exact`, 256 px every 64 px, blended"] = (sliding, exact, other)
    made, seconds, shares, inside = {}, dict.fromkeys(ways, math.inf), dict.fromkeys(ways, 0.0), Inside()
    for _, (name, (inferer, translate, _)) in itertools.product(range(rounds), ways.items()):
        began, inside.seconds = time.process_time(), 0.0
        with torch.inference_mode():
            made[name] = levels(inferer(x, translate))
        spent = time.process_time() - began
        seconds[name], shares[name] = min(seconds[name], spent), max(shares[name], inside.seconds / spent)
    slowest = next(iter(ways))
    first = {kind: next(name for name in ways if ways[name][2] == kind) for kind in (one, other)}
    print(f"width {width}, {side}² px, {threads} thread(s); `exact`: {specimen.arithmetic}, {exact.arithmetic}; ")
    print(f"`fast`: {quick.arithmetic}, {fast.arithmetic}\n")
    differ = "values that differ from its network's first row, of 100,000"
    print(f"| | seconds of a processor | × the first | in the network | {differ} | by at most | PSNR, dB |")
    print("|---|---|---|---|---|---|---|")
    for name, (_, _, kind) in ways.items():
        quality = "| |"
        if kind:
            apart = (made[name] - made[first[kind]]).abs()
            share, most = 1e5 * float((apart > 0).float().mean()), int(apart.max())
            quality = f"{share:.1f} | {most} | {psnr(made[name], made[first[kind]]):.1f}"
        print(
            f"| {name} | {seconds[name]:.1f} | {seconds[slowest] / seconds[name]:.1f} "
            f"| {100 * shares[name]:.0f} % | {quality} |"
        )


if __name__ == "__main__":
    fire.Fire(main)
