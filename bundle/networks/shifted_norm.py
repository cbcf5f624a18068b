"""Instance norm for training in half precision, exactly 0 where a channel is flat."""

from __future__ import annotations

import copy

from torch import Tensor, nn

from bundle.networks.layers import is_instance_norm


class ShiftedNorm(nn.Module):
    """Group norm of the differences from each channel's first pixel: the same function, exactly 0 where it is flat.

    PyTorch's own leaves rounding there, which a network's next norms multiply by 1/√eps = 316 each, and ReLUs that see
    more than 0 let the gradient grow alike, past what fp32 holds.

    Args:
        norm: the layer.
    """

    def __init__(self, norm: nn.GroupNorm) -> None:
        super().__init__()
        self.norm = norm

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) → the same, fp32."""
        return self.norm(x - x[:, :, :1, :1].detach().float())  # of which the norm's gradient does not depend


def copied(network: nn.Module) -> nn.Module:
    """A copy whose parameters are the network's own."""
    return copy.deepcopy(network, {id(weight): weight for weight in network.parameters()})


def with_shifted_norms(network: nn.Module) -> nn.Module:
    """A copy, with the network's own parameters, whose group norms of one channel each are :class:`ShiftedNorm`."""
    twin = copied(network)
    for parent in list(twin.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, nn.GroupNorm) and is_instance_norm(child):
                setattr(parent, name, ShiftedNorm(child))
    return twin.train()
