"""Twins: copies of a network that have its very weights and compute with faster arithmetic, for training on the CPU."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from bundle.networks.fast.columns import add_columns, by_column
from bundle.networks.fast.inference import is_narrow
from bundle.networks.fast.instance_norm import NormFunction
from bundle.networks.fast.winograd_gradients import TransformedWeight, WinogradFunction, is_suited
from bundle.networks.layers import is_instance_norm
from bundle.networks.shifted_norm import copied


class Derived(nn.Module):
    """A layer that computes with something made of its weight, which is made once for all threads and calls of a step.

    Attributes:
        weight: the network's own parameter.
        current: what :meth:`derive` made of it; to be set before the layer is called.
    """

    weight: Tensor
    bias: Tensor | None
    current: Tensor

    def __init__(self, convolution: nn.Conv2d | nn.ConvTranspose2d, dtype: torch.dtype) -> None:
        super().__init__()
        self.register_parameter("weight", convolution.weight)  # type: ignore[arg-type]
        self.register_parameter("bias", convolution.bias)  # type: ignore[arg-type]
        self.dtype = dtype

    def derive(self) -> Tensor:
        """A tensor to compute with; differentiable with respect to the weight."""
        raise NotImplementedError


class TwinConvolution(Derived):
    """A convolution, transposed or not, in another type."""

    def __init__(self, convolution: nn.Conv2d | nn.ConvTranspose2d, dtype: torch.dtype) -> None:
        super().__init__(convolution, dtype)
        stride, padding, dilation = convolution.stride, convolution.padding, convolution.dilation
        groups = convolution.groups
        if isinstance(convolution, nn.ConvTranspose2d):
            self.call: Callable = F.conv_transpose2d
            self.rest: tuple = (stride, padding, convolution.output_padding, groups, dilation)
        else:
            self.call, self.rest = F.conv2d, (stride, padding, dilation, groups)

    def derive(self) -> Tensor:
        """The weight in the type of the images."""
        return self.weight.to(self.dtype, memory_format=torch.channels_last)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) → (B, C', H', W')."""
        bias = None if self.bias is None else self.bias.to(x.dtype)
        return self.call(x, self.current, bias, *self.rest)


