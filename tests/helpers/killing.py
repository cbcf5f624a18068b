"""Runs in processes of their own, killed at any moment."""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.helpers.volumes import files_of


def _quietly(target: Callable[..., Any], given: tuple, output_dir: Path) -> None:
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)
    os.dup2(null, 2)
    target(*given, output_dir)


@dataclass(frozen=True)
class Killing:
    """What is run again and again.

    Attributes:
        target: a function of a module, called with ``given`` and the output folder.
        given: what it is given.
        folder: of all output folders.
        mark: glob pattern in an output folder, of what is there once work has begun.
        modules: imported before, in the process that all others are copies of.
    """

    target: Callable[..., Any]
    given: tuple
    folder: Path
    mark: str
    modules: tuple[str, ...]

    def start(self, name: str) -> multiprocessing.Process:
        """Begin one, into an output folder of a name."""
        fork = multiprocessing.get_context("forkserver")
        fork.set_forkserver_preload(["tests.helpers.volumes", *self.modules])
        process = fork.Process(target=_quietly, args=(self.target, self.given, self.folder / name))
        process.start()
        return process

    def undisturbed(self, name: str) -> tuple[float, float]:
        """Let one end.

        Returns:
            Seconds until work has begun, and after that.
        """
        began = time.perf_counter()
        process = self.start(name)
        while process.is_alive() and not any((self.folder / name).glob(self.mark)):
            time.sleep(0.005)
        first = time.perf_counter()
        process.join(300)
        assert process.exitcode == 0
        return first - began, time.perf_counter() - first

    def killed(self, kills: int) -> int:
        """Let one end undisturbed in ``whole``, and another in ``killed`` after kills, one in three while it starts.

        What can be seen of the second is what the first made.

        Returns:
            How many kills met a run that had not ended.
        """
        self.undisturbed("first")  # all is imported,
        self.undisturbed("compiled")  # and kernels are compiled
        before_s, work_s = self.undisturbed("whole")
        rng, met = random.Random(7), 0
        for _ in range(kills):
            at_work = before_s + rng.uniform(0, 2 * work_s / kills)
            process = self.start("killed")
            process.join(at_work if rng.random() > 1 / 3 else rng.uniform(0, before_s))
            process.kill()
            process.join()
            met += process.exitcode == -signal.SIGKILL
            for found in (self.folder / "killed").glob("stained*"):
                assert files_of(found) == files_of(self.folder / "whole" / found.name)
        self.undisturbed("killed")
        return met
