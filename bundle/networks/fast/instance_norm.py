"""Instance normalisation, and the ReLU after it, that can be trained on the CPU, in bf16 or fp32, by one thread."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from bundle.networks.fast.bf16_rows import kernel, load, rows_of, store, words

BLOCK = 64  # pixels whose sums are added in fp32; sums of blocks in float64


f32 = np.float32


@kernel
def normalise(image: np.ndarray, eps: float, slope: float, moments: np.ndarray, out: np.ndarray) -> None:
    """One image, (P, C); moments (2, C) become the mean and 1 / √(variance + eps), or 0 where the channel is flat.

    Rounding that is left in a flat channel, and every gradient through it, would be multiplied by 1/√eps = 316 in each
    of a network's norms: with no variance at all, the output is 0 and its gradient is taken as 0.
    """
    pixels, channels = image.shape
    mean, scale, steep = moments[0], moments[1], f32(slope)
    row, part, sums = np.empty((1, channels), f32), np.empty(channels, f32), np.zeros(channels, np.float64)
    line, bits = row[0], row.view(np.uint32)[0]
    load(image[0], line, bits)
    mean[:] = line  # what is summed is the difference from the first pixel, of a flat channel exactly 0
    for moment in range(2):
        sums[:] = 0.0
        for start in range(0, pixels, BLOCK):
            part[:] = f32(0)
            for p in range(start, min(start + BLOCK, pixels)):
                load(image[p], line, bits)
                if moment == 0:
                    for c in range(channels):
                        part[c] += line[c] - mean[c]
                else:
                    for c in range(channels):
                        part[c] += (line[c] - mean[c]) * (line[c] - mean[c])
            for c in range(channels):
                sums[c] += part[c]
        if moment == 0:
            for c in range(channels):
                mean[c] = f32(mean[c] + sums[c] / pixels)
        else:
            for c in range(channels):
                scale[c] = f32(1.0 / np.sqrt(sums[c] / pixels + eps)) if sums[c] != 0.0 else f32(0)
    for p in range(pixels):
        load(image[p], line, bits)
        for c in range(channels):
            value = (line[c] - mean[c]) * scale[c]
            line[c] = steep * value if value < f32(0) else value  # so that NaN stays NaN
        store(line, bits, out[p])


@kernel
def normalise_gradient(
    gradient: np.ndarray, image: np.ndarray, slope: float, moments: np.ndarray, out: np.ndarray
) -> None:
    """∂x = (g − mean(g) − x̂ mean(g x̂)) / σ, where g has gone back through the ReLU, as PyTorch's does at 0."""
    pixels, channels = image.shape
    mean, scale, steep = moments[0], moments[1], f32(slope)
    rows, sums = np.empty((2, channels), f32), np.zeros((2, channels), np.float64)
    parts, means = np.empty((2, channels), f32), np.empty((2, channels), f32)
    bits = rows.view(np.uint32)
    x, g, x_bits, g_bits = rows[0], rows[1], bits[0], bits[1]
    part, product = parts[0], parts[1]
    for start in range(0, pixels, BLOCK):
        parts[:] = f32(0)
        for p in range(start, min(start + BLOCK, pixels)):
            load(image[p], x, x_bits)
            load(gradient[p], g, g_bits)
            for c in range(channels):
                value = (x[c] - mean[c]) * scale[c]
                back = g[c] if value > f32(0) else steep * g[c]
                part[c] += back
                product[c] += back * value
        for c in range(channels):
            sums[0, c] += part[c]
            sums[1, c] += product[c]
    means[:] = sums / pixels
    first, second = means[0], means[1]
    for p in range(pixels):
        load(image[p], x, x_bits)
        load(gradient[p], g, g_bits)
        for c in range(channels):
            value = (x[c] - mean[c]) * scale[c]
            back = g[c] if value > f32(0) else steep * g[c]
            g[c] = (back - first[c] - value * second[c]) * scale[c]
        store(g, g_bits, out[p])


class NormFunction(torch.autograd.Function):
    """(x − mean) / √(variance + eps) of each channel of each image, negative values times ``slope``."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, eps: float, slope: float) -> Tensor:  # noqa: D102
        rows = rows_of(x)
        out, moments = torch.empty_like(rows), torch.empty(len(x), 2, x.shape[1])
        for image, two, place in zip(_flat(rows), moments.numpy(), _flat(out), strict=True):
            normalise(image, eps, slope, two, place)
        ctx.save_for_backward(rows, moments)
        ctx.slope = slope
        return out.permute(0, 3, 1, 2)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:  # type: ignore[override]  # noqa: D102
        rows, moments = ctx.saved_tensors
        given = rows_of(gradient)
        out = torch.empty_like(rows)
        for upper, image, two, place in zip(_flat(given), _flat(rows), moments.numpy(), _flat(out), strict=True):
            normalise_gradient(upper, image, ctx.slope, two, place)
        return out.permute(0, 3, 1, 2), None, None


def _flat(images: Tensor) -> np.ndarray:
    """(B, H, W, C) → (B, P, C) in NumPy's words."""
    return words(images.flatten(1, 2))
