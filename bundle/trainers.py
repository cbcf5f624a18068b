"""Training steps, on MONAI's Ignite-based ``Trainer``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from typing import Any

import torch
from monai.engines import Trainer
from monai.engines.utils import IterationEvents
from monai.inferers import Inferer, SimpleInferer
from torch import Tensor, nn
from torch.optim import Optimizer

from bundle.datalist import Datalist
from bundle.losses import Objective, least_squares
from bundle.networks import score
from bundle.pool import ImageBuffer


@dataclass
class Networks:
    """The two generators and two discriminators of a cycle, as in ``train.json``."""

    g_xy: nn.Module
    g_yx: nn.Module
    d_x: nn.Module
    d_y: nn.Module

    def named(self) -> dict[str, nn.Module]:
        """By their ids."""
        return dict(vars(self))


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
    ) -> None:
        self.networks = networks
        self.x, self.y, self.mask, self.shown = x, y, mask, shown
        self.background_x, self.background_y = background_x, background_y
        self.infer = inferer or SimpleInferer()

    @cached_property
    def fake_y(self) -> Tensor:
        """G_XY(x), the generated stain."""
        return self.infer(self.x, self.networks.g_xy)

    @cached_property
    def fake_x(self) -> Tensor:
        """G_YX(y), the generated µCT."""
        return self.infer(self.y, self.networks.g_yx)

    @cached_property
    def cycled_x(self) -> Tensor:
        """G_YX[G_XY(x)]."""
        return self.infer(self.fake_y, self.networks.g_yx)

    @cached_property
    def cycled_y(self) -> Tensor:
        """G_XY[G_YX(y)]."""
        return self.infer(self.fake_x, self.networks.g_xy)

    @cached_property
    def identity_y(self) -> Tensor:
        """G_XY(y)."""
        return self.infer(self.y, self.networks.g_xy)

    @cached_property
    def identity_x(self) -> Tensor:
        """G_YX(x)."""
        return self.infer(self.x, self.networks.g_yx)

    @cached_property
    def score_x(self) -> Tensor:
        """D_X of the generated µCT, with gradients to its generator."""
        return score(self.networks.d_x, self.show(self.fake_x, self.background_x))

    @cached_property
    def score_y(self) -> Tensor:
        """D_Y of the generated stain, with gradients to its generator."""
        return score(self.networks.d_y, self.show(self.fake_y, self.background_y))

    def show(self, image: Tensor, background: Tensor | None) -> Tensor:
        """An image as a discriminator may see it: set to background where ``shown`` is 0."""
        if self.shown is None or background is None:
            return image
        return torch.where(self.shown > 0, image, background)


class CycleTrainer(Trainer):
    """Train two generators and two discriminators, paired or not (Irvine et al. §2.6).

    One step updates both generators on the objective, with the discriminators frozen, then each
    discriminator on ½ [(D(real) − 1)² + D(generated)²], the generated images passed through a buffer.

    After each iteration ``state.output`` holds ``loss``, every term before weighting, ``d_x`` and ``d_y``
    as floats; ``state.translation`` holds the batch's images.

    Args:
        device: where the networks and batches are.
        max_epochs: epochs to train.
        train_data_loader: batches with ``source``, ``target`` (B, C, H, W) in [−1, 1] and ``mask`` (B, 1, H, W).
        networks: generators and discriminators by id.
        objective: the generators' loss.
        optimizers: ``g`` for both generators, ``d_x`` and ``d_y``.
        buffers: ``x`` and ``y``, of generated images.
        masked_loss: the mask multiplies the ℓ1 terms (§2.6.3).
        mask_discriminator: the discriminators see background instead of what is outside the mask. Off in
            the paper, whose discriminators see what the mask hides.
        background_x: what they see in the source then, per channel in [−1, 1]; None where no mask has an outside.
        background_y: likewise in the target.
        inferer: applies a generator to a batch.
        train_handlers: as in MONAI.
    """

    def __init__(
        self,
        device: str | torch.device,
        max_epochs: int,
        train_data_loader: Any,
        networks: Mapping[str, nn.Module],
        objective: Objective,
        optimizers: Mapping[str, Optimizer],
        buffers: Mapping[str, ImageBuffer],
        masked_loss: bool = True,
        mask_discriminator: bool = False,
        background_x: Sequence[float] | None = None,
        background_y: Sequence[float] | None = None,
        inferer: Inferer | None = None,
        train_handlers: Sequence | None = None,
    ) -> None:
        device = torch.device(device)
        super().__init__(device, max_epochs, train_data_loader, handlers=train_handlers, decollate=False)
        self.networks = Networks(**{name: network.to(device) for name, network in networks.items()})
        self.objective = objective
        self.optimizers = dict(optimizers)
        self.buffers = dict(buffers)
        self.masked_loss = masked_loss
        self.mask_discriminator = mask_discriminator
        self.background_x, self.background_y = (
            None if colour is None else torch.tensor(colour, dtype=torch.float32, device=device).view(1, -1, 1, 1)
            for colour in (background_x, background_y)
        )
        self.inferer = inferer or SimpleInferer()

    def _iteration(self, engine: Trainer, batchdata: Mapping[str, Tensor]) -> dict[str, float]:
        translation = self.translate(batchdata)
        losses = self.update_generators(translation)
        losses |= self.update_discriminators(translation)
        self.state.translation = translation
        engine.fire_event(IterationEvents.MODEL_COMPLETED)
        return {name: float(value) for name, value in losses.items()}

    def translate(self, batch: Mapping[str, Tensor]) -> Translation:
        """Wrap a batch, moved to the device; nothing is computed yet."""
        x, y, mask = (batch[key].to(self.state.device, non_blocking=True) for key in ("source", "target", "mask"))
        return Translation(
            self.networks,
            x,
            y,
            mask=mask if self.masked_loss else None,
            shown=mask if self.mask_discriminator else None,
            background_x=self.background_x,
            background_y=self.background_y,
            inferer=self.inferer,
        )

    def update_generators(self, translation: Translation) -> dict[str, Tensor]:
        """One step of both generators; returns the total loss and its terms."""
        for network in self.networks.named().values():
            network.train()
        discriminators = chain(self.networks.d_x.parameters(), self.networks.d_y.parameters())
        frozen = [parameter.requires_grad_(False) for parameter in discriminators]
        self.optimizers["g"].zero_grad(set_to_none=True)
        total, terms = self.objective(translation)
        total.backward()
        self.optimizers["g"].step()
        for parameter in frozen:
            parameter.requires_grad_(True)
        return {"loss": total.detach(), **terms}

    def update_discriminators(self, translation: Translation) -> dict[str, Tensor]:
        """One step of each discriminator that the objective uses; returns their losses."""
        if "adv" not in self.objective.terms:
            return {}
        t = translation
        losses = {
            "d_x": self._discriminator_loss("x", t.show(t.x, t.background_x), t.show(t.fake_x, t.background_x)),
            "d_y": self._discriminator_loss("y", t.show(t.y, t.background_y), t.show(t.fake_y, t.background_y)),
        }
        for name, loss in losses.items():
            self.optimizers[name].zero_grad(set_to_none=True)
            loss.backward()
            self.optimizers[name].step()
        return {name: loss.detach() for name, loss in losses.items()}

    def _discriminator_loss(self, side: str, real: Tensor, fake: Tensor) -> Tensor:
        network = self.networks.named()[f"d_{side}"]
        shown = self.buffers[side].query(fake.detach())
        return (least_squares(score(network, real), 1) + least_squares(score(network, shown), 0)) / 2

    def state_parts(self) -> dict[str, Any]:
        """Everything with a ``state_dict`` that a checkpoint must hold, by name."""
        parts: dict[str, Any] = {**self.networks.named()}
        parts |= {f"optimizer_{name}": optimizer for name, optimizer in self.optimizers.items()}
        return parts | {f"buffer_{name}": buffer for name, buffer in self.buffers.items()}


def scaled_background(data: Datalist, side: str, inverted: bool = False) -> list[float] | None:
    """The mean background outside the training masks, as the networks see it.

    Args:
        data: the checked dataset.
        side: ``source`` or ``target``.
        inverted: the images are inverted when they are normalised.

    Returns:
        A value per channel in [−1, 1]; None where nothing lies outside a mask.
    """
    modality, colour = (data.source, data.source_background) if side == "source" else (data.target, data.background_rgb)
    if colour is None:
        return None
    sign = -1.0 if inverted else 1.0
    return [sign * (2 * (value - modality.low) / (modality.high - modality.low) - 1) for value in colour]
