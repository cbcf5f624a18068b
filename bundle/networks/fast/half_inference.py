"""Layers of a trained generator in bf16 for inference on the CPU: offsets stay fp32, and ReLU comes in the same pass.

Rounding a convolution's offset to bf16 shifts a whole channel, which nothing takes back where norms have given
statistics: it doubled the largest error of a stain (docs/performance.md). oneDNN takes offsets in fp32 beside images in
bf16, which ``torch.conv2d`` does not.
"""

from __future__ import annotations

import copy

import numpy as np
import torch
from torch import Tensor, nn

from bundle.networks.fast.bf16_rows import kernel, load, rows_of, words
from bundle.networks.fast.columns import FEW_CHANNELS, by_column
from bundle.networks.fast.half_norm import HalfNorm
from bundle.networks.fast.winograd import BLOCK_TILES, tile_indices
from bundle.networks.fast.winograd_gradients import SIZE, TILE, gather, scatter, weight_matrix
from bundle.networks.layers import is_instance_norm

WINOGRAD_CHANNELS = 96  # of input and output, from which Winograd pays beside bf16's own convolution

f32 = np.float32


def offset_of(convolution: nn.Conv2d) -> Tensor:
    """(C'), fp32; 0 where a convolution has none."""
    return torch.zeros(convolution.out_channels) if convolution.bias is None else convolution.bias.detach().clone()


def convolved(x: Tensor, weight: Tensor, offset: Tensor, convolution: tuple, relu: bool) -> Tensor:
    """A convolution in bf16 by oneDNN, its offset in fp32, and ReLU if asked for."""
    after = "relu" if relu else "none"
    return torch.ops.mkldnn._convolution_pointwise(x, weight, offset, *convolution, after, [], "")


