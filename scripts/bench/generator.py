"""How fast a trained generator is in each mode, how near to eager fp32, and where its time goes.

python -m scripts.bench.generator --bundle RUN/bundle [--input IMAGE]
"""

from __future__ import annotations

import copy
import math
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping
from functools import cache, partial
from importlib.util import find_spec
from pathlib import Path

import fire
import numpy as np
import torch
from torch import Tensor, nn

from bundle.images.slides import read_slide
from bundle.networks.accelerate import Accelerated, accelerate
from bundle.networks.engines import engines
from bundle.networks.fast.inference import NarrowConv2d, WinogradConv2d
from bundle.networks.threads import share_out
from bundle.preparation.phantom.dataset import make_dataset
from bundle.staining.model import TrainedModel, load_model

SIDE = 256


@cache
def phantom_slide(side: int) -> np.ndarray:
    """A section of a phantom of 256 px, continued as in mirrors: (1, side, side), 0–65535."""
    with tempfile.TemporaryDirectory() as folder:
        made = make_dataset(str(Path(folder) / "data"), 1, volumes=False)
        pixels = read_slide(next((made / "ct").iterdir())).pixels
    over = [(0, 0), *((0, max(0, side - length)) for length in pixels.shape[1:])]
    return np.pad(pixels, over, mode="symmetric")[:, :side, :side]


def windows(model: TrainedModel, file: str | None, count: int) -> Tensor:
    """Windows of an image, or of a phantom, as the network takes them: (count, 3, 256, 256)."""
    pixels = read_slide(file).pixels if file else phantom_slide(SIDE)
    image = model.preprocessing({"image": torch.from_numpy(pixels.astype(np.float32))})["image"]
    flipped = [image, image.flip(-1), image.flip(-2), image.flip(-1, -2)]
    if min(image.shape[1:]) < SIDE:
        raise ValueError(f"{file} is smaller than {SIDE}×{SIDE} px; take a larger image.")
    return torch.stack([torch.Tensor(one[:, :SIDE, :SIDE]).contiguous() for one in flipped[:count]])


