"""A 3×3 convolution by Winograd's minimal filtering F(4×4, 3×3) that can be trained on the CPU, in bf16 or fp32.

One thread computes all of it. The three products of a training step are those of the transformed tiles, 36 numbers
for 16 outputs instead of 144, and backward is the exact adjoint of forward (Lavin & Gray 2016, arXiv 1509.09308).
The points 0, ±2/3, ±4/3, ∞ are ours: in bf16 their error is half of that of the usual 0, ±1, ±2, ∞ (1.0 against
2.1 % of a layer's output; a direct convolution in bf16 has 0.24 %, ``tests/networks/test_training_kernels.py``).
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from bundle.networks.fast.bf16_rows import kernel, load, rows_of, store, words
from bundle.networks.fast.winograd import tile_indices

TILE, SIZE = 4, 6  # outputs and inputs of a tile, a side
INNER, OUTER = 2 / 3, 4 / 3  # the points are 0, ±INNER, ±OUTER and ∞
LEAST_CHANNELS = 32  # of input and output, from which it pays here


@cache
def weight_matrix() -> Tensor:
    """(36, 9): transforms a 3×3 kernel, flat, into the domain of the products."""
    points = (0.0, INNER, -INNER, OUTER, -OUTER)
    rows = []
    for point in points:
        scale = np.prod([point - other for other in points if other != point])
        rows.append([point**power / scale for power in range(3)])
    matrix = np.array([*rows, [0.0, 0.0, 1.0]])
    return torch.from_numpy(np.kron(matrix, matrix)).float()


f32 = np.float32
ZERO, A, B = f32(0), f32(INNER), f32(OUTER)
AA, BB, AABB, SUM = f32(INNER**2), f32(OUTER**2), f32((INNER * OUTER) ** 2), f32(INNER**2 + OUTER**2)
ABB, AAB, AAA, BBB = f32(INNER * OUTER**2), f32(INNER**2 * OUTER), f32(INNER**3), f32(OUTER**3)


# Lines go through small buffers, and rows are whole: only then does the compiler use vectors.


@kernel
def input_line(d: np.ndarray, out: np.ndarray) -> None:
    """Six pixels into six products' factors: Bᵀ d."""
    for c in range(d.shape[1]):
        even, odd = d[4, c] - BB * d[2, c], A * d[3, c] - ABB * d[1, c]
        even2, odd2 = d[4, c] - AA * d[2, c], B * d[3, c] - AAB * d[1, c]
        out[0, c] = AABB * d[0, c] - SUM * d[2, c] + d[4, c]
        out[1, c] = even + odd
        out[2, c] = even - odd
        out[3, c] = even2 + odd2
        out[4, c] = even2 - odd2
        out[5, c] = AABB * d[1, c] - SUM * d[3, c] + d[5, c]


@kernel
def input_line_gradient(m: np.ndarray, out: np.ndarray) -> None:
    """Its adjoint: B m."""
    for c in range(m.shape[1]):
        p, q = m[1, c] + m[2, c], m[1, c] - m[2, c]
        r, s = m[3, c] + m[4, c], m[3, c] - m[4, c]
        out[0, c] = AABB * m[0, c]
        out[1, c] = AABB * m[5, c] - ABB * q - AAB * s
        out[2, c] = -SUM * m[0, c] - BB * p - AA * r
        out[3, c] = A * q + B * s - SUM * m[5, c]
        out[4, c] = m[0, c] + p + r
        out[5, c] = m[5, c]


@kernel
def output_line(m: np.ndarray, out: np.ndarray) -> None:
    """Six products into four pixels: Aᵀ m."""
    for c in range(m.shape[1]):
        p, q = m[1, c] + m[2, c], m[1, c] - m[2, c]
        r, s = m[3, c] + m[4, c], m[3, c] - m[4, c]
        out[0, c] = m[0, c] + p + r
        out[1, c] = A * q + B * s
        out[2, c] = AA * p + BB * r
        out[3, c] = AAA * q + BBB * s + m[5, c]


@kernel
def output_line_gradient(d: np.ndarray, out: np.ndarray) -> None:
    """Its adjoint: A d."""
    for c in range(d.shape[1]):
        even, odd = d[0, c] + AA * d[2, c], A * d[1, c] + AAA * d[3, c]
        even2, odd2 = d[0, c] + BB * d[2, c], B * d[1, c] + BBB * d[3, c]
        out[0, c] = d[0, c]
        out[1, c] = even + odd
        out[2, c] = even - odd
        out[3, c] = even2 + odd2
        out[4, c] = even2 - odd2
        out[5, c] = d[3, c]


