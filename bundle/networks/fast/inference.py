"""The door for inference: layers of a trained generator replaced by others that a CPU computes faster."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from bundle.networks.fast import half_inference as half  # noqa: F401  what is behind this door besides
from bundle.networks.fast.columns import FEW_CHANNELS, add_columns, by_column
from bundle.networks.fast.winograd import InstanceNorm, WinogradConv2d

LEAST_CHANNELS = 32  # of input and output, from which Winograd pays here


class NarrowConv2d(nn.Module):
    """A convolution to few channels: one with its columns as channels, whose results are then shifted and added.

    Args:
        convolution: what it replaces, of stride 1 and without padding.
    """

    weight: Tensor
    bias: Tensor

    def __init__(self, convolution: nn.Conv2d) -> None:
        super().__init__()
        weight = convolution.weight.detach()
        self.channels, self.columns = weight.shape[0], weight.shape[3]
        self.register_buffer("weight", by_column(weight).contiguous(memory_format=torch.channels_last))
        bias = torch.zeros(self.channels) if convolution.bias is None else convolution.bias.detach()
        self.register_buffer("bias", bias.clone()[:, None, None])

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) → (B, C', H', W')."""
        return add_columns(F.conv2d(x, self.weight), self.columns, self.channels) + self.bias


def _padding(convolution: nn.Conv2d) -> str | None:
    """``none`` or ``zeros``, where :class:`WinogradConv2d` can replace a convolution and that pays; else None."""
    kind = (convolution.kernel_size, convolution.stride, convolution.dilation, convolution.groups)
    if kind != ((3, 3), (1, 1), (1, 1), 1) or convolution.padding_mode != "zeros":
        return None
    if min(convolution.in_channels, convolution.out_channels) < LEAST_CHANNELS:
        return None
    return {(0, 0): "none", (1, 1): "zeros"}.get(convolution.padding)  # type: ignore[arg-type]


def is_narrow(convolution: nn.Conv2d) -> bool:
    """Whether :class:`NarrowConv2d` can replace it and that pays."""
    kind = (convolution.stride, convolution.dilation, convolution.groups, convolution.padding)
    wide = convolution.kernel_size[1] > 3 and convolution.in_channels >= LEAST_CHANNELS
    return kind == ((1, 1), (1, 1), 1, (0, 0)) and wide and convolution.out_channels <= FEW_CHANNELS


def _replacement(convolution: nn.Conv2d, before: nn.Module | None, tile: int) -> tuple[nn.Module, bool]:
    """What computes the same faster, and whether it does the work of the module before it too."""
    padding = _padding(convolution)
    if padding is None:
        return (NarrowConv2d(convolution) if is_narrow(convolution) else convolution), False
    if padding == "none" and isinstance(before, nn.ReflectionPad2d) and before.padding == (1, 1, 1, 1):
        return WinogradConv2d(convolution, tile, "reflect"), True
    if isinstance(before, nn.Upsample) and before.mode == "nearest" and before.scale_factor == 2.0:
        return WinogradConv2d(convolution, tile, padding, scale=2), True
    return WinogradConv2d(convolution, tile, padding), False


def with_winograd(network: nn.Module, tile: int) -> nn.Module:
    """Replace the layers of a network on the CPU that others can compute faster, in place.

    Args:
        network: any module; only in an ``nn.Sequential`` are layers joined to the one before or after them.
        tile: of :class:`WinogradConv2d`.

    Returns:
        The same module.
    """
    for parent in list(network.modules()):
        layers = list(parent.named_children())
        around: list[tuple[str, nn.Module | None]] = [("", None), *layers, ("", None)]
        for place, (name, child) in enumerate(layers):
            in_order = isinstance(parent, nn.Sequential)
            (before, earlier), (after, later) = around[place], around[place + 2]
            if isinstance(child, nn.Conv2d):
                new, joined = _replacement(child, earlier if in_order else None, tile)
                setattr(parent, name, new)
                if joined:
                    setattr(parent, before, nn.Identity())
            elif isinstance(child, nn.GroupNorm) and child.num_groups == child.num_channels and not child.affine:
                relu = in_order and isinstance(later, nn.ReLU)
                setattr(parent, name, InstanceNorm(child, relu))
                if relu:
                    setattr(parent, after, nn.Identity())
    return network