def timed(run: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """Seconds of each, in interleaved rounds after one to warm up."""
    seconds: dict[str, list[float]] = {name: [] for name in run}
    with torch.no_grad():
        for number in range(rounds + 1):
            for name, do in run.items():
                begin = time.perf_counter()
                do()
                if number:
                    seconds[name].append(time.perf_counter() - begin)
    return seconds


def with_plain_norm(network: nn.Module) -> nn.Module:
    """A copy with ``InstanceNorm2d``, as most code has it."""
    other = copy.deepcopy(network)
    for parent in list(other.modules()):
        for name, child in parent.named_children():
            if isinstance(child, nn.GroupNorm):
                setattr(parent, name, nn.InstanceNorm2d(child.num_channels))
    return other


def openvino(network: nn.Module, x: Tensor, kind: str) -> Callable[[Tensor], Tensor]:
    """The network through OpenVINO, each image by one thread.

    Its group norm of static shapes ends the process, so norms are written out.

    Args:
        network: in fp32.
        x: (1, 3, H, W), as all that follow.
        kind: ``f32`` or ``bf16``.
    """
    import openvino  # if somebody has it

    own = copy.deepcopy(network)
    for parent in list(own.modules()):
        for name, child in parent.named_children():
            if isinstance(child, nn.GroupNorm):
                setattr(parent, name, WrittenOut(child.eps))
    made = openvino.convert_model(own, example_input=x, input=list(x.shape))
    threads = torch.get_num_threads()
    hints = {"INFERENCE_PRECISION_HINT": kind, "INFERENCE_NUM_THREADS": threads, "NUM_STREAMS": threads}
    compiled = openvino.Core().compile_model(made, "CPU", {**hints, "ENABLE_CPU_PINNING": False})

    def translate(images: Tensor) -> Tensor:
        def one(image: Tensor) -> Tensor:
            return torch.from_numpy(compiled.create_infer_request().infer([image.numpy()])[0].copy())

        return torch.cat(share_out(one, list(images.split(1))))

    return translate


class WrittenOut(nn.Module):
    """Instance norm of parts that OpenVINO knows."""

    def __init__(self, eps: float) -> None:
        super().__init__()
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) → the same."""
        away = x - x.mean((2, 3), keepdim=True)
        return away / torch.sqrt((away * away).mean((2, 3), keepdim=True) + self.eps)


def psnr(found: Tensor, expected: Tensor) -> float:
    """Of images in [−1, 1], dB."""
    error = float((found - expected).square().mean(dtype=torch.float64))
    return 10 * math.log10(4 / error) if error else math.inf


def peaks() -> dict[str, float]:
    """GFLOP/s of a large convolution in each layout, and of a large matrix product."""
    x, weight, square = torch.randn(4, 256, 64, 64), torch.randn(256, 256, 3, 3), torch.randn(2048, 2048)
    last = {"memory_format": torch.channels_last}
    run = {
        "3×3 convolution, NCHW": lambda: torch.conv2d(x, weight, padding=1),
        "3×3 convolution, channels-last": partial(
            torch.conv2d, x.contiguous(**last), weight.contiguous(**last), padding=1
        ),
        "matrix product 2048³": lambda: square @ square,
    }
    work = {name: 2 * x.numel() * weight[0].numel() for name in run} | {"matrix product 2048³": 2 * 2048**3}
    return {name: work[name] / min(seconds) / 1e9 for name, seconds in timed(run, 5).items()}


def shares(network: Accelerated, x: Tensor) -> dict[str, float]:
    """Share of the time of one window, on one thread, by what it is spent on."""
    spent: dict[str, float] = {}

    def watch(name: str, do: Callable) -> Callable:
        def watched(*given, **named):  # noqa: ANN002, ANN003, ANN202
            begin = time.perf_counter()
            made = do(*given, **named)
            spent[name] = spent.get(name, 0.0) + time.perf_counter() - begin
            return made

        return watched

    threads, product = torch.get_num_threads(), torch.bmm
    own = copy.deepcopy(network)
    torch.set_num_threads(1)
    own(x)
    for module in own.modules():
        if isinstance(module, WinogradConv2d):
            module.gather = watch("Winograd: tiles in", module.gather)
            module.scatter = watch("Winograd: tiles out", module.scatter)
        elif isinstance(module, (nn.Conv2d, nn.ConvTranspose2d, NarrowConv2d)):
            module.forward = watch("other convolutions", module.forward)
        elif isinstance(module, nn.GroupNorm):
            module.forward = watch("norm (and ReLU)", module.forward)
    torch.bmm = watch("Winograd: matrix products", product)
    try:
        total = statistics.median(timed({"": lambda: own(x)}, 5)[""]) * 6  # one round warms up
    finally:
        torch.bmm = product
        torch.set_num_threads(threads)
    spent["rest"] = max(0.0, total - sum(spent.values()))
    return {name: seconds / sum(spent.values()) for name, seconds in spent.items()}


def main(bundle: str, input: str | None = None, rounds: int = 7, threads: int = 2) -> None:  # noqa: A002
    """Print the tables as Markdown.

    Args:
        bundle: a trained bundle.
        input: an image of at least 256×256 px; none for a phantom.
        rounds: how often each is timed.
        threads: that PyTorch uses.
    """
    torch.set_num_threads(threads)
    model = load_model(bundle, error_map=None)
    network, one = model.network, windows(model, input, 1)
    last = copy.deepcopy(network).to(memory_format=torch.channels_last)
    names = [name for name in engines(network, torch.device("cpu")) if name != "fp32"]
    modes: dict[str, Callable[[Tensor], Tensor]] = {
        "eager fp32": network,
        "`InstanceNorm2d`, as elsewhere": with_plain_norm(network),
        "channels-last": lambda x: last(x.contiguous(memory_format=torch.channels_last)),
        **{f"`{name}`": accelerate(network, name) for name in names},
    }
    if find_spec("openvino"):
        modes |= {f"OpenVINO, {kind}": openvino(network, one, kind) for kind in ("f32", "bf16")}
    peak = peaks()
    print("".join(f"{name}: {value:.0f} GFLOP/s\n" for name, value in peak.items()))
    print("| mode | batch | × eager | ms a window (range) | PSNR, dB | max abs |")
    print("|---|---|---|---|---|---|")
    for count in (1, 4):
        x = windows(model, input, count)
        seconds = timed({name: partial(mode, x) for name, mode in modes.items()}, rounds)
        with torch.no_grad():
            expected = network(x)
            for name, mode in modes.items():
                found = mode(x)
                each = [1000 * second / count for second in seconds[name]]
                ratio = statistics.median(
                    eager / own for eager, own in zip(seconds["eager fp32"], seconds[name], strict=True)
                )
                print(
                    f"| {name} | {count} | {ratio:.2f} "
                    f"| {statistics.median(each):.0f} ({min(each):.0f}–{max(each):.0f}) "
                    f"| {psnr(found, expected):.0f} | {float((found - expected).abs().max()):.1e} |"
                )
    print("\nWhere the time of one window goes, on one thread:\n\n| | F(4×4) | F(6×6) |\n|---|---|---|")
    found = [shares(accelerate(network, name), one) for name in ("winograd_fp32", "winograd6_fp32")]  # type: ignore[arg-type]
    for name in dict.fromkeys([*found[0], *found[1]]):
        print(f"| {name} | " + " | ".join(f"{100 * share.get(name, 0):.0f} %" for share in found) + " |")


if __name__ == "__main__":
    fire.Fire(main)