class HalfConv2d(nn.Module):
    """A convolution, and the ReLU after it.

    Args:
        layer: what it replaces.
        relu: whether negative values become 0.
    """

    weight: Tensor
    offset: Tensor

    def __init__(self, layer: nn.Conv2d, relu: bool = False) -> None:
        super().__init__()
        self.relu = relu
        self.how = tuple(list(each) for each in (layer.padding, layer.stride, layer.dilation))  # type: ignore[arg-type]
        self.groups = layer.groups
        weight = layer.weight.detach().to(torch.bfloat16, memory_format=torch.channels_last)
        self.register_buffer("weight", weight)
        self.register_buffer("offset", offset_of(layer))

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) → (B, C', H', W')."""
        return convolved(x, self.weight, self.offset, (*self.how, self.groups), self.relu)


class DoublingConv2d(nn.Module):
    """A 3×3 convolution after an enlargement to twice the size by nearest neighbour, and the ReLU after it.

    Each pixel of the small image is seen up to four times by a kernel, whose taps can be added beforehand: each of the
    four pixels that it becomes is a 2×2 convolution of the small image, with less than half the multiplications.

    Args:
        layer: the convolution, of stride 1, padded by 1 px of 0.
        relu: whether negative values become 0.
    """

    weight: Tensor
    offset: Tensor

    def __init__(self, layer: nn.Conv2d, relu: bool = False) -> None:
        super().__init__()
        self.relu, self.channels = relu, layer.out_channels
        full = layer.weight.detach()
        first = torch.tensor([[1.0, 0, 0], [0, 1, 1]])  # taps of the row above and of its own, for the upper pixel
        second = torch.tensor([[1.0, 1, 0], [0, 0, 1]])  # of its own and of the row below, for the lower
        parts = [
            torch.einsum("iu,jv,ocuv->ocij", down, across, full)
            for down in (first, second)
            for across in (first, second)
        ]
        weight = torch.cat(parts).to(torch.bfloat16, memory_format=torch.channels_last)
        self.register_buffer("weight", weight)
        self.register_buffer("offset", offset_of(layer).repeat(4))

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) → (B, C', 2 H, 2 W)."""
        height, width = x.shape[2:]
        made = convolved(x, self.weight, self.offset, ([1, 1], [1, 1], [1, 1], 1), self.relu)
        rows = rows_of(made)
        out = x.new_empty(len(x), height, 2, width, 2, self.channels)
        for number in range(4):
            down, across = divmod(number, 2)
            part = rows[:, down : down + height, across : across + width]
            out[:, :, down, :, across] = part[..., number * self.channels : (number + 1) * self.channels]
        return out.view(len(x), 2 * height, 2 * width, self.channels).permute(0, 3, 1, 2)


@kernel
def add_half_columns(parts: np.ndarray, offset: np.ndarray, out: np.ndarray) -> None:
    """(H, W + n − 1, n C), bf16 → (C, H, W), fp32: column by column shifted and added."""
    channels, height, width = out.shape
    columns = parts.shape[2] // channels
    pixel = np.empty((1, parts.shape[2]), f32)
    line, bits = pixel[0], pixel.view(np.uint32)[0]
    planes = np.empty((parts.shape[2], parts.shape[1]), f32)
    for y in range(height):
        for x in range(parts.shape[1]):
            load(parts[y, x], line, bits)
            for k in range(len(line)):
                planes[k, x] = line[k]
        for c in range(channels):
            row = out[c, y]
            row[:] = offset[c]
            for column in range(columns):
                part = planes[column * channels + c, column : column + width]
                for x in range(width):
                    row[x] += part[x]


class HalfNarrowConv2d(nn.Module):
    """:class:`bundle.networks.fast.inference.NarrowConv2d` in bf16, whose results are added in fp32.

    Args:
        layer: what it replaces, of stride 1 and without padding.
    """

    weight: Tensor
    offset: Tensor

    def __init__(self, layer: nn.Conv2d) -> None:
        super().__init__()
        self.channels = layer.out_channels
        weight = by_column(layer.weight.detach())
        self.register_buffer("weight", weight.to(torch.bfloat16, memory_format=torch.channels_last))
        self.register_buffer("none", torch.zeros(len(weight)))
        self.register_buffer("offset", offset_of(layer))
        self.columns = layer.kernel_size[1]

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) → (B, C', H', W'), fp32."""
        parts = rows_of(convolved(x, self.weight, self.none, ([0, 0], [1, 1], [1, 1], 1), False))  # type: ignore[arg-type]
        out = torch.empty(len(x), self.channels, parts.shape[1], parts.shape[2] - self.columns + 1)
        for image, place in zip(words(parts), out.numpy(), strict=True):
            add_half_columns(image, self.offset.numpy(), place)
        return out


class HalfWinograd2d(nn.Module):
    """A 3×3 convolution of stride 1 by Winograd's minimal filtering F(4×4, 3×3), block by block, by one thread.

    Args:
        layer: what it replaces.
        padding: ``none``, ``zeros`` or ``reflect``, of 1 px.
        relu: whether negative values become 0.
    """

    weight: Tensor
    offset: Tensor

    def __init__(self, layer: nn.Conv2d, padding: str, relu: bool = False) -> None:
        super().__init__()
        self.padding, self.relu = padding, relu
        flat = layer.weight.detach().permute(2, 3, 1, 0).reshape(9, -1)
        weight = (weight_matrix() @ flat).view(SIZE**2, layer.in_channels, layer.out_channels)
        self.register_buffer("weight", weight.to(torch.bfloat16))
        self.register_buffer("offset", offset_of(layer))

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) → (B, C', H', W')."""
        rows, columns = (tile_indices(side, TILE, self.padding, 1) for side in x.shape[2:])
        height, width = (side - 2 * (self.padding == "none") for side in x.shape[2:])
        out = x.new_empty(len(x), height, width, self.weight.shape[2])
        step = max(1, BLOCK_TILES // len(columns))
        factors = x.new_empty(SIZE**2, step * len(columns), x.shape[1])
        products = x.new_empty(SIZE**2, step * len(columns), self.weight.shape[2])
        for image, place in zip(words(rows_of(x)), words(out), strict=True):
            for first in range(0, len(rows), step):
                part = rows[first : first + step]
                tiles = len(part) * len(columns)
                gather(image, part, columns, 0, words(factors))
                torch.bmm(factors[:, :tiles], self.weight, out=products[:, :tiles])
                scatter(words(products), self.offset.numpy(), 0, place[first * TILE : (first + len(part)) * TILE])
        made = out.permute(0, 3, 1, 2)
        return torch.relu_(made) if self.relu else made


class Half(nn.Module):
    """A generator in bf16, for inference on the CPU by one thread an image.

    Args:
        network: in fp32; stays as it is.
        winograd: compute wide 3×3 convolutions by Winograd's minimal filtering.
    """

    def __init__(self, network: nn.Module, winograd: bool) -> None:
        super().__init__()
        self.network = copy.deepcopy(network).eval().requires_grad_(False).to(torch.bfloat16)
        for path, parent in network.named_modules():
            own, layers = self.network.get_submodule(path), list(parent.named_children())
            in_order = isinstance(parent, nn.Sequential)
            for names, layer in _joined(layers, winograd) if in_order else _alone(layers, winograd):
                for name in names:
                    setattr(own, name, nn.Identity())
                setattr(own, names[-1], layer)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) → (B, C', H', W'), fp32."""
        return self.network(x.to(torch.bfloat16, memory_format=torch.channels_last)).float()


def has_wide(network: nn.Module) -> bool:
    """Whether Winograd would compute any of a network's convolutions."""
    half = Half(network, True)
    return any(isinstance(module, HalfWinograd2d) for module in half.modules())


Named = list[tuple[str, nn.Module]]
Found = list[tuple[list[str], nn.Module]]


def _alone(layers: Named, winograd: bool) -> Found:
    """What replaces layers that are called in no order known."""
    found = [([name], _replacement(layer, None, False, winograd)[0]) for name, layer in layers]
    return [(names, layer) for names, layer in found if layer is not None]


def _joined(layers: Named, winograd: bool) -> Found:
    """What replaces layers that follow each other: the names that one stands for, and that one."""
    layers = [(name, layer) for name, layer in layers if not isinstance(layer, nn.Identity)]
    around: list[tuple[str, nn.Module | None]] = [("", None), *layers, ("", None)]
    found: Found = []
    for place, (name, layer) in enumerate(layers):
        (before, earlier), (after, later) = around[place], around[place + 2]
        relu = type(later) is nn.ReLU
        new, joins = _replacement(layer, earlier, relu, winograd)
        if new is not None:
            takes = relu and getattr(new, "relu", getattr(new, "slope", 1.0) == 0.0)
            found.append(([*([before] if joins else []), *([after] if takes else []), name], new))
    return found


def _replacement(
    layer: nn.Module, before: nn.Module | None, relu: bool, winograd: bool
) -> tuple[nn.Module | None, bool]:
    """What computes the same, if anything does, and whether it does the work of the layer before it too."""
    if is_instance_norm(layer):
        return HalfNorm(float(layer.eps), relu, isinstance(before, nn.Conv2d)), False  # type: ignore[arg-type]
    if not isinstance(layer, nn.Conv2d) or layer.padding_mode != "zeros" or isinstance(layer.padding, str):
        return None, False
    plain = (layer.stride, layer.dilation, layer.groups) == ((1, 1), (1, 1), 1)
    if plain and layer.kernel_size == (3, 3) and layer.padding in ((0, 0), (1, 1)):
        doubles = isinstance(before, nn.Upsample) and (before.mode, before.scale_factor) == ("nearest", 2.0)
        if doubles and layer.padding == (1, 1):
            return DoublingConv2d(layer, relu), True
        if winograd and min(layer.in_channels, layer.out_channels) >= WINOGRAD_CHANNELS:
            reflects = isinstance(before, nn.ReflectionPad2d) and before.padding == (1, 1, 1, 1)
            if layer.padding == (0, 0) and reflects:
                return HalfWinograd2d(layer, "reflect", relu), True
            return HalfWinograd2d(layer, "zeros" if layer.padding == (1, 1) else "none", relu), False
    few = layer.out_channels <= min(FEW_CHANNELS, layer.in_channels)
    narrow = few and layer.kernel_size[1] > 3 and layer.padding == (0, 0)
    if plain and narrow:
        return HalfNarrowConv2d(layer), False
    return HalfConv2d(layer, relu), False