@kernel
def keep(lines: np.ndarray, column: int, out: np.ndarray) -> None:
    """Put lines where the second of the two transforms reads them."""
    for k in range(len(lines)):
        line, row = lines[k], out[k, column]
        for c in range(len(row)):
            row[c] = line[c]


@kernel
def gather(image: np.ndarray, rows: np.ndarray, columns: np.ndarray, first: int, tiles: np.ndarray) -> None:
    """Image → its tiles' factors, from tile ``first`` on; rows and columns (·, 6) that each reads, −1 for 0."""
    channels, across = image.shape[2], len(columns)
    d, w, v = np.empty((6, channels), f32), np.empty((6, channels), f32), np.empty((6, channels), f32)
    h = np.empty((6, 6, channels), f32)
    d_bits, v_bits = d.view(np.uint32), v.view(np.uint32)
    for number in range(len(rows) * across):
        y, x = number // across, number % across
        for j in range(6):
            for i in range(6):
                if rows[y, i] < 0 or columns[x, j] < 0:
                    d[i, :] = ZERO
                else:
                    load(image[rows[y, i], columns[x, j]], d[i], d_bits[i])
            input_line(d, w)
            keep(w, j, h)
        for k in range(6):
            input_line(h[k], v)
            for j in range(6):
                store(v[j], v_bits[j], tiles[k * 6 + j, first + number])


@kernel
def scatter_gradient(
    tiles: np.ndarray, rows: np.ndarray, columns: np.ndarray, first: int, total: np.ndarray, image: np.ndarray
) -> None:
    """The adjoint of ``gather``: factors' gradients → the image's, added up in ``total``, fp32."""
    channels, across = image.shape[2], len(columns)
    d, w, v = np.empty((6, channels), f32), np.empty((6, channels), f32), np.empty((6, channels), f32)
    h = np.empty((6, 6, channels), f32)
    d_bits = d.view(np.uint32)
    total[:] = ZERO
    for number in range(len(rows) * across):
        y, x = number // across, number % across
        for j in range(6):
            for k in range(6):
                load(tiles[k * 6 + j, first + number], d[k], d_bits[k])
            input_line_gradient(d, w)
            keep(w, j, h)
        for i in range(6):
            if rows[y, i] < 0:
                continue
            input_line_gradient(h[i], v)
            for j in range(6):
                if columns[x, j] < 0:
                    continue
                line, place = v[j], total[rows[y, i], columns[x, j]]
                for c in range(channels):
                    place[c] += line[c]
    bits = total.view(np.uint32)
    for y in range(image.shape[0]):
        for x in range(image.shape[1]):
            store(total[y, x], bits[y, x], image[y, x])


@kernel
def scatter(tiles: np.ndarray, bias: np.ndarray, first: int, image: np.ndarray) -> None:
    """Products → the convolved image; what of a tile lies outside is dropped."""
    height, width, channels = image.shape
    across, down = (width + 3) // 4, (height + 3) // 4
    d, h = np.empty((6, channels), f32), np.empty((4, 6, channels), f32)
    w, v = np.empty((4, channels), f32), np.empty((4, channels), f32)
    d_bits, v_bits = d.view(np.uint32), v.view(np.uint32)
    for number in range(down * across):
        y, x = number // across * 4, number % across * 4
        for j in range(6):
            for k in range(6):
                load(tiles[k * 6 + j, first + number], d[k], d_bits[k])
            output_line(d, w)
            keep(w, j, h)
        for i in range(min(4, height - y)):
            output_line(h[i], v)
            for j in range(min(4, width - x)):
                line = v[j]
                for c in range(channels):
                    line[c] += bias[c]
                store(v[j], v_bits[j], image[y + i, x + j])


