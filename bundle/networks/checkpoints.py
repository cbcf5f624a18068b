"""Saving and loading tensors, with errors that say which file and why."""

from __future__ import annotations

import logging
import os
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from bundle.common.atomic import keep_as, settle, whole_file
from bundle.common.errors import InputError
from bundle.common.values import shown

logger = logging.getLogger("bundle")


def save_tensors(content: Any, path: Path, earlier: Path | None = None) -> None:
    """Write tensors and plain containers with ``torch.save``, whole or not at all, a power cut included.

    Args:
        content: what to write.
        path: the file.
        earlier: the name that the file it replaces keeps; None drops it.

    Raises:
        OSError: if the disk is full or fails; what was there stays.
    """
    with whole_file(path) as partial:
        _write(content, partial)
        if earlier is not None and path.exists():
            keep_as(path, earlier)
    settle(path.parent)


def _write(content: Any, path: Path) -> None:
    with path.open("wb") as file:
        try:
            torch.save(content, file)
        except RuntimeError as error:
            if isinstance(error.__context__, OSError):  # PyTorch hides what the disk said
                raise error.__context__ from None
            raise
        file.flush()
        os.fsync(file.fileno())


def load_tensors(path: Path, device: str | torch.device = "cpu") -> Any:
    """Read what :func:`save_tensors` wrote; nothing in the file is executed.

    PyTorch writes checksums but does not look at them when it reads, so they are compared here.

    Raises:
        InputError: if the file is missing, truncated, corrupt, or holds anything but tensors and containers.
    """
    if not path.is_file():
        raise InputError(f"{path} does not exist; train first, or pass --bundle_root RUN/bundle of a run.")
    try:
        if zipfile.is_zipfile(path):  # older versions of PyTorch wrote another kind, without checksums
            with zipfile.ZipFile(path) as archive:
                rotten = archive.testzip()
            if rotten:
                raise zipfile.BadZipFile(f"the checksum of {rotten} differs")
        return torch.load(path, map_location=device, weights_only=True)
    except Exception as error:  # a corrupt file can make the unpickler raise nearly anything
        raise InputError(
            f"{path} is not a readable checkpoint, it may be truncated or corrupt; use another one or train again."
        ) from error


def load_newest(path: Path, earlier: Path) -> tuple[Any, Path]:
    """Read a file, or the one before it where it is corrupt, with a warning.

    Returns:
        The content, and the file it was read from.

    Raises:
        InputError: if neither can be read.
    """
    try:
        return load_tensors(path), path
    except InputError as error:
        state = "corrupt or truncated" if path.exists() else "missing"
        if not earlier.exists():
            raise
        fault = error
    try:
        content = load_tensors(earlier)
    except InputError:
        raise InputError(
            f"{path} is {state}, and so is {earlier}, the one before it; restore one of them from a backup, or "
            "start again in another --output_dir."
        ) from fault
    logger.warning("%s is %s; going on from %s, the one before it", path, state, earlier)
    return content, earlier


def check_finite(weights: Mapping[str, Any], path: Path) -> None:
    """See that a network can stain: with NaN among its weights everything would come out black.

    Args:
        weights: a state dict.
        path: where they come from, for the message.

    Raises:
        InputError: with the first layer that has NaN or infinite weights.
    """
    for name, value in weights.items():
        lost = 0 if not isinstance(value, torch.Tensor) else int((~torch.isfinite(value)).sum())
        if lost:
            raise InputError(
                f"{path}: {lost} of {value.numel()} weights of {name} are NaN or infinite; use another checkpoint, or "
                "train again."
            )


def load_weights(network: nn.Module, weights: Mapping[str, Any], path: Path) -> nn.Module:
    """Load weights that must fit the network exactly.

    Args:
        network: changed in place.
        weights: its state dict.
        path: where they come from, for the message.

    Returns:
        The network.

    Raises:
        InputError: if they belong to another architecture, or are not finite.
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
    check_finite(weights, path)
    network.load_state_dict(weights)
    return network


def load_network(network: nn.Module, path: str, device: str | torch.device = "cpu") -> nn.Module:
    """A network with the weights of a file such as ``models/model.pt``, ready for inference.

    Raises:
        InputError: if the file is missing, corrupt or of another architecture, or its weights are not finite.
    """
    if not isinstance(network, nn.Module):
        raise InputError(f"network_def makes {shown(network)} and no network of {path}; copy inference.json anew.")
    return load_weights(network, load_tensors(Path(path)), Path(path)).to(torch.device(device)).eval()
