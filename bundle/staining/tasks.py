"""Work in pieces that any number of processes share, each done once, and never again after a kill."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bundle.common.atomic import write_json
from bundle.common.claims import CLAIM, claimed

DONE = "done.json"
WAIT_SECONDS = 1.0  # between two looks at what others are doing
PATIENCE_SECONDS = 20.0  # before a user is told


@dataclass(frozen=True)
class Task:
    """A piece of work.

    Attributes:
        name: of its folder.
        work: does it, from what earlier tasks left in files, and leaves its result in files; begun again after a kill.
            Returns what is to be remembered of it, plain JSON.
        needs: names of the tasks that must be done before.
        tidy: removes what nothing needs any more once this is done; may find it gone.
    """

    name: str
    work: Callable[[], dict[str, Any]]
    needs: Sequence[str] = ()
    tidy: Callable[[], None] = field(default=lambda: None)


class Board:
    """Which tasks are done: a folder for each, with a mark in it.

    Args:
        folder: of the tasks; processes that share it share the work.
        over: whether all is done, so that the folder may be gone.
    """

    def __init__(self, folder: Path, over: Callable[[], bool]) -> None:
        self.folder, self.over = folder, over
        self._done: set[str] = set()

    def is_done(self, name: str) -> bool:
        """Whether a task is done, by whomever."""
        if name not in self._done and (self.folder / name / DONE).exists():
            self._done.add(name)
        return name in self._done

    def remembered(self, name: str) -> dict[str, Any]:
        """What a task that is done left to be remembered."""
        return json.loads((self.folder / name / DONE).read_text(encoding="utf-8"))

    def work_off(self, tasks: Sequence[Task]) -> None:
        """Do tasks in their order until all are done; those that another process has in hand are waited for.

        Args:
            tasks: no task needs a later one.
        """
        waited = 0.0
        while not self.over() and not all(self.is_done(task.name) for task in tasks):
            if any(self._try(task) for task in tasks):
                waited = 0.0
                continue
            time.sleep(WAIT_SECONDS)
            waited += WAIT_SECONDS
            if waited == PATIENCE_SECONDS:
                held = [task.name for task in tasks if (self.folder / task.name / CLAIM).exists()]
                print(f"waiting for other processes, which have {', '.join(held)} in hand", file=sys.stderr)

    def _try(self, task: Task) -> bool:
        """Do a task if it is to be done, can be done and is nobody else's."""
        if self.is_done(task.name) or not all(self.is_done(name) for name in task.needs):
            return False
        with claimed(self.folder / task.name) as ours:
            # since we looked, another may have done it, or all, and removed the marks
            if not ours or self.is_done(task.name) or self.over():
                return False
            write_json(self.folder / task.name / DONE, task.work())
        task.tidy()
        return True
