"""Convolutions to few channels as ones to many: a kernel's columns become channels, which are shifted and added."""

from __future__ import annotations

from torch import Tensor

FEW_CHANNELS = 8  # of output: so few leave most of the CPU's vector unused


def by_column(weight: Tensor) -> Tensor:
    """A kernel (O, C, k, n) with its columns as channels, (n O, C, k, 1): many channels where there were few."""
    return weight.permute(3, 0, 1, 2).flatten(0, 1)[..., None]


def add_columns(parts: Tensor, columns: int, channels: int) -> Tensor:
    """What a convolution by :func:`by_column` gave, (B, n O, H, W + n − 1), shifted and added: (B, O, H, W)."""
    parts = parts.contiguous().unflatten(1, (columns, channels))
    width = parts.shape[-1] - columns + 1
    out = parts[:, 0, ..., :width].clone()
    for column in range(1, columns):
        out += parts[:, column, ..., column : column + width]
    return out
