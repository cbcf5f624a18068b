"""Learning rates over a run: each a function of the epoch alone, so a resumed run has the same."""

from __future__ import annotations

import math
from collections.abc import Callable

from ignite.engine import Events
from torch.utils.tensorboard import SummaryWriter

from bundle.common.errors import InputError
from bundle.training.losses import Objective
from bundle.training.trainers import CycleTrainer


class LinearDecay:
    """A rate that falls in a straight line to 0 over the last epochs of a run (Zhu et al. 2017).

    Args:
        learning_rate: before the decay.
        decay_epochs: epochs of decay; 0 keeps the rate constant, as Irvine et al. do (§2.6.3).
    """

    def __init__(self, learning_rate: float, decay_epochs: int = 0) -> None:
        self.learning_rate = learning_rate
        self.decay_epochs = decay_epochs

    def __call__(self, epoch: int, epochs: int) -> float:
        """The rate of an epoch, from 1, of a run of so many."""
        return self.learning_rate * min(1.0, (epochs - epoch + 1) / (self.decay_epochs + 1))


class ExponentialDecay:
    """A rate that is multiplied by a factor every few epochs, as Liu et al. do.

    Their words (§4.2): "decreases using exponential decay with the decay rate of 0.9 and the decay epoch of 2". We
    take it as steps; they do not say whether it also falls between them.

    Args:
        learning_rate: of the first epochs.
        factor: above 0, at most 1.
        every_epochs: epochs with one rate.

    Raises:
        InputError: if a value makes no sense.
    """

    def __init__(self, learning_rate: float, factor: float = 0.9, every_epochs: int = 2) -> None:
        if not 0 < factor <= 1:
            raise InputError(f"schedule: factor is {factor!r}; it must be above 0 and at most 1.")
        if not isinstance(every_epochs, int) or every_epochs < 1:
            raise InputError(f"schedule: every_epochs is {every_epochs!r}; it must be a whole number of at least 1.")
        self.learning_rate = learning_rate
        self.factor = factor
        self.every_epochs = every_epochs

    def __call__(self, epoch: int, epochs: int) -> float:
        """The rate of an epoch, from 1, of a run of so many."""
        return self.learning_rate * self.factor ** ((epoch - 1) // self.every_epochs)


class CosineDecay:
    """A rate that rises in the first epochs and falls along half a cosine in the last (Loshchilov and Hutter 2017).

    Args:
        learning_rate: the greatest.
        decay_epochs: epochs of decay, to nearly 0.
        warmup_epochs: epochs in which the rate rises in a straight line.

    Raises:
        InputError: if a number of epochs is negative.
    """

    def __init__(self, learning_rate: float, decay_epochs: int = 0, warmup_epochs: int = 0) -> None:
        for name, value in (("decay_epochs", decay_epochs), ("warmup_epochs", warmup_epochs)):
            if not isinstance(value, int) or value < 0:
                raise InputError(f"schedule: {name} is {value!r}; it must be a whole number of at least 0.")
        self.learning_rate = learning_rate
        self.decay_epochs = decay_epochs
        self.warmup_epochs = warmup_epochs

    def __call__(self, epoch: int, epochs: int) -> float:
        """The rate of an epoch, from 1, of a run of so many."""
        risen = min(1.0, epoch / (self.warmup_epochs + 1))
        decayed = max(0, epoch - epochs + self.decay_epochs) / (self.decay_epochs + 1)
        return self.learning_rate * risen * (1 + math.cos(math.pi * decayed)) / 2


class BeginsLater:
    """Holds a term of the objective at weight 0 in a run's first epochs: the generator learns from the others alone.

    Args:
        objective: of the run.
        term: name of the term.
        share: of the run's epochs that are without it, 0 to less than 1; 0 changes nothing.

    Raises:
        InputError: if ``share`` is no such number.
    """

    def __init__(self, objective: Objective, term: str, share: float) -> None:
        if isinstance(share, bool) or not isinstance(share, (int, float)) or not 0 <= share < 1:
            raise InputError(f"share of the epochs without the term {term} is {share!r}; it must be from 0 to below 1.")
        self.objective, self.term, self.share = objective, term, share
        self.weight = objective.weights.get(term, 0.0)

    def attach(self, engine: CycleTrainer) -> None:
        """Register with the trainer."""
        engine.add_event_handler(Events.EPOCH_STARTED, self)

    def __call__(self, engine: CycleTrainer) -> None:
        """Set the epoch's weight."""
        if self.term in self.objective.terms:
            begun = engine.state.epoch > self.share * engine.state.max_epochs
            self.objective.weights[self.term] = self.weight if begun else 0.0


class LearningRate:
    """Sets each epoch's learning rate in every optimizer, and shows it in TensorBoard.

    Args:
        schedule: the rate of an epoch, from 1, of a run of so many.
        writer: TensorBoard's.
    """

    def __init__(self, schedule: Callable[[int, int], float], writer: SummaryWriter) -> None:
        self.schedule = schedule
        self.writer = writer

    def attach(self, engine: CycleTrainer) -> None:
        """Register with the trainer."""
        engine.add_event_handler(Events.EPOCH_STARTED, self)

    def __call__(self, engine: CycleTrainer) -> None:
        """Set the epoch's rate."""
        rate = self.schedule(engine.state.epoch, engine.state.max_epochs)
        for optimizer in engine.optimizers.values():
            for group in optimizer.param_groups:
                group["lr"] = rate
        self.writer.add_scalar("learning_rate", rate, engine.state.iteration + 1)  # its first step
