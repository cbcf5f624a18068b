"""A slide of 1000² px in windows of 256 px: what each mode, a wider step and a single pass cost in time and quality.

python -m scripts.bench.slide --bundle RUN/bundle [--input IMAGE]
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any

import fire
import numpy as np
import torch
from torch import Tensor, nn

from bundle.images.slides import read_slide
from bundle.networks.accelerate import accelerate
from bundle.staining.model import TrainedModel, load_model
from scripts.bench.generator import phantom_slide


class Counted(nn.Module):
    """A network that adds up its windows and its seconds.

    Args:
        network: what computes.
    """

    def __init__(self, network: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.compute, self.windows, self.seconds = network, 0, 0.0

    def forward(self, x: Tensor) -> Tensor:
        """(B, 3, H, W) → (B, 3, H, W)."""
        begin = time.perf_counter()
        made = self.compute(x)
        self.seconds += time.perf_counter() - begin
        self.windows += len(x)
        return made


def stained(model: TrainedModel, network: Counted, pixels: np.ndarray) -> tuple[np.ndarray, float]:
    """The 8-bit slide and the seconds it takes, without reading and writing files."""
    begin = time.perf_counter()
    with torch.no_grad():
        image = model.preprocessing({"image": torch.from_numpy(pixels.astype(np.float32))})["image"]
        pred = model.inferer(image[None], network)[0]
        made = model.postprocessing({"pred": pred})["pred"]
    return made.numpy(), time.perf_counter() - begin


def psnr(found: np.ndarray, expected: np.ndarray) -> float:
    """Of 8-bit images, dB."""
    error = float(np.square(found.astype(float) - expected).mean())
    return 10 * math.log10(255**2 / error) if error else math.inf


def main(bundle: str, input: str | None = None, side: int = 1000, threads: int = 2, rounds: int = 1) -> None:  # noqa: A002
    """Print the table as Markdown; whole slides are timed, none is extrapolated.

    Args:
        bundle: a trained bundle.
        input: an image; none for a phantom of ``side`` px.
        side: of the phantom, px.
        threads: that PyTorch uses, and windows in a batch in the accelerated modes.
        rounds: how often each is timed, in turn; the fastest counts.
    """
    torch.set_num_threads(threads)
    pixels = read_slide(input).pixels if input else phantom_slide(side)
    plain: dict[str, Any] = {"sliding_window#sw_batch_size": 1}
    batched: dict[str, Any] = {"sliding_window#sw_batch_size": threads}
    sliding = [
        ("MONAI, eager fp32, step 64", "eager", {**plain, "step": 64}),
        ("**exact**, step 64", "exact", {**batched, "step": 64}),
        ("**fast**, step 64", "fast", {**batched, "step": 64}),
        ("**preview** (fast, step 128)", "fast", {**batched, "step": 128}),
        ("fast, `window: null`", "fast", {"window": None}),
    ]
    network = load_model(bundle, error_map=None).network
    networks = {"eager": network, "exact": accelerate(network, "exact"), "fast": accelerate(network, "fast")}
    image = load_model(bundle).preprocessing({"image": torch.from_numpy(pixels.astype(np.float32))})["image"]
    networks["fast"].choose(image[None])
    best: dict[str, tuple[float, Counted, np.ndarray]] = {}
    for _ in range(rounds):
        for name, speed, ids in sliding:
            counted = Counted(networks[speed])
            made, seconds = stained(load_model(bundle, error_map=None, **ids), counted, pixels)
            if name not in best or seconds < best[name][0]:
                best[name] = seconds, counted, made
    first, _, expected = best[sliding[0][0]]
    print(f"{pixels.shape[-2]}×{pixels.shape[-1]} px, {threads} threads; exact: {networks['exact'].arithmetic}; ")
    print(f"fast: {networks['fast'].arithmetic}\n")
    print("| | windows | seconds | × MONAI | windows × time of one | PSNR of the 8-bit slide, dB |")
    print("|---|---|---|---|---|---|")
    for name, (seconds, counted, made) in best.items():
        share, quality = 100 * counted.seconds / seconds, psnr(made, expected)
        print(f"| {name} | {counted.windows} | {seconds:.1f} | {first / seconds:.2f} | {share:.1f} % | {quality:.1f} |")


if __name__ == "__main__":
    fire.Fire(main)
