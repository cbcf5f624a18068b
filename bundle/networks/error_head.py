"""A small regression from features of a generator to the error of its stain; it exports to TorchScript."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

LEVELS_PER_UNIT = 127.5  # of 8 bits, of a stain in [−1, 1]
HIDDEN = 16
LEAST = 0.5  # levels: no stain is nearer, for it is rounded
MOST_AWAY = 4.0  # standard deviations; beyond them nothing was learnt
TYPICAL = 10.0  # levels, so that the last layer begins near what it is to give


class ErrorHead(nn.Module):
    """Expected error of a stain from features of its generator, place by place.

    Args:
        channels: of the features.
        hidden: units of each of two layers.
    """

    centre: Tensor
    scale: Tensor

    def __init__(self, channels: int, hidden: int = HIDDEN) -> None:
        super().__init__()
        self.register_buffer("centre", torch.zeros(channels))
        self.register_buffer("scale", torch.ones(channels))
        self.first, self.second = nn.Linear(channels, hidden), nn.Linear(hidden, hidden)
        self.last = nn.Linear(hidden, 1)

    def levels(self, rows: Tensor, most: float = MOST_AWAY, typical: float = TYPICAL, least: float = LEAST) -> Tensor:
        """Features (N, C) → expected mean absolute error over the channels of the stain, in levels of 255: (N).

        In fp32, in whatever precision the network's weights are.
        """
        known = ((rows.float() - self.centre.float()) / self.scale.float()).clamp(-most, most)
        first = F.silu(F.linear(known, self.first.weight.float(), self.first.bias.float()))
        second = F.silu(F.linear(first, self.second.weight.float(), self.second.bias.float()))
        last = F.linear(second, self.last.weight.float(), self.last.bias.float())
        return typical * F.softplus(last)[:, 0] + least

    def forward(self, features: Tensor, unit: float = LEVELS_PER_UNIT) -> Tensor:
        """(B, C, h, w) → (B, 1, h, w), in units of a stain in [−1, 1]."""
        batch, channels, height, width = features.shape
        rows = features.permute(0, 2, 3, 1).reshape(-1, channels)
        return (self.levels(rows) / unit).view(batch, 1, height, width)