class MatrixConvolution(TwinConvolution):
    """A convolution in bf16 whose weight gradient is one matrix product for each tap; fast where a CPU has AMX."""

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) → (B, C', H', W')."""
        stride, padding = self.rest[:2]
        y = TapsFunction.apply(x, self.current, stride, padding)
        return y if self.bias is None else y + self.bias.to(y.dtype).view(-1, 1, 1)


class TapsFunction(torch.autograd.Function):
    """conv2d whose weight gradient is a matrix product for each tap of the kernel, without dilation and groups."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, stride: tuple, padding: tuple) -> Tensor:  # noqa: D102
        ctx.save_for_backward(x, weight)
        ctx.stride, ctx.padding = stride, padding
        return F.conv2d(x, weight, None, stride, padding)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]  # noqa: D102
        x, weight = ctx.saved_tensors
        for_x = for_weight = None
        if ctx.needs_input_grad[0]:
            rest = (None, ctx.stride, ctx.padding, (1, 1), False, (0, 0), 1, (True, False, False))
            for_x = torch.ops.aten.convolution_backward(gradient, x, weight, *rest)[0]
        if ctx.needs_input_grad[1]:
            (down, right), (height, width) = ctx.stride, gradient.shape[2:]
            padded = F.pad(x, (ctx.padding[1],) * 2 + (ctx.padding[0],) * 2)
            outputs = gradient.permute(0, 2, 3, 1).reshape(-1, gradient.shape[1])
            for_weight = torch.empty_like(weight, dtype=torch.float32)
            for row in range(weight.shape[2]):
                for column in range(weight.shape[3]):
                    seen = padded[:, :, row::down, column::right][:, :, :height, :width]
                    inputs = seen.permute(0, 2, 3, 1).reshape(-1, x.shape[1])
                    for_weight[:, :, row, column] = outputs.T @ inputs
        return for_x, for_weight, None, None


class TwinWinograd(Derived):
    """A 3×3 convolution by Winograd's minimal filtering, with the padding or enlargement before it."""

    def __init__(self, convolution: nn.Conv2d, dtype: torch.dtype, padding: str, scale: int) -> None:
        super().__init__(convolution, dtype)
        self.padding, self.scale = padding, scale

    def derive(self) -> Tensor:
        """The weight in the domain of the products."""
        return TransformedWeight.apply(self.weight, self.dtype)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) → (B, C', H', W')."""
        bias = x.new_zeros(self.weight.shape[0], dtype=torch.float32) if self.bias is None else self.bias
        return WinogradFunction.apply(x, self.current, bias, self.padding, self.scale)


class TwinNarrow(Derived):
    """A convolution to few channels, see :class:`bundle.networks.fast.inference.NarrowConv2d`; its output is fp32."""

    def derive(self) -> Tensor:
        """The weight with its columns as channels."""
        return by_column(self.weight).to(self.dtype, memory_format=torch.channels_last)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) → (B, C', H', W')."""
        out = add_columns(F.conv2d(x, self.current).float(), self.weight.shape[3], self.weight.shape[0])
        return out if self.bias is None else out + self.bias[:, None, None]


class TwinEnlarged(Derived):
    """Enlargement and the 4×4 convolution after it, as a 3×3 one of the small image for each of four pixels.

    A pixel's sixteen neighbours are copies of at most nine; the weights of equal ones are added first. Its output is
    fp32.
    """

    def derive(self) -> Tensor:
        """The sums of the weights, (4 C', C, 3, 3)."""
        by_row = _of_three(self.weight, 2, 1)
        return _of_three(by_row, 4, 2).flatten(0, 2).to(self.dtype, memory_format=torch.channels_last)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) → (B, C', 2H, 2W)."""
        y = F.pixel_shuffle(F.conv2d(x, self.current, padding=1).float(), 2)
        return y if self.bias is None else y + self.bias[:, None, None]


def _of_three(weight: Tensor, axis: int, parity: int) -> Tensor:
    """Sum an axis of four that lies on an image of twice the size to the three pixels below, for even and odd places.

    Additions alone, which keep nothing for their gradients, so that several passes may share what is made.
    """
    a, b, c, d = weight.unbind(axis)
    even, odd = torch.stack([a + b, c + d, torch.zeros_like(a)], axis), torch.stack([a, b + c, d], axis)
    return torch.stack([even, odd], parity)


class TwinNorm(nn.Module):
    """Instance norm, and the ReLU after it.

    Args:
        eps: added to the variance.
        slope: of what is negative; 1 if no ReLU follows.
    """

    def __init__(self, eps: float, slope: float) -> None:
        super().__init__()
        self.eps, self.slope = eps, slope

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) → the same."""
        return NormFunction.apply(x, self.eps, self.slope)


class TwinDropout(nn.Module):
    """Dropout whose draws are its thread's own, so that they depend on no other thread.

    Args:
        p: share of the values that become 0.
    """

    draws = threading.local()

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        """(…) → the same; ``draws.generator`` of this thread must be set."""
        kept = torch.rand(x.shape, generator=self.draws.generator) >= self.p
        return x * (kept / (1 - self.p)).to(x.dtype)


def make_twin(network: nn.Module, dtype: torch.dtype, winograd: bool, taps: bool = False) -> nn.Module:
    """A network's twin for one thread on the CPU; modules it does not know stay what they are.

    Args:
        network: its parameters are the twin's.
        dtype: of images, ``torch.bfloat16`` or ``torch.float32``.
        winograd: compute suited 3×3 convolutions by Winograd's minimal filtering.
        taps: compute weight gradients of other convolutions as a matrix product for each tap.

    Returns:
        A module whose layers of type :class:`Derived` need their ``current`` before it is called.
    """
    twin = copied(network)
    for parent in list(twin.modules()):
        if isinstance(parent, nn.Sequential):
            _join_enlarged(parent, dtype)
            _join(parent, dtype, winograd)
        for name, child in list(parent.named_children()):
            replaced = _replacement(child, dtype, winograd, taps)
            if replaced is not child:
                setattr(parent, name, replaced)
    return twin.train()


def _replacement(layer: nn.Module, dtype: torch.dtype, winograd: bool, taps: bool) -> nn.Module:
    """What computes the same as a layer alone."""
    if isinstance(layer, nn.Conv2d) and layer.padding_mode == "zeros" and not isinstance(layer.padding, str):
        if winograd and is_suited(layer):
            return TwinWinograd(layer, dtype, "zeros" if layer.padding == (1, 1) else "none", 1)
        if is_narrow(layer):
            return TwinNarrow(layer, dtype)
        plain = layer.groups == 1 and layer.dilation == (1, 1)
        return MatrixConvolution(layer, dtype) if taps and plain else TwinConvolution(layer, dtype)
    if isinstance(layer, nn.ConvTranspose2d):
        return TwinConvolution(layer, dtype)
    if isinstance(layer, nn.Dropout) and layer.p:
        return TwinDropout(layer.p)
    return TwinNorm(float(layer.eps), 1.0) if is_instance_norm(layer) else layer  # type: ignore[arg-type]


def _join(layers: nn.Sequential, dtype: torch.dtype, winograd: bool) -> None:
    """Replace pairs of layers that one computes: padding or enlargement with its convolution, norm with its ReLU."""
    names = [name for name, layer in layers.named_children() if not _does_nothing(layer)]
    for name, following in zip(names, names[1:], strict=False):
        first, second = layers.get_submodule(name), layers.get_submodule(following)
        joined: nn.Module | None = None
        if is_instance_norm(first) and isinstance(second, (nn.ReLU, nn.LeakyReLU)):
            joined = TwinNorm(float(first.eps), getattr(second, "negative_slope", 0.0))  # type: ignore[arg-type]
        elif winograd and isinstance(second, nn.Conv2d) and is_suited(second):
            reflected = isinstance(first, nn.ReflectionPad2d) and first.padding == (1, 1, 1, 1)
            if reflected and second.padding == (0, 0):
                joined = TwinWinograd(second, dtype, "reflect", 1)
            elif _is_doubling(first):
                joined = TwinWinograd(second, dtype, "zeros" if second.padding == (1, 1) else "none", 2)
        if joined is not None:
            setattr(layers, name, joined)
            setattr(layers, following, nn.Identity())


def _join_enlarged(layers: nn.Sequential, dtype: torch.dtype) -> None:
    """Replace the last convolution of the U-Net and what is before it: enlargement and a row and column of zeros."""
    names = [name for name, _ in layers.named_children()]
    for first, second, third in zip(names, names[1:], names[2:], strict=False):
        enlargement, zeros, last = (layers.get_submodule(name) for name in (first, second, third))
        if _is_doubling(enlargement) and isinstance(zeros, nn.ZeroPad2d) and isinstance(last, nn.Conv2d):
            shape = (last.kernel_size, last.stride, last.padding, last.dilation, last.groups)
            if zeros.padding == (1, 0, 1, 0) and shape == ((4, 4), (1, 1), (1, 1), (1, 1), 1):
                setattr(layers, first, nn.Identity())
                setattr(layers, second, nn.Identity())
                setattr(layers, third, TwinEnlarged(last, dtype))


def _is_doubling(layer: nn.Module) -> bool:
    return isinstance(layer, nn.Upsample) and layer.mode == "nearest" and layer.scale_factor == 2.0


def _does_nothing(layer: nn.Module) -> bool:
    return isinstance(layer, nn.Identity) or (isinstance(layer, nn.Dropout) and layer.p == 0)
