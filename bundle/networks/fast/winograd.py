"""Convolutions by Winograd's minimal filtering on the CPU."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterable
from fractions import Fraction
from functools import cache
from typing import NamedTuple

import numpy as np
import torch
from numba import njit
from torch import Tensor, nn

from bundle.networks.fast.instance_norm import normalise
from bundle.networks.threads import share_out

POINTS = {2: "0 1 -1", 4: "0 1 -1 2 -2", 6: "0 1 -1 2 -2 1/2 -1/2"}  # Lavin & Gray 2016, and its usual extension
BLOCK_TILES = 256  # computed at once: 2 × 17 MB of workspace at 256 channels


class Transform(NamedTuple):
    """Matrices of a one-dimensional Winograd convolution, y = A [(G g) ⊙ (B d)]: (m, n), (n, 3) and (n, n)."""

    output: np.ndarray
    weight: np.ndarray
    input: np.ndarray


def _polynomial(roots: Iterable[Fraction]) -> list[Fraction]:
    """Coefficients of Π (x − root), the constant one first."""
    coefficients = [Fraction(1)]
    for root in roots:
        shifted, scaled = [Fraction(0), *coefficients], [*coefficients, Fraction(0)]
        coefficients = [high - root * low for high, low in zip(shifted, scaled, strict=True)]
    return coefficients


@cache
def winograd_transform(tile: int) -> Transform:
    """The transform F(m, 3) by Cook and Toom: m outputs of a 3-tap filter from m + 2 products.

    Lavin & Gray 2016 (arXiv 1509.09308), with the denominators on the side of the weights.

    Args:
        tile: m, a key of ``POINTS``.
    """
    points = [Fraction(point) for point in POINTS[tile].split()]
    size = tile + 2
    output, weight, data = np.zeros((tile, size)), np.zeros((size, 3)), np.zeros((size, size))
    for row, point in enumerate(points):
        others = [other for other in points if other != point]
        scale = math.prod(float(point - other) for other in others)
        output[:, row] = [float(point**power) for power in range(tile)]
        weight[row] = [float(point**power) / scale for power in range(3)]
        data[row, :-1] = [float(value) for value in _polynomial(others)]
    output[-1, -1] = weight[-1, -1] = 1.0  # the point at infinity
    data[-1] = [float(value) for value in _polynomial(points)]
    return Transform(output, weight, data)


@cache
def _kernels(tile: int) -> tuple[Callable, Callable]:
    """The transforms of tiles into the products' domain and back, compiled; both let other threads run."""
    transform = winograd_transform(tile)
    forward, backward = transform.input.astype(np.float32), transform.output.astype(np.float32)
    size, zero = tile + 2, np.float32(0)

    @njit(nogil=True, fastmath=True, cache=True)
    def gather(image: np.ndarray, rows: np.ndarray, columns: np.ndarray, out: np.ndarray) -> None:
        """(H, W, C) → (n², T, C); rows (Th, n) and columns (Tw, n) of each tile, −1 where it is 0.

        Lines go through small buffers: only then does the compiler use vectors.
        """
        channels = image.shape[2]
        column, line = np.empty((size, channels), np.float32), np.empty((size, channels), np.float32)
        half = np.empty((size, size, channels), np.float32)
        for number in range(len(rows) * len(columns)):
            y, x = number // len(columns), number % len(columns)
            for j in range(size):
                for i in range(size):
                    part = column[i]
                    if rows[y, i] < 0 or columns[x, j] < 0:
                        part[:] = zero
                    else:
                        pixel = image[rows[y, i], columns[x, j]]
                        for c in range(channels):
                            part[c] = pixel[c]
                for c in range(channels):
                    for a in range(size):
                        total = zero
                        for i in range(size):
                            total += forward[a, i] * column[i, c]
                        half[a, j, c] = total
            for a in range(size):
                row = half[a]
                for c in range(channels):
                    for b in range(size):
                        total = zero
                        for j in range(size):
                            total += forward[b, j] * row[j, c]
                        line[b, c] = total
                for b in range(size):
                    part, place = line[b], out[a * size + b, number]
                    for c in range(channels):
                        place[c] = part[c]

    @njit(nogil=True, fastmath=True, cache=True)
    def scatter(products: np.ndarray, bias: np.ndarray, top: int, out: np.ndarray) -> None:
        """(n², T, C) → rows of (H, W, C) from ``top`` on; what of a tile lies outside is dropped."""
        height, width, channels = out.shape
        across = (width + tile - 1) // tile
        half, line = np.empty((tile, size, channels), np.float32), np.empty((tile, channels), np.float32)
        for number in range(products.shape[1]):
            y, x = top + number // across * tile, number % across * tile
            for b in range(size):
                for c in range(channels):
                    for u in range(tile):
                        total = zero
                        for a in range(size):
                            total += backward[u, a] * products[a * size + b, number, c]
                        half[u, b, c] = total
            for u in range(min(tile, height - y)):
                row = half[u]
                for c in range(channels):
                    for v in range(tile):
                        total = bias[c]
                        for b in range(size):
                            total += backward[v, b] * row[b, c]
                        line[v, c] = total
                for v in range(min(tile, width - x)):
                    part, pixel = line[v], out[y + u, x + v]
                    for c in range(channels):
                        pixel[c] = part[c]

    return gather, scatter


