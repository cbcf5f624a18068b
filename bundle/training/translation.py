"""A batch, and what the networks make of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from monai.inferers import Inferer, SimpleInferer
from torch import Tensor, nn

from bundle.networks import score


@dataclass
class Networks:
    """Generators and discriminators by their ids in ``train.json``; None for those a method has not."""

    g_xy: Any = None
    g_yx: Any = None
    d_x: Any = None
    d_y: Any = None

    def named(self) -> dict[str, nn.Module]:
        """Those there are, by id."""
        return {name: network for name, network in vars(self).items() if network is not None}


class Translation:
    """One batch and what the networks make of it, each result computed when first asked for.

    Args:
        networks: generators and discriminators.
        x: source, (B, C, H, W) in [−1, 1].
        y: target, (B, C, H, W) in [−1, 1].
        mask: (B, 1, H, W), 1 where x and y may be compared, for the ℓ1 terms; None compares everywhere.
        shown: (B, 1, H, W), 1 where the discriminators may look; None shows them everything.
        background_x: (1, C, 1, 1), what they see elsewhere in a source.
        background_y: likewise in a target.
        inferer: applies a generator to a batch.
        with_identity: the identity images are wanted too, so they are made in one pass with the generated ones.
    """

    def __init__(
        self,
        networks: Networks,
        x: Tensor,
        y: Tensor,
        mask: Tensor | None = None,
        shown: Tensor | None = None,
        background_x: Tensor | None = None,
        background_y: Tensor | None = None,
        inferer: Inferer | None = None,
        with_identity: bool = False,
    ) -> None:
        self.networks = networks
        self.x, self.y, self.mask, self.shown = x, y, mask, shown
        self.background_x, self.background_y = background_x, background_y
        self.infer = inferer or SimpleInferer()
        self.with_identity = with_identity

    def by(self, generator: Any, *images: Tensor) -> list[Tensor]:
        """What a generator makes of images, in one pass."""
        return together(lambda batch: self.infer(batch, generator), *images)

    @cached_property
    def by_g_xy(self) -> list[Tensor]:
        """G_XY(x), and G_XY(y) if it is wanted too."""
        return self.by(self.networks.g_xy, self.x, *([self.y] if self.with_identity else []))

    @cached_property
    def by_g_yx(self) -> list[Tensor]:
        """G_YX(y), and G_YX(x) if it is wanted too."""
        return self.by(self.networks.g_yx, self.y, *([self.x] if self.with_identity else []))

    @cached_property
    def fake_y(self) -> Tensor:
        """G_XY(x), the generated stain."""
        return self.by_g_xy[0]

    @cached_property
    def fake_x(self) -> Tensor:
        """G_YX(y), the generated µCT."""
        return self.by_g_yx[0]

    @cached_property
    def cycled_x(self) -> Tensor:
        """G_YX[G_XY(x)]."""
        return self.by(self.networks.g_yx, self.fake_y)[0]

    @cached_property
    def cycled_y(self) -> Tensor:
        """G_XY[G_YX(y)]."""
        return self.by(self.networks.g_xy, self.fake_x)[0]

    @cached_property
    def identity_y(self) -> Tensor:
        """G_XY(y)."""
        return self.by_g_xy[1] if self.with_identity else self.by(self.networks.g_xy, self.y)[0]

    @cached_property
    def identity_x(self) -> Tensor:
        """G_YX(x)."""
        return self.by_g_yx[1] if self.with_identity else self.by(self.networks.g_yx, self.x)[0]

    @cached_property
    def score_x(self) -> Tensor:
        """D_X of the generated µCT, with gradients to its generator."""
        return score(self.networks.d_x, self.judged_x(self.fake_x))

    @cached_property
    def score_y(self) -> Tensor:
        """D_Y of the generated stain, with gradients to its generator."""
        return score(self.networks.d_y, self.judged_y(self.fake_y))

    def judged_x(self, image: Tensor) -> Tensor:
        """What D_X sees of a source, real or generated."""
        return self.show(image, self.background_x)

    def judged_y(self, image: Tensor) -> Tensor:
        """What D_Y sees of a target, real or generated."""
        return self.show(image, self.background_y)

    def show(self, image: Tensor, background: Tensor | None) -> Tensor:
        """An image as a discriminator may see it: set to background where ``shown`` is 0."""
        if self.shown is None or background is None:
            return image
        return torch.where(self.shown > 0, image, background)


class ConditionalTranslation(Translation):
    """The same where D_Y judges the pair (x, y), not y alone (Isola et al. 2017; Irvine et al. eq. 8)."""

    def judged_y(self, image: Tensor) -> Tensor:
        """Source and target in one image, (B, 2C, H, W)."""
        return torch.cat([self.show(self.x, self.background_x), self.show(image, self.background_y)], dim=1)


def together(apply: Callable[[Tensor], Tensor], *images: Tensor) -> list[Tensor]:
    """Several batches in one pass of a network that treats each image alone.

    Batch normalisation does not; no method here has it (``norm`` of the discriminators is ``INSTANCE``).

    Args:
        apply: takes (n B, C, H, W).
        images: n of (B, C, H, W).

    Returns:
        n results.
    """
    return list(apply(torch.cat(images)).chunk(len(images))) if len(images) > 1 else [apply(images[0])]
