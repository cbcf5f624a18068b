"""What may go wrong in the middle of a training, and what it is answered with: one line, and nothing lost."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from bundle.common import processes
from bundle.common.errors import InputError, causes, full_disk, no_memory
from bundle.common.run_folder import LATEST
from bundle.data.patches import PatchDataset
from bundle.training.step_memory import sizes_that_fit

if TYPE_CHECKING:
    from bundle.training.trainers import CycleTrainer

logger = logging.getLogger("bundle")
GRADIENT = "gradient of "


def gradient_norms(optimizers: Mapping[str, Optimizer]) -> dict[str, Tensor]:
    """Norm of the gradients that each optimizer is about to apply; NaN or infinite if one of them is.

    Returns:
        Scalars by ``gradient of <name>``.
    """
    norms = {}
    for name, optimizer in optimizers.items():
        gradients = [p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
        if gradients:
            norms[f"{GRADIENT}{name}"] = torch.nn.utils.get_total_norm(gradients)
    return norms


class StepGuard:
    """Answers a step whose losses or gradients are not finite: it is left out, or ends the run.

    Args:
        dataset: knows the files of a patch.
        skip_nonfinite: how many such steps a run may have, resumes included.

    Attributes:
        skipped: how many it had.

    Raises:
        InputError: if ``skip_nonfinite`` is no whole number of at least 0.
    """

    def __init__(self, dataset: PatchDataset, skip_nonfinite: int = 0) -> None:
        if type(skip_nonfinite) is not int or skip_nonfinite < 0:
            raise InputError(f"skip_nonfinite is {skip_nonfinite!r}; it must be a whole number of at least 0.")
        self.dataset = dataset
        self.skip_nonfinite = skip_nonfinite
        self.skipped = 0

    def skip(self, engine: CycleTrainer, values: Mapping[str, float], batch: Mapping[str, Any]) -> dict[str, float]:
        """Count a step that is left out.

        Args:
            engine: at that step.
            values: losses and norms of gradients, some of them not finite.
            batch: with ``patch``, the indices of its patches.

        Returns:
            ``skipped``: how many there were by now.

        Raises:
            InputError: if one more may not be left out.
        """
        shares = processes.every_state([int(index) for index in batch["patch"]])
        files = sorted({file for share in shares for index in share for file in self.dataset.files(index)})
        odd = [f"{name} is {value}" for name, value in values.items() if not math.isfinite(value)]
        losses = [text for text in odd if not text.startswith(GRADIENT)]  # of which bad gradients are but the echo
        what = f"epoch {engine.state.epoch}, step {engine.state.iteration}: {', '.join(losses or odd)}"
        what += f", from a batch of {', '.join(files)}"
        if self.skipped >= self.skip_nonfinite:
            allowed = f"after {self.skipped} such steps " if self.skipped else ""
            raise InputError(
                f"{what}; stopped {allowed}before it could spoil the networks. Look at these files; lower "
                "learning_rate in a new run; or leave such steps out: "
                f"--resume true --skip_nonfinite {max(10, 2 * self.skipped)}."
            )
        self.skipped += 1
        logger.warning("%s; the step was left out (%d of at most %d)", what, self.skipped, self.skip_nonfinite)
        return {"skipped": float(self.skipped)}

    def state_dict(self) -> dict[str, int]:
        """How many steps were left out."""
        return {"skipped": self.skipped}

    def load_state_dict(self, state: Mapping[str, int]) -> None:
        """Go on counting."""
        self.skipped = state["skipped"]


def explained(error: BaseException, engine: CycleTrainer, folder: Path, saved_step: int) -> BaseException:
    """An error of a training as one line for the user, or as it is if it is none of those known here.

    Args:
        error: what ended the training.
        engine: where it ended.
        folder: the run's folder.
        saved_step: the step that ``latest.pt`` holds.

    Returns:
        An :class:`InputError` for a full disk, too little memory or a process that is gone, else ``error``.
    """
    full = full_disk(error)
    if full is not None:
        kept = f"{folder / LATEST} holds step {saved_step}: make room, then --resume true goes on from it."
        how = kept if saved_step else "make room and start again."
        return InputError(f"the disk of output_dir {folder} is full ({full.strerror}); {how}")
    if any(no_memory(link) for link in causes(error)):
        return InputError(f"{sizes_that_fit(engine)}{', in another --output_dir' if saved_step else ''}.")
    if any(processes.lost(link) for link in causes(error)):
        kept = f"{folder / LATEST} holds step {saved_step}, --resume true goes on from it" if saved_step else ""
        return InputError(
            f"another process of this training was killed, or its machine is gone; {kept or 'start again'}."
        )
    return error
