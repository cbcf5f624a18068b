"""The cells of a study as tasks: each trained, then measured, by processes of their own."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import IO, Any

from bundle.common.atomic import write_json
from bundle.common.child import ends_with_parent
from bundle.common.errors import InputError
from bundle.common.folder_lock import freed
from bundle.common.work.tasks import Marks, Recipe, Task
from bundle.common.work.worker import is_wanted, own_name, speaks
from bundle.studies.plan import Cell, has_baselines

STOPPED = (128 + signal.SIGINT, 128 + signal.SIGTERM)  # how a training ends that was told to stop
BEGUN = "begun.json"  # in a cell's folder: who is at work on it, or was last
LOOK_SECONDS = 0.5  # between two looks whether a cell is still wanted
SAVING_SECONDS = 600.0  # that a training which was told to stop may take to save


@dataclass(frozen=True)
class Cells:
    """What is to be done of a study.

    Attributes:
        folder: of the study.
        dataset_dir: the dataset of every cell.
        cells: the plan.
        evaluation_ids: set in every evaluation.
        home: the folder that has ``configs/``, in which all commands run.
        report: called in this process when it begins a cell, and now and then while that is at work.
    """

    folder: Path
    dataset_dir: str
    cells: Sequence[Cell]
    evaluation_ids: Mapping[str, Any]
    home: Path
    report: Callable[[], Any] = lambda: None

    @property
    def marks(self) -> Marks:
        """Which cells are done: the mark is the record of a cell."""
        return Marks(self.folder / "cells")

    def tasks(self) -> list[Task]:
        """One a cell."""
        return [Task(cell.name, partial(self.run, cell), on_gpu=True) for cell in self.cells]

    def recipe(self) -> Recipe:
        """By which a worker makes the same."""
        given = {"folder": str(self.folder.absolute()), "dataset_dir": self.dataset_dir, "home": str(self.home)}
        plan = [asdict(cell) for cell in self.cells]
        return Recipe(f"{__name__}:made_again", {**given, "cells": plan, "evaluation_ids": self.evaluation_ids})

    def run(self, cell: Cell) -> dict[str, Any]:
        """Train and measure one cell; a training that was cut short goes on.

        Returns:
            Its record.

        Raises:
            InputError: if one of its commands fails.
        """
        if not (self.home / "configs").is_dir():
            raise InputError(f"{cell.name}: worker {own_name()} does not see {self.home}; start it where that is.")
        folder = self.marks.folder / cell.name
        folder.mkdir(parents=True, exist_ok=True)
        freed(folder, SAVING_SECONDS)  # of a training that was told to stop, by whoever began it
        write_json(folder / BEGUN, {"worker": own_name(), "host": socket.gethostname(), "pid": os.getpid()})
        self.report()
        began, minutes = time.monotonic(), {}
        first = next(other for other in self.cells if other.data == cell.data)
        asked = {"eval_baselines": cell is first} if has_baselines(self.home / cell.evaluation) else {}
        for task, ids in (("training", {"resume": True}), ("evaluation", {**asked, **self.evaluation_ids})):
            printed = folder / f"{task}.out"
            with printed.open("a", encoding="utf-8") as out:
                code = _run(cell.command(task, self.dataset_dir, folder, **ids), self.home, out, self.report)
            if code in STOPPED and speaks():
                raise KeyboardInterrupt
            if code:
                said = [
                    line
                    for line in printed.read_text(encoding="utf-8", errors="replace").splitlines()
                    if line.startswith("error:")
                ]
                why = said[-1] if said else f"ended with code {code}"
                raise InputError(f"{cell.name}: {task}: {why}; see {printed}")
            minutes[task] = (time.monotonic() - began) / 60
            began = time.monotonic()
        return {"variant": cell.variant, "datalist": cell.datalist, "fold": cell.fold, "seed": cell.seed, **minutes}


def made_again(
    folder: str,
    dataset_dir: str,
    home: str,
    cells: Sequence[Mapping[str, Any]],
    evaluation_ids: Mapping[str, Any],
) -> Cells:
    """What :meth:`Cells.recipe` describes."""
    plan = [Cell(**{**cell, "overlays": tuple(cell["overlays"])}) for cell in cells]
    return Cells(Path(folder), dataset_dir, plan, evaluation_ids, Path(home))


def _run(command: Sequence[str], home: Path, out: IO[str], report: Callable[[], Any]) -> int:
    """Run a command and give its exit code; it is told to stop, once, where we are, and ends when it has saved.

    Args:
        command: its words.
        home: where it runs.
        out: what it prints goes there.
        report: called now and then meanwhile.

    Raises:
        KeyboardInterrupt: if this process was told to stop.
        RuntimeError: if nobody wants the result any more.
    """
    # a session of its own: what a terminal sends to all would reach it twice, and at the second it does not save
    with subprocess.Popen(
        command,
        cwd=home,
        stdout=out,
        stderr=subprocess.STDOUT,
        preexec_fn=ends_with_parent(),
        start_new_session=True,
    ) as process:
        try:
            while True:
                try:
                    return process.wait(LOOK_SECONDS)
                except subprocess.TimeoutExpired:
                    if not is_wanted():
                        raise RuntimeError("nobody waits for it any more") from None
                    report()
        except BaseException:
            process.terminate()
            process.wait()  # ``Popen`` itself does not, after Ctrl-C
            raise
