"""How much memory a training step takes, and which sizes would fit where it ran out."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor, nn

from bundle.common.memory import GIB, limit_bytes
from bundle.data.datalist import SIDES
from bundle.training.translation import Networks

if TYPE_CHECKING:
    from bundle.training.trainers import CycleTrainer

HEADROOM = 0.75  # of what ran out, or of what there is: the allocator's gaps and other programs want the rest
PATCH_SIZES = (512, 448, 384, 320, 256, 224, 192, 160, 128, 96, 64, 32)


def weight_bytes(networks: Networks) -> int:
    """Bytes of weights, their gradients, and Adam's two moments."""
    return 4 * sum(p.numel() * p.element_size() for net in networks.named().values() for p in net.parameters())


def activation_bytes(trainer: CycleTrainer, patch_size: int) -> int:
    """Bytes that the generators' step keeps for its backward pass, of one patch.

    The step is made with tensors that have shapes and no content (PyTorch's ``meta`` device), and what autograd
    keeps of it is counted. It is the largest part of a step's memory, and grows with the number of patches.

    Args:
        trainer: with its networks and objective; not changed.
        patch_size: side of the patch, px.
    """
    networks = Networks(**{name: _shapes_of(network) for name, network in trainer.networks.named().items()})
    weights = {id(p) for net in networks.named().values() for p in net.parameters()}
    kept: dict[int, Tensor] = {}

    def keep(tensor: Tensor) -> Tensor:
        if id(tensor) not in weights:
            kept[tensor.untyped_storage()._cdata] = tensor
        return tensor

    example: Any = cast(Any, trainer.data_loader).dataset[0]
    x, y = (torch.empty(1, len(example[side]), patch_size, patch_size, device="meta") for side in SIDES)
    # without a mask, whose pixels would be counted together with the other processes of a training
    translation = trainer.translation(networks, x, y, with_identity=trainer.objective.with_identity)
    with torch.enable_grad(), torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        trainer.objective(translation)
    return sum(tensor.untyped_storage().nbytes() for tensor in kept.values())


def _shapes_of(network: nn.Module) -> nn.Module:
    weights = {
        id(p): nn.Parameter(torch.empty_like(p, device="meta"), requires_grad=p.requires_grad)
        for p in network.parameters()
    }
    return copy.deepcopy(network, weights)  # the memo spares a copy of the weights themselves


def sizes_that_fit(trainer: CycleTrainer) -> str:
    """For a user whose step ran out of memory: what it takes, and sizes that take less.

    Args:
        trainer: after the failed step.
    """
    loader: Any = trainer.data_loader
    batch_size, patch_size = loader.batch_size, loader.dataset[0]["source"].shape[-1]
    device = torch.device(trainer.state.device)
    weights, patch = weight_bytes(trainer.networks), activation_bytes(trainer, patch_size)

    def needed(batch: int, size: int) -> float:
        return weights + patch * batch * (size / patch_size) ** 2

    most = HEADROOM * min(limit_bytes(device), needed(batch_size, patch_size))
    batches, sides = range(batch_size - 1, 0, -1), [side for side in PATCH_SIZES if side < patch_size]
    choices = {"--batch_size": [(n, needed(n, patch_size)) for n in batches]}
    choices["--patch_size"] = [(side, needed(batch_size, side)) for side in sides]
    ways = []
    for name, sizes in choices.items():
        ways += [f"{name} {size} ({bytes_ / GIB:.2g} GiB)" for size, bytes_ in sizes if bytes_ <= most][:1]
    ways += ["a smaller --width"] if len(ways) < 2 else []
    return (
        f"out of memory on {device}: a step with batch_size {batch_size} and patch_size {patch_size} takes about "
        f"{needed(batch_size, patch_size) / GIB:.2g} GiB; {' or '.join(ways)} would fit"
    )
