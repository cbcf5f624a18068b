"""Training of a StarDist network, on MONAI's Ignite-based ``Trainer``, and what a run keeps to go on from."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from monai.engines import Trainer
from monai.engines.utils import IterationEvents
from torch import Tensor, nn
from torch.optim import Optimizer

from bundle.common.errors import InputError, causes, no_memory
from bundle.common.run_folder import LATEST
from bundle.data.datalist import name_in
from bundle.data.patches import PatchSampler
from bundle.networks.checkpoints import save_tensors
from bundle.nuclei.dataset import NucleiList
from bundle.training.faults import StepGuard, gradient_norms
from bundle.training.run_state import RunKeeper


class NucleiTrainer(Trainer):
    """Train a network on object probability and distances.

    After each step ``state.output`` holds ``loss`` and every term before weighting as floats, or ``skipped`` alone.

    Args:
        device: where the network and batches are.
        max_epochs: epochs to train.
        train_data_loader: batches with ``image`` (B, C, H, W) in [−1, 1], ``probability`` (B, 1, h, w) in [0, 1] and
            ``distances`` (B, rays, h, w) in px.
        network: image → (B, 1 + rays, h, w), see :func:`bundle.nuclei.losses.in_px`.
        objective: see :class:`bundle.nuclei.losses.StarLoss`.
        optimizer: of the network's weights.
        guard: answers a step that is not finite; None takes it.
        train_handlers: as in MONAI.
    """

    def __init__(
        self,
        device: str | torch.device,
        max_epochs: int,
        train_data_loader: Any,
        network: nn.Module,
        objective: Any,
        optimizer: Optimizer,
        guard: StepGuard | None = None,
        train_handlers: Sequence | None = None,
    ) -> None:
        device = torch.device(device)
        super().__init__(device, max_epochs, train_data_loader, handlers=train_handlers, decollate=False)
        self.network = network.to(device)
        self.objective = objective
        self.optimizers = {"network": optimizer}
        self.guard: Any = guard

    def _iteration(self, engine: Trainer, batchdata: Mapping[str, Tensor]) -> dict[str, float]:
        image, probability, distances = (
            batchdata[key].to(self.state.device, non_blocking=True) for key in ("image", "probability", "distances")
        )
        self.network.train()
        optimizer = self.optimizers["network"]
        optimizer.zero_grad(set_to_none=True)
        total, terms = self.objective(self.network(image), probability, distances)
        total.backward()
        losses = {"loss": total.detach(), **terms}
        values = {name: float(value) for name, value in (losses | gradient_norms(self.optimizers)).items()}
        if self.guard is not None and not all(map(math.isfinite, values.values())):
            return self.guard.skip(self, values, batchdata)
        optimizer.step()
        engine.fire_event(IterationEvents.MODEL_COMPLETED)
        return {name: values[name] for name in losses}

    def state_parts(self) -> dict[str, Any]:
        """Everything with a ``state_dict`` that a checkpoint must hold, by name."""
        parts = {"network": self.network, "optimizer": self.optimizers["network"]}
        return parts if self.guard is None else {**parts, "guard": self.guard}


class NucleiKeeper(RunKeeper):
    """Saves everything a run needs to go on, and goes on from it; ``best_<term>.pt`` holds the one network.

    Args:
        output_dir: the run's folder.
        sampler: set to where each epoch begins.
        batch_size: patches in a step.
        resume: go on from ``latest.pt`` if there is one.
        save_minutes: longest time between two saves.
        data: what the run trains on, which must be the same when it is resumed.
    """

    def __init__(
        self,
        output_dir: str,
        sampler: PatchSampler,
        batch_size: int,
        resume: bool,
        save_minutes: float,
        data: NucleiList,
    ) -> None:
        super().__init__(output_dir, sampler, batch_size, resume, save_minutes)
        self.data = trained_on(data)

    def save_best(self, engine: Any, name: str) -> None:
        """Write the network as ``best_<name>.pt``."""
        content = {"network": engine.network.state_dict(), "epoch": engine.state.epoch, "value": self.best[name]}
        save_tensors(content, self.folder / LATEST.parent / f"best_{name}.pt")

    def exception_raised(self, engine: Any, error: BaseException) -> None:
        """Say in one line what can be said in one.

        Raises:
            BaseException: the error, or what explains it.
        """
        if any(no_memory(link) for link in causes(error)):
            error = InputError(
                f"out of memory on {engine.state.device}: a step of batch_size {self.batch_size} does not fit; pass a "
                "smaller --batch_size, --patch_size or --width."
            ).with_traceback(error.__traceback__)
        super().exception_raised(engine, error)


def trained_on(data: NucleiList) -> dict[str, str]:
    """What a run makes its patches from: checksums of the files, in order, and what their values mean."""
    files = [path for each in data.training for path in (each.image, each.labels)]
    sums = {name: data.checksums[name] for name in (name_in(data.folder, path) for path in files)}
    return sums | {"the declared range of the image": f"{data.image.low} to {data.image.high}"}
