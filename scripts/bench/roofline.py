"""What GPUs' data sheets let one expect of both networks, not measured: ``python -m scripts.bench.roofline``.

Every operator that PyTorch starts on CUDA is counted on tensors without values, so no GPU is needed.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import fire
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.func import functional_call
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

from bundle.networks import ResnetGenerator
from bundle.networks.specimen_norm import SpecimenInferer, SpecimenNetwork, folded

SIDE, WINDOW, STEP, LARGE = 1200, 256, 64, 1024  # voxels a side of a scan; px of windows
OF_PEAK, OF_BANDWIDTH = 0.5, 0.8  # of the data sheet's, assumed
LAUNCH_S = 10e-6  # that Python takes for an operator, assumed
TILE_PX, TILE_CHANNELS = 128, (32, 128)  # of a convolution's output, what a multiprocessor makes at a time, assumed
GROUPS = {"convolution": "convolutions", "native_group_norm": "norms", "relu_": "ReLU", "_to_copy": "casts"}
GROUPS |= dict.fromkeys(("addcmul", "neg", "div", "reciprocal", "mul"), "norms")
GROUPS |= dict.fromkeys(("reflection_pad2d", "replication_pad2d"), "pads")


class Card(NamedTuple):
    """A GPU as its vendor publishes it: TFLOP/s without sparsity, TB/s, multiprocessors."""

    name: str
    tflops: dict[str, float]
    terabytes: float
    processors: int


CARDS = (  # NVIDIA's data sheets of H100 and A100 (80 GB); white paper of the Ada architecture, sums in fp32
    Card("H100 SXM", {"fp32": 67, "TF32": 495, "fp16": 989}, 3.35, 132),
    Card("A100 SXM", {"fp32": 19.5, "TF32": 156, "fp16": 312}, 2.04, 108),
    Card("RTX 4090", {"fp32": 82.6, "TF32": 82.6, "fp16": 165.2}, 1.01, 128),
)


class Arithmetic(NamedTuple):
    """How a network computes: which peak is its own, the type of its weights, and whether autocast makes it fp16."""

    name: str
    peak: str
    dtype: torch.dtype
    autocast: bool


ARITHMETICS = (
    Arithmetic("fp32", "fp32", torch.float32, False),
    Arithmetic("TF32", "TF32", torch.float32, False),
    Arithmetic("fp16 autocast", "fp16", torch.float32, True),
    Arithmetic("fp16 weights", "fp16", torch.float16, False),
)


class Operator(NamedTuple):
    """What one operator does: FLOP, bytes read and written; of a convolution, pixels and channels of its output."""

    name: str
    flop: float
    bytes: float
    pixels: int = 0
    channels: int = 0


class Counter(TorchDispatchMode):
    """Keeps an :class:`Operator` for each kernel that PyTorch starts."""

    def __init__(self) -> None:
        super().__init__()
        self.operators: list[Operator] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run an operator, and count it unless it computes nothing."""
        kwargs = kwargs or {}
        made = func(*args, **kwargs)
        if func.is_view or not any(isinstance(each, Tensor) for each in tree_leaves(made)):
            return made
        moved = sum(each.nbytes for each in tree_leaves((args, kwargs, made)) if isinstance(each, Tensor))
        name, flop, size = func.overloadpacket.__name__, 0.0, (0, 0)
        if name == "native_group_norm":
            moved += args[0].nbytes  # once for the statistics, and once more
        if name == "convolution":
            flop = flop_registry[func.overloadpacket](*args, **kwargs, out_val=made)
            size = (made.numel() // made.shape[1], made.shape[1])
        self.operators.append(Operator(name, flop, moved, *size))
        return made


def paper(width: int = 64, blocks: int = 9) -> ResnetGenerator:
    """The paper's generator with random weights, for inference."""
    return ResnetGenerator(width=width, blocks=blocks).eval().requires_grad_(False)


def specimen(width: int = 64, blocks: int = 9) -> nn.Module:
    """The recommended method's: the same with one section's statistics, here of noise, in its convolutions."""
    network = paper(width, blocks)
    return folded(network, SpecimenNetwork(network).learn(torch.rand(1, 3, 64, 64) * 2 - 1)).eval()


def count(network: nn.Module, shape: Sequence[int], arithmetic: Arithmetic) -> list[Operator]:
    """The operators of one pass on CUDA; copies between memory layouts are left out.

    Args:
        network: on any device.
        shape: (B, C, H, W).
        arithmetic: how it computes.
    """
    with FakeTensorMode(), torch.device("cuda"), torch.no_grad():
        tensors = itertools.chain(network.named_parameters(), network.named_buffers())
        empty = {name: torch.empty(each.shape, dtype=arithmetic.dtype) for name, each in tensors}
        x = torch.empty(*shape, dtype=arithmetic.dtype)
        torch.set_autocast_dtype("cuda", torch.float16)
        torch.set_autocast_enabled("cuda", arithmetic.autocast)  # torch.autocast itself asks for a GPU
        try:
            with Counter() as counter:
                functional_call(network, empty, x)
        finally:
            torch.set_autocast_enabled("cuda", False)
    return counter.operators


def fill(operator: Operator, processors: int) -> float:
    """Share of the multiprocessors' time that a convolution uses: they make its output in tiles, one each at a time."""
    channels = min(max(operator.channels, TILE_CHANNELS[0]), TILE_CHANNELS[1])
    tiles = math.ceil(operator.pixels / TILE_PX) * math.ceil(operator.channels / channels)
    rounds = math.ceil(tiles / processors)
    return operator.pixels * operator.channels / (rounds * processors * TILE_PX * channels)


def expected(operators: Sequence[Operator], card: Card, peak: str) -> float:
    """Seconds of a pass.

    Operators follow each other, each as slow as its sums or its bytes make it, at the assumed shares of the peaks; and
    all together are not faster than Python starts them.
    """
    flops, bandwidth = OF_PEAK * card.tflops[peak] * 1e12, OF_BANDWIDTH * card.terabytes * 1e12
    seconds = [
        max(each.flop / flops / fill(each, card.processors) if each.flop else 0.0, each.bytes / bandwidth)
        for each in operators
    ]
    return max(sum(seconds), LAUNCH_S * len(operators))


def limit(operators: Sequence[Operator], card: Card, peak: str) -> float:
    """Seconds of a pass by the data sheet alone: convolutions at full peaks, all else done while they pass by."""
    flops, bandwidth = card.tflops[peak] * 1e12, card.terabytes * 1e12
    return sum(max(each.flop / flops, each.bytes / bandwidth) for each in operators if each.flop)


def overlapping_pixels(side: int, window: int, step: int) -> int:
    """Pixels that a network sees of a cube, slice by slice, in windows that overlap."""
    return side * (window * (1 + math.ceil(max(0, side - window) / step))) ** 2


def side_by_side_pixels(side: int, window: int, reach: int, multiple: int) -> int:
    """The same in windows side by side, with their halos."""
    spans = SpecimenInferer(window, reach, multiple).spans(side)
    return side * sum(span.read.stop - span.read.start for span in spans) ** 2


def in_groups(operators: Sequence[Operator]) -> dict[str, float]:
    """GB by what they are moved for."""
    moved = dict.fromkeys([*GROUPS.values(), "others"], 0.0)
    for each in operators:
        moved[GROUPS.get(each.name, "others")] += each.bytes / 1e9
    return moved


def main(width: int = 64, blocks: int = 9) -> None:
    """Print what is counted, and what is expected, as Markdown.

    Args:
        width: of both networks.
        blocks: likewise.
    """
    plain = paper(width, blocks)
    whole = (overlapping_pixels(SIDE, WINDOW, STEP), side_by_side_pixels(SIDE, LARGE, plain.reach, plain.multiple))
    both = (("paper", plain, 16, WINDOW), ("one section's statistics", specimen(width, blocks), 1, LARGE))
    counted = {
        arithmetic: [count(network, (batch, 3, side, side), arithmetic) for _, network, batch, side in both]
        for arithmetic in ARITHMETICS
    }
    print(f"| a window | | operators | GFLOP | {', GB | '.join(in_groups([]))}, GB |\n|{'---|' * 10}")
    for place, (title, _, batch, side) in enumerate(both):
        for arithmetic in (each for each in ARITHMETICS if each.peak != "TF32"):  # which moves what fp32 does
            operators = counted[arithmetic][place]
            flop = sum(each.flop for each in operators) / batch / 1e9
            moved = " | ".join(f"{value / batch:.2f}" for value in in_groups(operators).values())
            print(f"| {title}, {side} px | {arithmetic.name} | {len(operators)} | {flop:.0f} | {moved} |")
    heads = [f"{title}, {side} px: windows/s | {SIDE:,}³: minutes" for title, _, _, side in both]
    print(f"\n| | | {' | '.join(heads)} |\n|{'---|' * 6}")
    for card, arithmetic in itertools.product(CARDS, ARITHMETICS):
        cells = []
        for (_, _, batch, side), operators, pixels in zip(both, counted[arithmetic], whole, strict=True):
            most = [batch / find(operators, card, arithmetic.peak) for find in (expected, limit)]
            minutes = [pixels / side**2 / each / 60 for each in most]
            cells.append(f"{most[0]:.0f} ({most[1]:.0f}) | {minutes[0]:.1f} ({minutes[1]:.1f})")
        print(f"| {card.name} | {arithmetic.name} | {' | '.join(cells)} |")


if __name__ == "__main__":
    fire.Fire(main)
