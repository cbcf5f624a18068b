"""The buffer of earlier generated images that the discriminators are shown."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from bundle.common import processes
from bundle.common.errors import InputError


class ImageBuffer:
    """A history of generated images (Zhu et al. 2017 §4; Irvine et al. §2.6.3).

    Until the buffer is full, images are stored and handed on. After that, each image is handed on with
    probability ½; otherwise a random stored one is handed on and the new one takes its place.

    The processes of a training (:mod:`bundle.common.processes`) share one: each stores the images of all, in the order
    of a single process, draws the same, and is given its own share. So each holds all ``size`` images.

    Args:
        size: images to keep; 0 hands every image on.
        seed: of the buffer's own draws.

    Raises:
        InputError: if ``size`` is negative or no whole number.
    """

    def __init__(self, size: int = 50, seed: int = 0) -> None:
        if not isinstance(size, int) or size < 0:
            raise InputError(f"pool_size is {size!r}; it must be a whole number of at least 0.")
        self.size = size
        self.images: list[Tensor] = []
        self.generator = torch.Generator().manual_seed(seed)

    def query(self, images: Tensor) -> Tensor:
        """Store new images and give as many old or new ones.

        Args:
            images: (B, C, H, W), detached; as many in every process.

        Returns:
            (B, C, H, W).
        """
        if self.size == 0:
            return images
        given = []
        for image in processes.gathered(images):
            if len(self.images) < self.size:
                self.images.append(image.clone())
                given.append(image)
            elif torch.rand((), generator=self.generator) < 0.5:
                given.append(image)
            else:
                place = int(torch.randint(self.size, (), generator=self.generator))
                given.append(self.images[place])
                self.images[place] = image.clone()
        return processes.own_share(torch.stack(given))

    def state_dict(self) -> dict[str, Any]:
        """The stored images and the state of the draws."""
        return {"images": list(self.images), "generator": self.generator.get_state()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a saved state."""
        self.images = list(state["images"])
        self.generator.set_state(state["generator"].cpu())