class InstanceNorm(nn.GroupNorm):
    """Instance normalisation of channels-last images on the CPU, and ReLU if one follows.

    PyTorch's group norm is as fast, but for channels-last takes the variance as a difference of two large numbers:
    its error is twenty times larger.

    Args:
        norm: what it replaces, without a learnt scale.
        relu: whether negative values become 0.
    """

    def __init__(self, norm: nn.GroupNorm, relu: bool) -> None:
        super().__init__(norm.num_groups, norm.num_channels, norm.eps, affine=False)
        self.slope = 0.0 if relu else 1.0

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) → (B, C, H, W), channels last."""
        x = x.contiguous(memory_format=torch.channels_last)
        out = torch.empty_like(x)
        moments = np.empty((2, x.shape[1]), np.float32)
        for image, place in zip(x.permute(0, 2, 3, 1), out.permute(0, 2, 3, 1), strict=True):
            normalise(image.flatten(0, 1).numpy(), self.eps, self.slope, moments, place.flatten(0, 1).numpy())
        return out


def tile_indices(length: int, tile: int, padding: str, scale: int) -> np.ndarray:
    """Which pixels of a side each tile reads: (tiles, n), −1 for a zero.

    Args:
        length: of the side, px.
        tile: outputs of a tile.
        padding: ``none``, ``zeros`` or ``reflect``, of 1 px.
        scale: by how much the side is enlarged, by nearest neighbour, before it is padded.
    """
    inner = np.arange(length * scale) // scale
    if padding == "reflect":
        inner = np.pad(inner, 1, mode="reflect")
    elif padding == "zeros":
        inner = np.pad(inner, 1, constant_values=-1)
    tiles = -(-(len(inner) - 2) // tile)
    inner = np.pad(inner, (0, tiles * tile + 2 - len(inner)), constant_values=-1)
    return inner[np.arange(tiles)[:, None] * tile + np.arange(tile + 2)]


_own = threading.local()


def _workspace(number: int, shape: tuple[int, ...]) -> Tensor:
    """A buffer of this thread that is used again and again, as asking the system for memory each time costs more."""
    buffers = _own.__dict__.setdefault("buffers", {})
    size = int(np.prod(shape))
    if number not in buffers or len(buffers[number]) < size:
        with torch.inference_mode(False):  # what is made in that mode could not be written to outside of it
            buffers[number] = torch.empty(size)
    return buffers[number][:size].view(shape)


class WinogradConv2d(nn.Module):
    """A 3×3 convolution of stride 1 by Winograd's minimal filtering, on the CPU in fp32.

    Args:
        convolution: what it replaces.
        tile: outputs computed at once, a side; a key of ``POINTS``.
        padding: ``none``, ``zeros`` or ``reflect``, of 1 px.
        scale: 2 to enlarge by nearest neighbour first.
    """

    weight: Tensor
    bias: Tensor

    def __init__(self, convolution: nn.Conv2d, tile: int, padding: str, scale: int = 1) -> None:
        super().__init__()
        self.tile, self.padding, self.scale = tile, padding, scale
        matrix = torch.from_numpy(winograd_transform(tile).weight)
        weight = matrix @ convolution.weight.detach().double() @ matrix.T
        weight = weight.permute(2, 3, 1, 0).reshape(-1, convolution.in_channels, convolution.out_channels)
        bias = torch.zeros(convolution.out_channels) if convolution.bias is None else convolution.bias.detach()
        self.register_buffer("weight", weight.float().contiguous())
        self.register_buffer("bias", bias.clone())
        self.gather, self.scatter = _kernels(tile)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) → (B, C', H', W'), channels last."""
        x = x.contiguous(memory_format=torch.channels_last)
        rows, columns = (tile_indices(side, self.tile, self.padding, self.scale) for side in x.shape[2:])
        height, width = (side * self.scale - 2 * (self.padding == "none") for side in x.shape[2:])
        out = torch.empty((len(x), height, width, self.weight.shape[2]))
        step = -(-len(rows) // -(-len(rows) // max(1, BLOCK_TILES // len(columns))))
        pixels, bias = x.permute(0, 2, 3, 1).numpy(), self.bias.numpy()

        def block(place: tuple[int, int]) -> None:
            image, first = place
            part = rows[first : first + step]
            tiles = len(part) * len(columns)
            data = _workspace(0, (len(self.weight), tiles, self.weight.shape[1]))
            products = _workspace(1, (len(self.weight), tiles, self.weight.shape[2]))
            self.gather(pixels[image], part, columns, data.numpy())
            torch.bmm(data, self.weight, out=products)
            self.scatter(products.numpy(), bias, first * self.tile, out[image].numpy())

        share_out(block, [(image, first) for image in range(len(x)) for first in range(0, len(rows), step)])
        return out.permute(0, 3, 1, 2)
