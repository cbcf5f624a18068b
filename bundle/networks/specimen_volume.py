"""A network that stains volumes with the statistics of one section, for MONAI alone: it exports to TorchScript."""

from typing import Any

import torch
from torch import Tensor, nn

from bundle.networks.sections import Sections, distance, regions, spread_over
from bundle.networks.specimen_norm import with_specimen_norms


class SpecimenVolume(nn.Module):
    """Stains the slices of a volume with the statistics of that region of it that is most like a training's sections.

    The same as ``configs/volume.json`` does with ``normalisation`` ``specimen``, along the first axis. Single
    images are stained with their own statistics, as the network does.

    Args:
        network: a generator with instance norm, with its weights; a copy is made.
        sections: of its training.
    """

    sections: Tensor
    spread: Tensor

    def __init__(self, network: nn.Module, sections: Sections) -> None:
        super().__init__()
        self.network, norms = with_specimen_norms(network, scripted=True)
        self.norms: Any = nn.ModuleList(norms)
        self.sizes = [2 * norm.mean.shape[1] for norm in norms]
        self.section = sections.size
        self.register_buffer("sections", sections.statistics)
        self.register_buffer("spread", sections.spread)

    def forward(self, volume: Tensor) -> Tensor:
        """(1, C, D, H, W) in [−1, 1] → (1, C', D, H, W); (B, C, H, W) → (B, C', H, W)."""
        if volume.dim() == 4:
            return self.network(volume)
        self.settle(self.nearest(volume))
        stained = torch.stack([self.network(volume[:, :, place]) for place in range(volume.shape[2])], 2)
        for norm in self.norms:
            norm.unsettle()
        return stained

    def nearest(self, volume: Tensor) -> Tensor:
        """Statistics (F) of the region of a volume that is most like a section."""
        found, least = self.sections[0], -1.0
        for place in spread_over(volume.shape[2]):
            for top, left, height, width in regions(volume.shape[3], volume.shape[4], self.section):
                statistics = self.learn(volume[:, :, place, top : top + height, left : left + width])
                far = distance(statistics, self.sections, self.spread)
                if least < 0 or far < least:
                    found, least = statistics, far
        return found

    def learn(self, image: Tensor) -> Tensor:
        """What the norms meet in an image (1, C, H, W): (F)."""
        for norm in self.norms:
            norm.begin()
        self.network(image)
        parts = torch.jit.annotate(list[Tensor], [])
        for norm in self.norms:
            parts.append(norm.learnt())
        return torch.cat(parts)

    def settle(self, statistics: Tensor) -> None:
        """Take these (F) from now on."""
        place = 0
        for number, norm in enumerate(self.norms):
            norm.settle(statistics[place : place + self.sizes[number]])
            place += self.sizes[number]
