"""Instance norm in bf16 for inference on the CPU: in place, and several pixels at once where channels are few."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor, nn

from bundle.networks.fast.bf16_rows import kernel, load, rows_of, store, words
from bundle.networks.fast.instance_norm import BLOCK

LANES = 128  # values that are read at once

f32 = np.float32


@kernel
def lane_sums(rows: np.ndarray, shift: np.ndarray, sums: np.ndarray) -> None:
    """Add x − shift, and its square, of rows (R, L) to ``sums`` (2, L), float64; blocks of rows in fp32."""
    lanes = rows.shape[1]
    row, part = np.empty((1, lanes), f32), np.empty((2, lanes), f32)
    line, bits, first, second = row[0], row.view(np.uint32)[0], part[0], part[1]
    for start in range(0, len(rows), BLOCK):
        part[:] = f32(0)
        for r in range(start, min(start + BLOCK, len(rows))):
            load(rows[r], line, bits)
            for c in range(lanes):
                away = line[c] - shift[c]
                first[c] += away
                second[c] += away * away
        for c in range(lanes):
            sums[0, c] += first[c]
            sums[1, c] += second[c]


@kernel
def scale_lanes(rows: np.ndarray, mean: np.ndarray, scale: np.ndarray, slope: float, out: np.ndarray) -> None:
    """(x − mean) · scale of rows (R, L), negative values times ``slope``."""
    lanes, steep = rows.shape[1], f32(slope)
    row = np.empty((1, lanes), f32)
    line, bits = row[0], row.view(np.uint32)[0]
    for r in range(len(rows)):
        load(rows[r], line, bits)
        for c in range(lanes):
            value = (line[c] - mean[c]) * scale[c]
            line[c] = steep * value if value < f32(0) else value  # so that NaN stays NaN
        store(line, bits, out[r])


class HalfNorm(nn.Module):
    """Instance norm, and the ReLU after it.

    Args:
        eps: added to the variance.
        relu: whether negative values become 0.
        in_place: whether the image is nobody else's.
    """

    def __init__(self, eps: float, relu: bool, in_place: bool) -> None:
        super().__init__()
        self.eps, self.slope, self.in_place = eps, 0.0 if relu else 1.0, in_place
        self.met: list[tuple[np.ndarray, np.ndarray]] | None = None

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) → the same."""
        rows = rows_of(x)
        out = rows if self.in_place else torch.empty_like(rows)
        for image, place in zip(rows.flatten(1, 2), out.flatten(1, 2), strict=True):
            found = normalise(image, self.eps, self.slope, place)
            if self.met is not None:
                self.met.append(found)
        return out.permute(0, 3, 1, 2)

    def begin(self) -> None:
        """Learn from the images that follow, as :class:`bundle.networks.specimen_norm.SpecimenNorm` does."""
        self.met = []

    def learnt(self) -> Tensor:
        """End that; mean and logarithm of the deviation of each channel over these images, (2 C)."""
        assert self.met
        means, variances = (np.stack(each) for each in zip(*self.met, strict=True))
        self.met, mean = None, means.mean(0)
        variance = np.maximum((variances + means**2).mean(0) - mean**2, 0)
        return torch.from_numpy(np.concatenate([mean, np.log(variance + self.eps) / 2])).float()


def normalise(image: Tensor, eps: float, slope: float, out: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Instance norm of an image (P, C) in bf16, several pixels a row: few channels leave most of a vector unused.

    Args:
        image: what is normalised.
        eps: added to the variance.
        slope: of what is negative.
        out: (P, C), where to; may be the image.

    Returns:
        Mean and variance of each channel, (C), float64.
    """
    pixels, channels = image.shape
    beside = math.gcd(pixels, max(1, LANES // channels))
    rows, sums = words(image.view(-1, beside * channels)), np.zeros((2, beside * channels))
    shift = image[0].float().repeat(beside).numpy()  # so that a flat channel is exactly 0
    lane_sums(rows, shift, sums)
    first, second = sums.reshape(2, beside, channels).sum(1) / pixels
    mean, variance = shift[:channels] + first, np.maximum(second - first * first, 0)
    scale = np.where(variance > 0, 1 / np.sqrt(variance + eps), 0)
    each_mean, each_scale = (np.tile(each, beside).astype(f32) for each in (mean, scale))
    scale_lanes(rows, each_mean, each_scale, slope, words(out.view(-1, beside * channels)))
    return mean, variance
