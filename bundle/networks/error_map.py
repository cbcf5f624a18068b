"""The error that a stain is expected to have, from what its generator knows before it paints.

A generator's last features at a coarse resolution say which tissue it takes a place for, and how surely. A small
regression from them to the error that its stain had in sections it did not learn from gives a map of the error to
expect (docs/trust.md). It is one more channel that the generator makes, so every window, arithmetic and inferer that
computes a stain computes its map.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from math import inf
from pathlib import Path

import torch
from torch import nn

from bundle.common.errors import InputError
from bundle.networks.checkpoints import check_finite, load_network, load_tensors, save_tensors
from bundle.networks.error_head import ErrorHead


@dataclass(frozen=True)
class Calibration:
    """How an error map was calibrated, and how it did on sections that it was not.

    Attributes:
        bound: what an expected error is multiplied with for a bound that holds for a share ``level`` of the pixels.
        level: that share.
        specimens: how many it was learnt from.
        pixels: likewise.
        auroc: with which it finds the worst tenth of the windows of specimens left out; NaN where there are too few.
        coverage: share of the pixels, of specimens left out of both, for which the bound holds; likewise.
        mean: mean error, levels.
    """

    bound: float
    level: float
    specimens: float
    pixels: float
    auroc: float
    coverage: float
    mean: float


@dataclass(frozen=True)
class ErrorMap:
    """What is kept beside a trained generator.

    Attributes:
        head: gives the expected error.
        calibration: of it.
    """

    head: ErrorHead
    calibration: Calibration

    def save(self, path: str | Path) -> None:
        """Write it, whole or not at all."""
        save_tensors({"head": self.head.state_dict(), "calibration": asdict(self.calibration)}, Path(path))

    @classmethod
    def load(cls, path: str | Path) -> ErrorMap:
        """Read what :meth:`save` wrote.

        Raises:
            InputError: if it is missing, corrupt, or not that.
        """
        content = load_tensors(Path(path))
        try:
            weights = content["head"]
            head = ErrorHead(len(weights["centre"]), len(weights["first.bias"]))
            head.load_state_dict(weights)
            told = content["calibration"]
            calibration = Calibration(**{each.name: float(told[each.name]) for each in fields(Calibration)})
            if not (0 <= calibration.bound < inf and 0 < calibration.level < 1 and 0 <= calibration.mean < inf):
                raise ValueError(f"a bound of {calibration.bound} for {calibration.level} of the pixels")
        except (KeyError, TypeError, ValueError, RuntimeError, AttributeError) as error:
            raise InputError(f"{path} is no error map ({error}); copy it from the run again.") from error
        check_finite(weights, Path(path))
        return cls(head.eval().requires_grad_(False), calibration)


def load_generator(
    network: nn.Module, path: str, device: str | torch.device = "cpu", error_map: str | None = None
) -> nn.Module:
    """A generator with the weights of a file, ready for inference, that makes its expected error as one more channel.

    Args:
        network: without weights.
        path: as of :func:`bundle.networks.checkpoints.load_network`.
        device: where it is to be.
        error_map: the file of its error map; without it, or where there is none, it makes its stain alone.

    Raises:
        InputError: as there, or if the error map is corrupt or of another generator.
    """
    network = load_network(network, path, device)
    if error_map is None or not Path(error_map).is_file():
        return network
    head, found = ErrorMap.load(error_map).head, getattr(network, "features", None)
    if len(head.centre) != found:
        raise InputError(
            f"{error_map} is made of {len(head.centre)} features, but the network of {path} gives {found}; copy both "
            "from the same run."
        )
    network.error = head.to(torch.device(device))
    return network


def has_error(network: nn.Module) -> bool:
    """Whether a generator makes its expected error too."""
    return getattr(network, "error", None) is not None