@kernel
def gather_gradient(image: np.ndarray, first: int, tiles: np.ndarray) -> None:
    """The adjoint of ``scatter``, without the bias: the convolved image's gradient → the products'."""
    height, width, channels = image.shape
    across, down = (width + 3) // 4, (height + 3) // 4
    d, h = np.empty((4, channels), f32), np.empty((6, 4, channels), f32)
    w, v = np.empty((6, channels), f32), np.empty((6, channels), f32)
    d_bits, v_bits = d.view(np.uint32), v.view(np.uint32)
    for number in range(down * across):
        y, x = number // across * 4, number % across * 4
        for j in range(4):
            for i in range(4):
                if y + i < height and x + j < width:
                    load(image[y + i, x + j], d[i], d_bits[i])
                else:
                    d[i, :] = ZERO
            output_line_gradient(d, w)
            keep(w, j, h)
        for k in range(6):
            output_line_gradient(h[k], v)
            for j in range(6):
                store(v[j], v_bits[j], tiles[k * 6 + j, first + number])


class TransformedWeight(torch.autograd.Function):
    """A kernel (C', C, 3, 3) in the products' domain, (36, C, C'); nothing is saved, so backward can run again."""

    @staticmethod
    def forward(ctx: Any, weight: Tensor, dtype: torch.dtype) -> Tensor:  # noqa: D102
        flat = weight.permute(2, 3, 1, 0).reshape(9, -1)
        return (weight_matrix() @ flat).view(36, weight.shape[1], weight.shape[0]).to(dtype)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:  # type: ignore[override]  # noqa: D102
        channels, outputs = gradient.shape[1:]
        flat = weight_matrix().T @ gradient.float().view(36, -1)
        return flat.view(3, 3, channels, outputs).permute(3, 2, 0, 1).contiguous(), None


class WinogradFunction(torch.autograd.Function):
    """The convolution itself, of one thread; keeps its transformed input, 1.1 or 2.2 times an fp32 input's memory."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, padding: str, scale: int) -> Tensor:  # noqa: D102
        rows, columns = (tile_indices(side, TILE, padding, scale) for side in x.shape[2:])
        height, width = (side * scale - 2 * (padding == "none") for side in x.shape[2:])
        each = len(rows) * len(columns)
        factors = x.new_empty(36, len(x) * each, x.shape[1])
        out = x.new_empty(len(x), height, width, weight.shape[2])
        images, tiles, places, offset = words(rows_of(x)), words(factors), words(out), bias.numpy()
        products = x.new_empty(36, each, weight.shape[2])
        for number, image in enumerate(images):
            first = number * each
            gather(image, rows, columns, first, tiles)
            torch.bmm(factors[:, first : first + each], weight, out=products)
            scatter(words(products), offset, 0, places[number])
        ctx.save_for_backward(factors, weight)
        ctx.rows, ctx.columns, ctx.shape = rows, columns, x.shape
        return out.permute(0, 3, 1, 2)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]  # noqa: D102
        factors, weight = ctx.saved_tensors
        given = rows_of(gradient)
        each = factors.shape[1] // len(given)
        products = factors.new_empty(36, factors.shape[1], weight.shape[2])
        tiles = words(products)
        for number, image in enumerate(words(given)):
            gather_gradient(image, number * each, tiles)
        for_x = for_weight = for_bias = None
        if ctx.needs_input_grad[0]:
            batch, channels, height, width = ctx.shape
            for_x = gradient.new_empty(batch, height, width, channels)
            total, back = np.empty((height, width, channels), np.float32), weight.transpose(1, 2)
            places, inward = words(for_x), factors.new_empty(36, each, channels)
            for number in range(batch):
                torch.bmm(products[:, number * each : (number + 1) * each], back, out=inward)
                scatter_gradient(words(inward), ctx.rows, ctx.columns, 0, total, places[number])
            for_x = for_x.permute(0, 3, 1, 2)
        if ctx.needs_input_grad[1]:
            for_weight = torch.bmm(factors.transpose(1, 2), products)
        if ctx.needs_input_grad[2]:
            for_bias = given.sum((0, 1, 2), dtype=torch.float32)
        return for_x, for_weight, for_bias, None, None


def is_suited(convolution: nn.Conv2d) -> bool:
    """Whether a convolution can be computed so, and that pays: 3×3, stride 1, enough channels."""
    kind = (convolution.kernel_size, convolution.stride, convolution.dilation, convolution.groups)
    padded = convolution.padding in ((0, 0), (1, 1)) and convolution.padding_mode == "zeros"
    channels = min(convolution.in_channels, convolution.out_channels)
    return kind == ((3, 3), (1, 1), (1, 1), 1) and padded and channels >= LEAST_CHANNELS
