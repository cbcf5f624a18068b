"""The door for training: a batch shared out over threads, each of which takes its images through a network's twin."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from bundle.networks import score
from bundle.networks.fast.training_layers import Derived, TwinDropout, make_twin
from bundle.networks.threads import share_out


def shared_out(network: nn.Module, dtype: torch.dtype, winograd: bool) -> Shards:
    """A module for the CPU that computes what a network does, with the network's own parameters.

    Args:
        network: stays as it is.
        dtype: of images, ``torch.bfloat16`` or ``torch.float32``.
        winograd: compute suited 3×3 convolutions by Winograd's minimal filtering.
    """
    taps = dtype == torch.bfloat16 and torch.cpu._is_amx_tile_supported()
    return Shards(make_twin(network, dtype, winograd, taps), dtype)


class Shards(nn.Module):
    """A twin on the CPU whose batches are shared out over as many threads as PyTorch may use.

    Forward and backward of a share are one thread's, so no thread waits for another within a layer. Gradients of
    the weights are the sum of the shares'. The result depends on the number of threads only by rounding.

    Args:
        twin: of :func:`bundle.networks.fast.training_layers.make_twin`; what it gives is a tensor, or a list with one
            at the end.
        dtype: of the images within it.
    """

    def __init__(self, twin: nn.Module, dtype: torch.dtype) -> None:
        super().__init__()
        self.twin, self.dtype = twin, dtype
        self.derived = [layer for layer in twin.modules() if isinstance(layer, Derived)]
        replaced = {id(layer.weight) for layer in self.derived}
        self.others = [weight for weight in twin.parameters() if id(weight) not in replaced]
        self.made_of: list[tuple[int, bool]] = []
        self.made: list[Tensor] = []
        self.drops = any(isinstance(layer, TwinDropout) for layer in twin.modules())

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) → (B, C', H', W'), fp32."""
        return ShardsFunction.apply(x, self, *self.weights())

    def forget(self) -> None:
        """Make anew what is made of the weights: for after a fused optimizer, which leaves no trace of its step."""
        self.made_of = []

    def weights(self) -> list[Tensor]:
        """All that the twin computes with, made anew only when a weight has changed that PyTorch knows of."""
        made_of = [(layer.weight._version, layer.weight.requires_grad) for layer in self.derived]
        if made_of != self.made_of:
            self.made = [layer.derive() for layer in self.derived]
            self.made_of = made_of
        return [*self.made, *self.others]


class ShardsFunction(torch.autograd.Function):
    """The twin on each share; the shares' graphs are kept for backward."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, shards: Shards, *weights: Tensor) -> Tensor:  # noqa: D102
        number = len(shards.derived)
        made = [weight.detach().requires_grad_(weight.requires_grad) for weight in weights[:number]]
        for layer, weight in zip(shards.derived, made, strict=True):
            layer.current = weight
        learns = any(ctx.needs_input_grad)

        def translate(share: tuple[Tensor, int]) -> tuple[Tensor, Tensor]:
            images, seed = share
            TwinDropout.draws.generator = torch.Generator().manual_seed(seed)
            own = images.to(shards.dtype, memory_format=torch.channels_last).detach()
            own.requires_grad_(ctx.needs_input_grad[0])
            with torch.set_grad_enabled(learns):
                return own, score(shards.twin, own).float()

        parts = x.detach().chunk(torch.get_num_threads())
        seeds = torch.randint(2**31, (len(parts),)).tolist() if shards.drops else [0] * len(parts)
        shares = share_out(translate, list(zip(parts, seeds, strict=True)))
        ctx.shares, ctx.made, ctx.others = (shares if learns else None), made, shards.others
        return torch.cat([y.detach() for _, y in shares])

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]  # noqa: D102
        weights = [*ctx.made, *ctx.others]
        places = [place for place, needed in enumerate(ctx.needs_input_grad[2:]) if needed]
        wanted = [weights[place] for place in places]
        first = int(ctx.needs_input_grad[0])

        def back(share: tuple[tuple[Tensor, Tensor], Tensor]) -> tuple[Tensor | None, ...]:
            (own, y), given = share
            inputs = [own, *wanted] if first else wanted
            return torch.autograd.grad(y, inputs, given, allow_unused=True)

        parts = gradient.split([len(own) for own, _ in ctx.shares])
        each = share_out(back, list(zip(ctx.shares, parts, strict=True)))
        ctx.shares = None
        summed = share_out(_sum, list(zip(*(found[first:] for found in each), strict=True)))
        found: list[Tensor | None] = [None] * len(weights)
        for place, value in zip(places, summed, strict=True):
            found[place] = value
        for_x = torch.cat([part[0] for part in each]).float() if first else None  # type: ignore[misc]
        return for_x, None, *found


def _sum(parts: tuple[Tensor | None, ...]) -> Tensor | None:
    """In fp32, in the order of the shares."""
    there = [part for part in parts if part is not None]
    if not there:
        return None
    total = there[0].float()
    for part in there[1:]:
        total = total + part
    return total
