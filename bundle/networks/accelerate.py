"""A trained generator made fast for staining, without another function: channels-last, Winograd, half precision.

On a CPU one window is computed by one thread, and a batch of windows by as many as PyTorch may use. No thread waits
for another within a layer, and a window's result depends neither on the batch it is in nor on the number of threads.
"""

from __future__ import annotations

import copy
import logging

import torch
from torch import Tensor, nn

from bundle.common.errors import InputError
from bundle.common.trained_bundle import SPEEDS
from bundle.networks import score
from bundle.networks.halo import rounded_alike
from bundle.networks.threads import share_out

try:
    from bundle.networks.fast import inference as fast
except ModuleNotFoundError as error:
    if not (error.name or "").startswith("bundle.networks.fast"):
        raise
    fast = None  # type: ignore[assignment]

logger = logging.getLogger("bundle")

LARGEST_WINDOW = 512 * 512  # px that one thread computes alone; all share a larger image


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


class Accelerated(nn.Module):
    """A network for inference only, see :func:`accelerate`.

    Args:
        network: in fp32.
        arithmetic: how it computes, and why so: one line.
        half: the same in half precision, with which to try first.
    """

    def __init__(self, network: nn.Module, arithmetic: str, half: nn.Module | None = None) -> None:
        super().__init__()
        self.network, self.half_network, self.arithmetic = network, half, arithmetic
        self.overflowed = False

    @torch.no_grad()
    def forward(self, x: Tensor) -> Tensor:
        """Translate images.

        Args:
            x: (B, C, H, W) in [−1, 1].

        Returns:
            (B, C', H, W), fp32; each image the same whatever is in the batch with it (on the CPU).
        """
        x = x.as_subclass(Tensor)  # MONAI's meta data would be copied at each layer
        if x.device.type != "cpu" or x.shape[-2] * x.shape[-1] > LARGEST_WINDOW:
            return self._translate(x)
        return torch.cat(share_out(self._translate, list(x.split(1))))

    def _translate(self, x: Tensor) -> Tensor:
        x = x.contiguous(memory_format=torch.channels_last)
        with torch.backends.cudnn.flags(enabled=True, deterministic=True, allow_tf32=False):
            if self.half_network is None:
                return self.network(x)
            y = self.half_network(x)
            lost = ~torch.isfinite(y).flatten(1).all(1)
            if lost.any():
                self._warn()
                y[lost] = self.network(x[lost])
            return y

    def _warn(self) -> None:
        if not self.overflowed:
            logger.warning("values overflow in fp16; windows where they do are computed again in fp32.")
        self.overflowed = True


class Unchanged(nn.Module):
    """A network as it is, image by image on the CPU: what MONAI alone computes with windows one at a time.

    Args:
        network: in fp32.
    """

    arithmetic = "fp32, PyTorch's own layers"

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    @torch.no_grad()
    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) → (B, C', H, W), fp32."""
        x = x.as_subclass(Tensor)
        return torch.cat([self.network(image) for image in (x.split(1) if x.device.type == "cpu" else [x])])


def cpu_has_half() -> bool:
    """Whether this CPU computes in fp16 (AVX512-FP16 or AMX); others emulate it, 100 times slower than fp32."""
    return torch.backends.mkldnn.is_available() and torch.ops.mkldnn._is_mkldnn_fp16_supported()


def cpu_has_bf16() -> bool:
    """Whether this CPU computes in bf16 (AVX512-BF16 or AMX)."""
    return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()


def accelerate(network: nn.Module, speed: str = "exact", device: str | torch.device = "cpu") -> Accelerated | Unchanged:
    """The same function, faster.

    ``exact`` is fp32 throughout; on the CPU with 3×3 convolutions by Winograd F(4×4, 3×3). ``fast`` is fp16 where
    the hardware has it (images that overflow are computed again in fp32), else fp32 with Winograd F(6×6, 3×3).
    ``preview`` computes as ``fast`` does; its windows are further apart. ``stock`` leaves the network as it is: to the
    bit what MONAI gives where this repository's code is not installed (``configs/series.json``).

    Without ``bundle/networks/fast/``, whose Winograd it is, ``exact`` is PyTorch's own fp32, and ``fast`` and
    ``preview`` are refused where they would be Winograd.

    A network with a ``halo`` is to give the same bytes in windows of any size. Winograd's tiles round a pixel by what
    lies beside it, so it has none; where the CPU has bf16 but no fp16, ``fast`` is bf16.

    Args:
        network: a generator, which stays as it is; a copy is made.
        speed: one of ``SPEEDS``.
        device: where to compute.

    Returns:
        The network for inference; its ``arithmetic`` says in one line what was chosen, and why.

    Raises:
        InputError: if ``speed`` is unknown, or not to be had.
    """
    if speed not in SPEEDS:
        raise InputError(f"speed is {speed!r}; it must be one of {', '.join(SPEEDS)}.")
    device = torch.device(device)
    if speed == "stock":
        return Unchanged(network.to(device).eval())
    own = copy.deepcopy(network).to(device).eval().requires_grad_(False).to(memory_format=torch.channels_last)
    has_halo = hasattr(network, "halo")
    if has_halo and device.type == "cpu":
        own = rounded_alike(own)
    if speed != "exact" and device.type == "cuda":
        return Accelerated(own, "fp16 autocast, channels-last", Autocast(own, torch.float16))
    if speed != "exact" and device.type == "cpu" and cpu_has_half():
        return Accelerated(own, "fp16 weights and activations, channels-last", HalfWeights(own))
    if has_halo and speed != "exact" and device.type == "cpu" and cpu_has_bf16():
        return Accelerated(own, "bf16 weights and activations, channels-last", HalfWeights(own, torch.bfloat16))
    if has_halo or device.type != "cpu":
        return Accelerated(own, "fp32, channels-last")
    if fast is None:
        if speed != "exact":
            raise InputError(
                f"speed is {speed!r}; this CPU needs bundle/networks/fast for it, which is missing; use exact."
            )
        return Accelerated(own, "fp32, channels-last, without bundle/networks/fast, which is missing")
    own, tile = fast.with_winograd(own, fast.TILES[speed]), fast.TILES[speed]
    replaced = sum(isinstance(module, fast.WinogradConv2d) for module in own.modules())
    arithmetic = f"fp32, channels-last, {replaced} convolutions by Winograd F({tile}×{tile}, 3×3)"
    return Accelerated(own, arithmetic if speed == "exact" else f"{arithmetic}, as this CPU has no fp16 arithmetic")
