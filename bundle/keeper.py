"""What a training run keeps on disk to go on from, and how it stops and resumes."""

from __future__ import annotations

import contextlib
import logging
import os
import select
import signal
import sys
import threading
import time
from pathlib import Path
from types import FrameType

import torch
from ignite.engine import Events

from bundle.atomic import PARTIAL
from bundle.checkpoints import load_tensors, load_weights, save_tensors
from bundle.errors import InputError
from bundle.patches import PatchSampler
from bundle.runs import LATEST
from bundle.trainers import CycleTrainer

logger = logging.getLogger("bundle")


class RunKeeper:
    """Saves everything a run needs to go on, and goes on from it.

    ``checkpoints/latest.pt`` is written after every epoch, every ``save_minutes`` within one, and when
    Ctrl-C or SIGTERM asks the run to stop, which it does after the step in hand. ``best_<term>.pt`` holds
    the generators at the epoch whose mean of that term was least (§2.6.3). A resumed run takes the very
    steps the interrupted one would have taken.

    Args:
        output_dir: the run's folder.
        sampler: set to where each epoch begins.
        batch_size: patches in a step.
        resume: go on from ``latest.pt`` if there is one.
        save_minutes: longest time between two saves.
    """

    def __init__(
        self, output_dir: str, sampler: PatchSampler, batch_size: int, resume: bool, save_minutes: float = 15
    ) -> None:
        self.folder = Path(output_dir)
        self.sampler = sampler
        self.batch_size = batch_size
        self.resume = resume
        self.save_seconds = 60 * save_minutes
        self.saved_at = time.monotonic()
        self.sums: dict[str, float] = {}
        self.best: dict[str, float] = {}
        self.position: dict[str, int] = {}
        self.stopped_by: int | None = None

    def attach(self, engine: CycleTrainer) -> None:
        """Register with the trainer."""
        engine.add_event_handler(Events.STARTED, self.started)
        engine.add_event_handler(Events.EPOCH_STARTED, self.epoch_started)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self.iteration_completed)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self.epoch_completed)

    def restore(self, engine: CycleTrainer) -> None:
        """Go on from ``latest.pt`` if ``resume`` is on and it is there.

        Raises:
            InputError: if it is corrupt, of another architecture, or of another number of steps an epoch.
        """
        path = self.folder / LATEST
        for left_behind in path.parent.glob(PARTIAL):  # by a run killed while it saved
            left_behind.unlink()
        if self.resume and path.exists():
            self.load(engine, path)

    def started(self, engine: CycleTrainer) -> None:
        """Say where the run begins, and listen for Ctrl-C and SIGTERM."""
        if self.position:
            # not before: ignite starts anew when it is asked to run an engine that is done
            engine.load_state_dict({**self.position, "max_epochs": engine.state.max_epochs})
            logger.info("resumed after step %d", engine.state.iteration)
        if threading.current_thread() is threading.main_thread():  # a server may train in another one
            for number in (signal.SIGINT, signal.SIGTERM):
                signal.signal(number, self.stop)

    def stop(self, number: int, frame: FrameType | None) -> None:
        """Ask the run to stop after this step; asked again, stop at once."""
        self.stopped_by = number
        signal.signal(number, signal.SIG_DFL)
        drop_broken_pipes()
        with contextlib.suppress(BrokenPipeError):
            print("\nstopping after this step …", file=sys.stderr)

    def epoch_started(self, engine: CycleTrainer) -> None:
        """Point the sampler at this epoch, or at the middle of it after a resume."""
        done = engine.state.iteration % engine.state.epoch_length
        self.sampler.epoch = engine.state.epoch - 1
        self.sampler.start = done * self.batch_size
        if not done:
            self.sums = {}

    def iteration_completed(self, engine: CycleTrainer) -> None:
        """Add to the epoch's sums; save and stop within an epoch if it is time."""
        for name, value in engine.state.output.items():
            self.sums[name] = self.sums.get(name, 0.0) + value
        if self.stopped_by:
            drop_broken_pipes()
        within = engine.state.iteration % engine.state.epoch_length != 0
        if within and (self.stopped_by or time.monotonic() - self.saved_at > self.save_seconds):
            self.save(engine)
            if self.stopped_by:
                engine.terminate()

    def epoch_completed(self, engine: CycleTrainer) -> None:
        """Keep the generators of each term's minimum, then everything."""
        means = {name: value / engine.state.epoch_length for name, value in self.sums.items()}
        for name in engine.objective.terms:
            if means[name] < self.best.get(name, float("inf")):
                self.best[name] = means[name]
                generators = {key: net.state_dict() for key, net in engine.networks.named().items() if key[0] == "g"}
                content = {**generators, "epoch": engine.state.epoch, "value": means[name]}
                save_tensors(content, self.folder / "checkpoints" / f"best_{name}.pt")
        self.save(engine)
        figures = "  ".join(f"{name} {value:.4f}" for name, value in means.items())
        logger.info("epoch %d/%d  %s", engine.state.epoch, engine.state.max_epochs, figures)
        if self.stopped_by:
            engine.terminate()

    def save(self, engine: CycleTrainer) -> None:
        """Write ``latest.pt``."""
        content = {
            "parts": {name: part.state_dict() for name, part in engine.state_parts().items()},
            "iteration": engine.state.iteration,
            "epoch_length": engine.state.epoch_length,
            "sums": self.sums,
            "best": self.best,
            "rng": {"cpu": torch.get_rng_state(), "cuda": torch.cuda.get_rng_state_all()},
        }
        save_tensors(content, self.folder / LATEST)
        self.saved_at = time.monotonic()

    def load(self, engine: CycleTrainer, path: Path) -> None:
        """Take everything from a checkpoint; see :meth:`restore`."""
        content = load_tensors(path)
        if not isinstance(content, dict) or "parts" not in content:
            raise InputError(f"{path} is not a checkpoint of a run; use another --output_dir.")
        if content["epoch_length"] != engine.state.epoch_length:
            raise InputError(
                f"{path} was made with {content['epoch_length']} steps an epoch, this run has "
                f"{engine.state.epoch_length}; resume with the same data, batch_size and patches_per_pair."
            )
        for name, part in engine.state_parts().items():
            state = content["parts"].get(name)
            if state is None:
                raise InputError(f"{path} has no {name}; it is of another method.")
            if isinstance(part, torch.nn.Module):
                load_weights(part, state, path)
            else:
                part.load_state_dict(state)
        self.position = {key: content[key] for key in ("iteration", "epoch_length")}
        self.sums, self.best = content["sums"], content["best"]
        torch.set_rng_state(content["rng"]["cpu"])
        if torch.cuda.is_available() and len(content["rng"]["cuda"]) == torch.cuda.device_count():
            torch.cuda.set_rng_state_all(content["rng"]["cuda"])

    def finish(self) -> None:
        """Last step of a run: say how to go on if it was stopped, with exit code 128 + the signal's number."""
        if self.stopped_by:
            logger.info("stopped; %s is written, --resume true goes on from it", self.folder / LATEST)
            sys.exit(128 + self.stopped_by)


def drop_broken_pipes() -> None:
    """Write to nowhere where the reader of standard output or error is gone.

    Ctrl-C ends the ``tee`` of ``… | tee log`` too; without this the next message would end the run unsaved.
    """
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):  # a stream that is no file has no number
            poll = select.poll()
            poll.register(stream.fileno(), 0)
            if poll.poll(0):
                os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
