"""The error map that a generator has made beside its stain, in cells."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from bundle.networks.cells import means_of
from bundle.networks.error_head import LEVELS_PER_UNIT

STEPS = 16  # of a level, that what is expected is rounded to


def error_of(made: Mapping[str, Any], inside: np.ndarray | None = None) -> np.ndarray | None:
    """What ``postprocessing`` gives as ``error`` besides ``pred``, in cells of 4×4 px.

    Args:
        made: ``error``, if it is there, is (N, H, W), in units of a stain in [−1, 1].
        inside: (H, W), bool, the pixels that count, for elsewhere windows may be left out; None for all.

    Returns:
        (N, ⌈H/4⌉, ⌈W/4⌉), float32, levels of 255, NaN where no pixel counts; None without an error map.
    """
    if not len(made.get("error", ())):
        return None
    error = made["error"].as_subclass(torch.Tensor).float()
    if inside is None:
        cells = means_of(error)
    else:
        counts = torch.from_numpy(inside)[None].to(error.device)
        cells = means_of(torch.where(counts, error, 0.0)) / means_of(counts.float())
    return cells.cpu().numpy() * LEVELS_PER_UNIT


def rounded(error: np.ndarray) -> np.ndarray:
    """An expected error to a sixteenth of a level, float32: finer says nothing, and files pack better."""
    return (np.rint(error * STEPS) / STEPS).astype(np.float32)
