"""Rows of channels in bf16 or fp32, as compiled kernels read and write them, and images as NumPy has them."""

from __future__ import annotations

import numpy as np
import torch
from numba import njit, types
from numba.extending import overload
from torch import Tensor

# Other threads run meanwhile. Every operation is rounded as written: with LLVM's fast mathematics, kernels just
# compiled and the same from the cache differed in the last bits, and so did a run and its repetition.
kernel = njit(nogil=True, cache=True)


def load(source: np.ndarray, row: np.ndarray, bits: np.ndarray) -> None:
    """Read a row of bf16 words (uint16) or of fp32 into ``row``, fp32, whose memory ``bits`` is as uint32."""
    raise NotImplementedError("only compiled code calls it")


def store(row: np.ndarray, bits: np.ndarray, target: np.ndarray) -> None:
    """Write a row into bf16 words, rounded to the nearest (ties to even), or fp32."""
    raise NotImplementedError("only compiled code calls it")


# without annotations, which Numba compares


@overload(load)
def _load(source, row, bits):
    u32 = np.uint32

    def from_half(source, row, bits):
        for c in range(len(source)):
            bits[c] = u32(source[c]) << u32(16)

    def from_single(source, row, bits):
        for c in range(len(source)):
            row[c] = source[c]

    return from_half if source.dtype == types.uint16 else from_single


@overload(store)
def _store(row, bits, target):
    u16, u32 = np.uint16, np.uint32

    def to_half(row, bits, target):
        for c in range(len(target)):
            target[c] = u16((bits[c] + u32(0x7FFF) + ((bits[c] >> u32(16)) & u32(1))) >> u32(16))

    def to_single(row, bits, target):
        for c in range(len(target)):
            target[c] = row[c]

    return to_half if target.dtype == types.uint16 else to_single


def words(tensor: Tensor) -> np.ndarray:
    """A tensor's memory as NumPy has it: bf16 as uint16 words."""
    if tensor.dtype == torch.bfloat16:
        return tensor.view(torch.int16).numpy().view(np.uint16)
    return tensor.numpy()


def rows_of(image: Tensor) -> Tensor:
    """(B, C, H, W) → (B, H, W, C), contiguous."""
    return image.contiguous(memory_format=torch.channels_last).permute(0, 2, 3, 1)
