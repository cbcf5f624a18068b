"""Saving and loading tensors, with errors that say which file and why."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from bundle.atomic import whole_file
from bundle.errors import InputError


def save_tensors(content: Any, path: Path) -> None:
    """Write tensors and plain containers with ``torch.save``, whole or not at all."""
    with whole_file(path) as partial:
        torch.save(content, partial)


def load_tensors(path: Path, device: str | torch.device = "cpu") -> Any:
    """Read what :func:`save_tensors` wrote; nothing in the file is executed.

    Raises:
        InputError: if the file is missing, truncated, corrupt, or holds anything but tensors and containers.
    """
    if not path.is_file():
        raise InputError(f"{path} does not exist; train first, or pass --bundle_root FOLDER, the trained bundle.")
    try:
        return torch.load(path, map_location=device, weights_only=True)
    except Exception as error:  # a corrupt file can make the unpickler raise nearly anything
        raise InputError(
            f"{path} is not a readable checkpoint, it may be truncated or corrupt; use another one or train again."
        ) from error


def load_weights(network: nn.Module, weights: Mapping[str, Any], path: Path) -> nn.Module:
    """Load weights that must fit the network exactly.

    Args:
        network: changed in place.
        weights: its state dict.
        path: where they come from, for the message.

    Returns:
        The network.

    Raises:
        InputError: if they belong to another architecture.
    """
    expected = network.state_dict()
    if not isinstance(weights, Mapping) or not all(isinstance(value, torch.Tensor) for value in weights.values()):
        raise InputError(f"{path} does not hold the weights of one network.")
    for name in [*expected, *weights]:
        found = f"{tuple(weights[name].shape)}" if name in weights else "missing"
        wanted = f"{tuple(expected[name].shape)}" if name in expected else "no such layer"
        if found != wanted:
            raise InputError(
                f"{path} is of another architecture: {name} is {found} in the file but {wanted} in the network; "
                "use the width, blocks and upsampling that it was trained with."
            )
    network.load_state_dict(weights)
    return network


def load_network(network: nn.Module, path: str, device: str | torch.device = "cpu") -> nn.Module:
    """A network with the weights of a file such as ``models/model.pt``, ready for inference.

    Raises:
        InputError: if the file is missing, corrupt or of another architecture.
    """
    return load_weights(network, load_tensors(Path(path)), Path(path)).to(torch.device(device)).eval()
