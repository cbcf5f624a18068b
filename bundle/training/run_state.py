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
from collections.abc import Mapping
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from ignite.engine import Events

from bundle.common import processes
from bundle.common.atomic import PARTIAL
from bundle.common.errors import InputError
from bundle.common.folder_lock import release
from bundle.common.random_state import random_state, set_random_state
from bundle.common.run_folder import LATEST, PREVIOUS, log_end
from bundle.data.datalist import SPLITS, Datalist, name_in
from bundle.data.patches import PatchSampler
from bundle.networks.checkpoints import load_newest, load_weights, save_tensors
from bundle.training.faults import explained
from bundle.training.resumption import INSIST
from bundle.training.trainers import CycleTrainer

logger = logging.getLogger("bundle")
SAME_SECONDS = 5.0  # between two SIGTERM that are one


class RunKeeper:
    """Saves everything a run needs to go on, and goes on from it.

    ``checkpoints/latest.pt`` is written when a run begins, after every epoch, every ``save_minutes`` within
    one, and when Ctrl-C or SIGTERM asks the run to stop, which it does after the step in hand; the one before
    it stays as ``previous.pt``. ``best_<term>.pt`` holds the generators at the epoch whose mean of that term
    was least (§2.6.3). A resumed run takes the very steps the interrupted one would have taken.

    Args:
        output_dir: the run's folder.
        sampler: set to where each epoch begins.
        batch_size: patches in a step.
        resume: go on from ``latest.pt`` if there is one; ``changed``: even if the data have changed.
        save_minutes: longest time between two saves.
        data: what the run trains on, which must be the same when it is resumed with ``true``; None does not compare it.
        parts: what else has a state to keep, with ``state_dict`` and ``load_state_dict``; a checkpoint may
            lack them.
    """

    def __init__(
        self,
        output_dir: str,
        sampler: PatchSampler,
        batch_size: int,
        resume: bool | str,
        save_minutes: float = 15,
        data: Datalist | None = None,
        parts: Mapping[str, Any] | None = None,
    ) -> None:
        self.folder = Path(output_dir)
        self.sampler = sampler
        self.batch_size = batch_size
        self.resume = resume
        self.save_seconds = 60 * save_minutes
        self.saved_at = time.monotonic()
        self.data = {} if data is None else trained_on(data)
        self.parts = dict(parts or {})
        self.sums: dict[str, float] = {}
        self.best: dict[str, float] = {}
        self.position: dict[str, int] = {}
        self.saved_step = 0
        self.asked_by: int | None = None  # a signal that this process got
        self.asked_at: dict[int, float] = {}  # when it came first, by signal
        self.stopped_by: int | None = None  # one that all processes know of

    def attach(self, engine: CycleTrainer) -> None:
        """Register with the trainer."""
        engine.add_event_handler(Events.STARTED, self.started)
        engine.add_event_handler(Events.EPOCH_STARTED, self.epoch_started)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self.iteration_completed)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self.epoch_completed)
        engine.add_event_handler(Events.EXCEPTION_RAISED, self.exception_raised)

    def restore(self, engine: CycleTrainer) -> None:
        """Go on from ``latest.pt`` if ``resume`` is on and it is there, or from ``previous.pt`` if it is corrupt.

        Raises:
            InputError: if both are corrupt, or of another architecture, dataset or number of steps an epoch.
        """
        latest, previous = self.folder / LATEST, self.folder / PREVIOUS
        if processes.is_main():
            for left_behind in latest.parent.glob(PARTIAL):  # by a run killed while it saved
                left_behind.unlink(missing_ok=True)
        if self.resume and (latest.exists() or previous.exists()):
            content, path = load_newest(latest, previous)
            self.load(engine, content, path)
            processes.barrier()
            if path != latest and latest.exists() and processes.is_main():  # not to replace the good one
                os.replace(latest, latest.with_suffix(".pt.corrupt"))

    def started(self, engine: CycleTrainer) -> None:
        """Say where the run begins, and listen for Ctrl-C and SIGTERM."""
        if self.position:
            # not before: ignite starts anew when it is asked to run an engine that is done
            engine.load_state_dict({**self.position, "max_epochs": engine.state.max_epochs})
            if not engine.should_terminate:  # a validation may have found that there is nothing to go on with
                logger.info("resumed after step %d", engine.state.iteration)
        else:
            self.save(engine)
        if threading.current_thread() is threading.main_thread():  # a server may train in another one
            for number in (signal.SIGINT, signal.SIGTERM):
                signal.signal(number, self.stop)

    def stop(self, number: int, frame: FrameType | None) -> None:
        """Ask the run to stop after this step; asked again, stop at once.

        A SIGTERM that follows another within seconds is the same: who started the run told it so, and was gone then.
        """
        if number in self.asked_at:
            if number == signal.SIGTERM and time.monotonic() < self.asked_at[number] + SAME_SECONDS:
                return
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
            return
        self.asked_by, self.asked_at[number] = number, time.monotonic()
        drop_broken_pipes()
        if processes.is_main():
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
        for name, value in {"steps": 1.0, **engine.state.output}.items() if "loss" in engine.state.output else ():
            self.sums[name] = self.sums.get(name, 0.0) + value
        asked = processes.greatest(self.asked_by or int(time.monotonic() - self.saved_at > self.save_seconds))
        if asked > 1:  # no signal that is listened for has number 1
            self.stopped_by = asked
            drop_broken_pipes()
        if asked and engine.state.iteration % engine.state.epoch_length:
            self.save(engine)
            if self.stopped_by:
                engine.terminate()

    def epoch_completed(self, engine: CycleTrainer) -> None:
        """Keep the generators of each term's minimum, then everything."""
        steps = self.sums.get("steps", 0.0)
        means = {name: value / steps for name, value in self.sums.items() if name != "steps"}
        for name in engine.objective.terms:
            if means.get(name, float("inf")) < self.best.get(name, float("inf")):
                self.best[name] = means[name]
                self.save_best(engine, name)
        self.save(engine)
        figures = "  ".join(f"{name} {value:.4f}" for name, value in means.items())
        logger.info("epoch %d/%d  %s", engine.state.epoch, engine.state.max_epochs, figures)
        if self.stopped_by:
            engine.terminate()

    def save_best(self, engine: CycleTrainer, name: str) -> None:
        """Write the generators as ``best_<name>.pt``."""
        content = {**engine.deployable(), "epoch": engine.state.epoch, "value": self.best[name]}
        if processes.is_main():
            save_tensors(content, self.folder / LATEST.parent / f"best_{name}.pt")

    def save(self, engine: CycleTrainer) -> None:
        """Write ``latest.pt``; what it was before becomes ``previous.pt``."""
        parts = {**self.parts, **engine.state_parts()}
        content = {
            "parts": {name: part.state_dict() for name, part in parts.items()},
            "iteration": engine.state.iteration,
            "epoch_length": engine.state.epoch_length,
            "sums": self.sums,
            "best": self.best,
            "data": self.data,
            "rng": processes.every_state(random_state()),
        }
        if processes.is_main():
            save_tensors(content, self.folder / LATEST, self.folder / PREVIOUS)
        self.saved_at, self.saved_step = time.monotonic(), engine.state.iteration

    def load(self, engine: CycleTrainer, content: Any, path: Path) -> None:
        """Take everything from a checkpoint; see :meth:`restore`."""
        if not isinstance(content, dict) or "parts" not in content:
            raise InputError(f"{path} is not a checkpoint of a run; use another --output_dir.")
        parts = engine.state_parts()
        missing = [name for name in (*parts, "data") if name not in {**content, **content["parts"]}]
        if missing:
            raise InputError(
                f"{path} has no {missing[0]}; it is of another method, or of an earlier version of this program."
            )
        changed = changed_data(content["data"], self.data)
        if changed:
            more = f" and {len(changed) - 5} more" if len(changed) > 5 else ""
            what = f"{', '.join(changed[:5])}{more} changed since the run in {self.folder} began"
            if self.resume != INSIST:
                raise InputError(
                    f"{what}; a resumed run would not be the same run: restore it, start another --output_dir, or "
                    f"insist: --resume {INSIST}."
                )
            logger.warning("%s; it goes on with what is there now.", what)
        done = content["iteration"] // content["epoch_length"]
        if done > engine.state.max_epochs:
            raise InputError(f"epochs is {engine.state.max_epochs}, but the run in {self.folder} has done {done}.")
        if content["epoch_length"] != engine.state.epoch_length:
            raise InputError(
                f"{path} was made with {content['epoch_length']} steps an epoch, this run has "
                f"{engine.state.epoch_length}; resume with the same data, batch_size and patches_per_pair."
            )
        for name, part in parts.items():
            if isinstance(part, torch.nn.Module):
                load_weights(part, content["parts"][name], path)
            else:
                part.load_state_dict(content["parts"][name])
        for name, part in self.parts.items():
            if name in content["parts"]:
                part.load_state_dict(content["parts"][name])
        self.position = {key: content[key] for key in ("iteration", "epoch_length")}
        self.saved_step = content["iteration"]
        self.sums, self.best = content["sums"], content["best"]
        set_random_state(content["rng"][processes.rank() % len(content["rng"])])

    def exception_raised(self, engine: CycleTrainer, error: BaseException) -> None:
        """Say in one line what can be said in one, and leave no checkpoint of a run that never took a step.

        Raises:
            BaseException: the error, or what explains it.
        """
        if not self.saved_step and not self.stopped_by and processes.is_main():
            (self.folder / LATEST).unlink(missing_ok=True)
        fault = explained(error, engine, self.folder, self.saved_step)
        log_end(fault)
        raise fault from (error if fault is not error else error.__cause__)

    def finish(self) -> None:
        """Last step of a run: say how to go on if it was stopped, with exit code 128 + the signal's number."""
        release(self.folder)
        self.stopped_by = processes.greatest(self.asked_by or self.stopped_by or 0)  # none ends well if one fails
        if self.stopped_by:
            logger.info("stopped; %s is written, --resume true goes on from it", self.folder / LATEST)
            processes.end(128 + self.stopped_by)
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


def trained_on(data: Datalist) -> dict[str, str]:
    """What a run makes its patches from: checksums of the files, in order, and what their values mean."""
    pairs = (*data.training, *data.validation)
    files = [path for pair in pairs for path in (pair.source, pair.target, pair.mask) if path]
    single = [image for split in SPLITS[:2] for image in data.single.get(split, [])]
    files += [path for image in single for path in (image.path, image.mask) if path]
    sums = {name: data.checksums[name] for name in (name_in(data.folder, path) for path in files)}
    ranges = {"source": data.source, "target": data.target}
    return sums | {f"the declared range of the {side}": f"{kind.low} to {kind.high}" for side, kind in ranges.items()}


def changed_data(before: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    """What of a run's data is not as it was; nothing if either is unknown."""
    if not before or not now:
        return []
    changed = [name for name in [*before, *(set(now) - set(before))] if before.get(name) != now.get(name)]
    return changed or ([] if list(before) == list(now) else ["the order of the training pairs"])
