"""The arithmetics in which a trained generator can compute, by name, each a module that does what the network does."""

from __future__ import annotations

import copy
import logging

import torch
from torch import Tensor, nn

from bundle.common.lazily import lazily
from bundle.networks import score
from bundle.networks.halo import rounded_alike

fast = lazily("bundle.networks.fast.inference")  # which loads a compiler, so not before it is used; None if missing

logger = logging.getLogger("bundle")

FP16 = "fp16 weights and activations, channels-last"
TILES = {"winograd_fp32": 4, "winograd6_fp32": 6}  # px a side that Winograd computes at once


class HalfWeights(nn.Module):
    """A network in half precision altogether.

    Args:
        network: a copy is made.
        dtype: ``torch.float16`` or ``torch.bfloat16``.
    """

    def __init__(self, network: nn.Module, dtype: torch.dtype = torch.float16) -> None:
        super().__init__()
        self.network, self.dtype = copy.deepcopy(network).to(dtype), dtype

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) → (B, C', H', W'), fp32."""
        return self.network(x.to(self.dtype)).float()


class Autocast(nn.Module):
    """A network in half precision where PyTorch's autocast chooses it, channels-last.

    Args:
        network: its parameters are used; what it gives is a tensor, or a list with one at the end.
        dtype: ``torch.float16`` or ``torch.bfloat16``.
    """

    def __init__(self, network: nn.Module, dtype: torch.dtype) -> None:
        super().__init__()
        self.network, self.dtype = network.to(memory_format=torch.channels_last), dtype

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) → (B, C', H', W'), fp32."""
        with torch.autocast(x.device.type, dtype=self.dtype):
            return score(self.network, x.contiguous(memory_format=torch.channels_last)).float()


class Overflowing(nn.Module):
    """A network in fp16, and in fp32 for the images of which values overflow.

    Args:
        half: in fp16.
        network: in fp32.
    """

    def __init__(self, half: nn.Module, network: nn.Module) -> None:
        super().__init__()
        self.half_network, self.network, self.overflowed = half, network, False

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) → (B, C', H', W'), fp32."""
        y = self.half_network(x)
        lost = ~torch.isfinite(y).flatten(1).all(1)
        if lost.any():
            if not self.overflowed:
                logger.warning("values overflow in fp16; windows where they do are computed again in fp32.")
            self.overflowed = True
            y[lost] = self.network(x[lost])
        return y


def cpu_has_half() -> bool:
    """Whether this CPU computes in fp16 (AVX512-FP16 or AMX); others emulate it, 100 times slower than fp32."""
    return torch.backends.mkldnn.is_available() and torch.ops.mkldnn._is_mkldnn_fp16_supported()


def cpu_has_bf16() -> bool:
    """Whether this CPU computes in bf16 (AVX512-BF16 or AMX)."""
    has = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return has and torch.backends.mkldnn.is_available()


def plain(network: nn.Module, device: torch.device) -> nn.Module:
    """A copy for inference in fp32 by PyTorch's own layers, channels-last."""
    own = copy.deepcopy(network).to(device).eval().requires_grad_(False).to(memory_format=torch.channels_last)
    return rounded_alike(own) if hasattr(network, "halo") and device.type == "cpu" else own


def engines(network: nn.Module, device: torch.device) -> list[str]:
    """The names of the arithmetics that a network can have on a device.

    A network with a ``halo`` is to give the same bytes in windows of any size. Winograd's tiles round a pixel by what
    lies beside it, so it has none.
    """
    if device.type == "cuda":
        return ["fp32", "fp16", "autocast", "bf16", "compiled"]
    if device.type != "cpu":
        return ["fp32"]
    winograd = fast is not None and not hasattr(network, "halo")
    names = ["fp32", *(["winograd_fp32", "winograd6_fp32"] if winograd else [])]
    if cpu_has_bf16():
        names += ["bf16", *(["winograd_bf16"] if winograd else [])]
    return [*names, *(["fp16"] if cpu_has_half() else [])]


def engine(name: str, network: nn.Module, device: torch.device) -> nn.Module:
    """A network with an arithmetic.

    Args:
        name: one of :func:`engines`.
        network: a generator, which stays as it is.
        device: where it computes.

    Returns:
        (B, C, H, W), channels-last → (B, C', H, W), fp32; its ``arithmetic`` says in one line how.
    """
    own = plain(network, device)
    made, line = _cuda(name, own) if device.type == "cuda" else _cpu(name, own)
    made.arithmetic = line  # type: ignore[assignment]
    return made


def _cuda(name: str, own: nn.Module) -> tuple[nn.Module, str]:
    if name == "fp32":
        return own, "fp32, channels-last"
    if name == "bf16":
        return Autocast(own, torch.bfloat16), "bf16 autocast, channels-last"
    if name == "compiled":
        half = Autocast(torch.compile(own), torch.float16)  # type: ignore[arg-type]
        return Overflowing(half, own), "fp16 autocast through torch.compile, channels-last"
    if name == "autocast":
        return Overflowing(Autocast(own, torch.float16), own), "fp16 autocast, channels-last"
    return Overflowing(HalfWeights(own), own), FP16


def _cpu(name: str, own: nn.Module) -> tuple[nn.Module, str]:
    if name == "fp32":
        without = ", without bundle/networks/fast, which is missing" if fast is None else ""
        return own, f"fp32, channels-last{without}"
    if name in TILES:
        own, tile = fast.with_winograd(own, TILES[name]), TILES[name]
        number = sum(isinstance(module, fast.WinogradConv2d) for module in own.modules())
        return own, f"fp32, channels-last, {number} convolutions by Winograd F({tile}×{tile}, 3×3)"
    if name == "fp16":
        return Overflowing(HalfWeights(own), own), FP16
    if fast is None or hasattr(own, "halo"):
        return HalfWeights(own, torch.bfloat16), "bf16 weights and activations, channels-last"
    made = fast.half.Half(own, name == "winograd_bf16")
    number = sum(isinstance(module, fast.half.HalfWinograd2d) for module in made.modules())
    winograd = f", {number} convolutions by Winograd F(4×4, 3×3)" if number else ""
    return made, f"bf16, offsets in fp32, channels-last{winograd}"
