"""Learning rates over a run."""

from __future__ import annotations

from ignite.engine import Events

from bundle.trainers import CycleTrainer


class LinearDecay:
    """Lowers the learning rate in a straight line to 0 over the last epochs of a run (Zhu et al. 2017).

    The rate depends on the epoch alone, so a resumed run has the same.

    Args:
        learning_rate: before the decay.
        epochs: epochs of decay; 0 keeps the rate constant, as Irvine et al. do.
    """

    def __init__(self, learning_rate: float, epochs: int = 0) -> None:
        self.learning_rate = learning_rate
        self.epochs = epochs

    def attach(self, engine: CycleTrainer) -> None:
        """Register with the trainer."""
        engine.add_event_handler(Events.EPOCH_STARTED, self)

    def __call__(self, engine: CycleTrainer) -> None:
        """Set the epoch's rate in every optimizer."""
        left = engine.state.max_epochs - engine.state.epoch + 1
        rate = self.learning_rate * min(1.0, left / (self.epochs + 1))
        for optimizer in engine.optimizers.values():
            for group in optimizer.param_groups:
                group["lr"] = rate
