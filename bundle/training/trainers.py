"""Training steps, on MONAI's Ignite-based ``Trainer``."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import torch
from monai.engines import Trainer
from monai.engines.utils import IterationEvents
from monai.inferers import Inferer, SimpleInferer
from torch import Tensor, nn
from torch.optim import Optimizer

from bundle.common import processes
from bundle.common.errors import InputError, no_memory
from bundle.common.random_state import random_state, set_random_state
from bundle.networks import arithmetic, score
from bundle.training.faults import StepGuard, gradient_norms
from bundle.training.image_buffer import ImageBuffer
from bundle.training.losses import LeastSquares, Logarithmic, Objective
from bundle.training.step_memory import sizes_that_fit
from bundle.training.translation import ConditionalTranslation, Networks, Translation, together
from bundle.training.weight_average import PREFIX, averaged, deployable


class CycleTrainer(Trainer):
    """Train generators against discriminators, paired or not (Irvine et al. §2.6).

    A cycle has ``g_xy``, ``g_yx``, ``d_x`` and ``d_y``; a method that goes one way has ``g_xy`` and ``d_y`` alone.
    One step updates all generators on the objective, with the discriminators frozen, and each discriminator by the
    criterion of the objective's adversarial term, the generated images passed through a buffer. All of them, once
    every gradient is there, or none: see :class:`bundle.training.faults.StepGuard`.

    After each iteration ``state.output`` holds ``loss``, every term before weighting, ``d_x`` and ``d_y``
    as floats, or ``skipped`` alone; ``state.translation`` holds the batch's images.

    Args:
        device: where the networks and batches are.
        max_epochs: epochs to train.
        train_data_loader: batches with ``source``, ``target`` (B, C, H, W) in [−1, 1] and ``mask`` (B, 1, H, W).
        networks: generators and discriminators by id.
        objective: the generators' loss.
        optimizers: ``g`` for all generators, and one for each discriminator by its id.
        buffers: ``x`` and ``y``, of generated images, one for each discriminator.
        masked_loss: the mask multiplies the ℓ1 terms (§2.6.3).
        mask_discriminator: the discriminators see background instead of what is outside the mask. Off in
            the paper, whose discriminators see what the mask hides.
        background_x: what they see in the source then, per channel in [−1, 1]; None where no mask has an outside.
        background_y: likewise in the target.
        inferer: applies a generator to a batch.
        guard: answers a step that is not finite; None takes it.
        precision: ``fp32``, ``fast``, or one arithmetic, see :class:`bundle.networks.arithmetic.Arithmetic`.
        compiled: see there.
        average: decay of the mean of the generators' weights (:mod:`bundle.training.weight_average`), which is what is
            published; 0 keeps none.
        train_handlers: as in MONAI.

    Raises:
        InputError: if a term of the objective needs a network that this method has not.
    """

    translation: type[Translation] = Translation

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
        guard: StepGuard | None = None,
        precision: str = arithmetic.PLAIN,
        compiled: bool = False,
        average: float = 0,
        train_handlers: Sequence | None = None,
    ) -> None:
        device = torch.device(device)
        super().__init__(device, max_epochs, train_data_loader, handlers=train_handlers, decollate=False)
        self.networks = Networks(**{name: network.to(device) for name, network in networks.items()})
        self.objective = objective
        self.optimizers = {name: optimizer for name, optimizer in optimizers.items() if optimizer is not None}
        self.buffers = {name: buffer for name, buffer in buffers.items() if buffer is not None}
        self.masked_loss = masked_loss
        self.mask_discriminator = mask_discriminator
        self.background_x, self.background_y = (
            None if colour is None else torch.tensor(colour, dtype=torch.float32, device=device).view(1, -1, 1, 1)
            for colour in (background_x, background_y)
        )
        self.inferer = inferer or SimpleInferer()
        self.guard = guard
        self.arithmetic = arithmetic.Arithmetic(precision, device, compiled)
        self.working, self.settled = self.networks, False
        there = self.networks.named()
        names = [name for name in there if name.startswith("g_")] if average else []
        self.averages = {name: averaged(there[name], average) for name in names}
        for name, term in objective.terms.items():
            missing = [network for network in getattr(term, "needs", ()) if network not in there]
            if missing:
                raise InputError(
                    f"lambda_{name} is {objective.weights[name]:g}, but this method has no {', '.join(missing)}; "
                    "set it to 0."
                )
        generators = [network for name, network in there.items() if name.startswith("g_")]
        self.generators_loss = processes.synchronised(GeneratorsLoss(generators, objective))
        self.discriminator_losses = {
            name: processes.synchronised(DiscriminatorLoss(network, objective.criterion))
            for name, network in there.items()
            if name.startswith("d_")
        }
        processes.draw_apart()

    def run(self) -> None:  # type: ignore[override]
        """Train, with the arithmetic that :meth:`settle` chose."""
        if not self.settled:
            self.settle()
        super().run()

    def settle(self) -> None:
        """Choose how this run computes, unless that is done; networks, buffers and random numbers stay as they are.

        Raises:
            InputError: if a step does not fit into memory.
        """
        loader: Any = self.data_loader
        batch = loader.collate_fn([loader.dataset[index] for index in range(loader.batch_size)])
        made: dict[str, Networks] = {}
        buffers = {name: buffer.state_dict() for name, buffer in self.buffers.items()}
        drawn = random_state()

        def step_with(name: str) -> None:
            if name not in made:
                made[name] = self.computing_with(name)
            self.working = made[name]
            translation = self.translate(batch)
            self.generator_gradients(translation)
            self.discriminator_gradients(translation)
            for key, buffer in self.buffers.items():
                buffer.load_state_dict(buffers[key])

        try:
            self.arithmetic.settle(step_with)
        except RuntimeError as error:
            if no_memory(error):
                raise InputError(f"{sizes_that_fit(self)}.") from error
            raise
        chosen = self.arithmetic.chosen
        self.working, self.settled = made.get(chosen) or self.computing_with(chosen), True
        set_random_state(drawn)
        for optimizer in self.optimizers.values():
            optimizer.zero_grad(set_to_none=True)

    def computing_with(self, name: str) -> Networks:
        """The networks as they compute with an arithmetic."""
        named = self.networks.named().items()
        return Networks(**{key: arithmetic.apply(network, name) for key, network in named})

    def _iteration(self, engine: Trainer, batchdata: Mapping[str, Tensor]) -> dict[str, float]:
        self.state.translation = translation = self.translate(batchdata)
        before = {name: buffer.state_dict() for name, buffer in self.buffers.items()}
        losses = self.generator_gradients(translation) | self.discriminator_gradients(translation)
        values = processes.means(losses | gradient_norms(self.optimizers))
        if self.guard is not None and not all(map(math.isfinite, values.values())):
            for name, buffer in self.buffers.items():
                buffer.load_state_dict(before[name])
            return self.guard.skip(self, values, batchdata)
        self.apply_gradients()
        engine.fire_event(IterationEvents.MODEL_COMPLETED)
        return {name: values[name] for name in losses}

    def translate(self, batch: Mapping[str, Tensor]) -> Translation:
        """Wrap a batch, moved to the device; nothing is computed yet."""
        x, y, mask = (batch[key].to(self.state.device, non_blocking=True) for key in ("source", "target", "mask"))
        return self.translation(
            self.working,
            x,
            y,
            mask=mask if self.masked_loss else None,
            shown=mask if self.mask_discriminator else None,
            background_x=self.background_x,
            background_y=self.background_y,
            inferer=self.inferer,
            with_identity=self.objective.with_identity,
        )

    def generator_gradients(self, translation: Translation) -> dict[str, Tensor]:
        """Gradients of all generators; returns the total loss and its terms."""
        for network in self.networks.named().values():
            network.train()
        discriminators = [network for name, network in self.networks.named().items() if name.startswith("d_")]
        frozen = [weight.requires_grad_(False) for network in discriminators for weight in network.parameters()]
        self.optimizers["g"].zero_grad(set_to_none=True)
        total, terms = self.generators_loss(translation)
        total.backward()
        for parameter in frozen:
            parameter.requires_grad_(True)
        return {"loss": total.detach(), **terms}

    def discriminator_gradients(self, translation: Translation) -> dict[str, Tensor]:
        """Gradients of each discriminator that the objective uses; returns their losses."""
        if not self.objective.weights.get("adv"):
            return {}
        t, there = translation, self.networks.named()
        losses = {}
        if "d_x" in there:
            losses["d_x"] = self._discriminator_loss("x", t.judged_x(t.x), t.judged_x(t.fake_x))
        if "d_y" in there:
            losses["d_y"] = self._discriminator_loss("y", t.judged_y(t.y), t.judged_y(t.fake_y))
        for name, loss in losses.items():
            self.optimizers[name].zero_grad(set_to_none=True)
            loss.backward()
        return {name: loss.detach() for name, loss in losses.items()}

    def apply_gradients(self) -> None:
        """One step of every optimizer; those without gradients do nothing."""
        for optimizer in self.optimizers.values():
            optimizer.step()
        for network in self.working.named().values():
            arithmetic.refresh(network)
        for name, average in self.averages.items():
            average.update_parameters(self.networks.named()[name])

    def _discriminator_loss(self, side: str, real: Tensor, fake: Tensor) -> Tensor:
        shown = self.buffers[side].query(fake.detach())
        judge = self.working.named()[f"d_{side}"]
        return self.discriminator_losses[f"d_{side}"](real, shown, judge)

    def state_parts(self) -> dict[str, Any]:
        """Everything with a ``state_dict`` that a checkpoint must hold, by name."""
        parts: dict[str, Any] = {**self.networks.named()}
        parts |= {f"optimizer_{name}": optimizer for name, optimizer in self.optimizers.items()}
        parts |= {f"buffer_{name}": buffer for name, buffer in self.buffers.items()}
        parts |= {PREFIX + name: average for name, average in self.averages.items()}
        parts["arithmetic"] = self.arithmetic
        return parts if self.guard is None else {**parts, "guard": self.guard}

    def deployable(self) -> dict[str, Any]:
        """The generators' state dicts by id, as the run would publish them now."""
        parts = {**self.networks.named(), **{PREFIX + name: average for name, average in self.averages.items()}}
        return deployable({name: part.state_dict() for name, part in parts.items()})


class GeneratorsLoss(nn.Module):
    """The objective as one module of the generators that learn from it, see :func:`processes.synchronised`."""

    def __init__(self, generators: Sequence[nn.Module], objective: Objective) -> None:
        super().__init__()
        self.generators = nn.ModuleList(generators)
        self.objective = objective

    def forward(self, translation: Translation) -> tuple[Tensor, dict[str, Tensor]]:
        """The weighted sum, and each term; see :class:`bundle.training.losses.Objective`."""
        return self.objective(translation)


class DiscriminatorLoss(nn.Module):
    """A discriminator's loss of real and generated images, both in one pass."""

    def __init__(self, network: nn.Module, criterion: LeastSquares | Logarithmic) -> None:
        super().__init__()
        self.network = network
        self.criterion = criterion

    def forward(self, real: Tensor, generated: Tensor, judge: nn.Module) -> Tensor:
        """Scalar; ``judge`` computes what the network does."""
        return self.criterion.discriminator(*together(partial(score, judge), real, generated))


class ConditionalTrainer(CycleTrainer):
    """The same with a discriminator of the target that judges pairs: its images have the source's channels first."""

    translation = ConditionalTranslation
