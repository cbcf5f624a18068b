"""The mean of a generator's weights over the last steps, which is what a run publishes (Yazıcı et al. 2019)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from bundle.common.errors import InputError

PREFIX = "average_"  # of a generator's id in a checkpoint
INSIDE = "module."  # how AveragedModel calls the network's own entries


def averaged(network: nn.Module, decay: float) -> AveragedModel:
    """A copy that follows a network: w̄ ← d w̄ + (1 − d) w after each step.

    d is ``decay``, but no more than (1 + n) / (10 + n) after n steps, so that the first weights, drawn at random, are
    soon forgotten.

    Args:
        network: stays as it is; call ``update_parameters(network)`` of the copy after each step.
        decay: at least 0 and less than 1; 0.998 is a mean over some 500 steps.

    Raises:
        InputError: if ``decay`` is no such number.
    """
    if isinstance(decay, bool) or not isinstance(decay, (int, float)) or not 0 <= decay < 1:
        raise InputError(f"average is {decay!r}; it must be at least 0 and less than 1, for example 0.998.")

    @torch.no_grad()
    def follow(mean: Sequence[Tensor], current: Sequence[Tensor], steps: Any) -> None:
        kept = min(decay, (1 + int(steps)) / (10 + int(steps)))
        torch._foreach_lerp_(list(mean), list(current), 1 - kept)

    return AveragedModel(network, multi_avg_fn=follow)


def deployable(parts: Mapping[str, Any]) -> dict[str, Any]:
    """The generators' weights of a checkpoint's parts by id: the mean where there is one, else the last.

    Args:
        parts: state dicts by name.
    """
    generators = {name: weights for name, weights in parts.items() if name in ("g_xy", "g_yx")}
    for name in generators:
        mean = parts.get(PREFIX + name)
        if mean is not None:
            inside = {key: value for key, value in mean.items() if key.startswith(INSIDE)}
            generators[name] = {key.removeprefix(INSIDE): value for key, value in inside.items()}
    return generators
