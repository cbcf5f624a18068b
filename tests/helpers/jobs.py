"""A small job for engines: tasks that leave a line in a file each time they are begun, and do as they are told."""

from __future__ import annotations

import os
import signal
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from bundle.common.errors import InputError
from bundle.common.work.tasks import Marks, Recipe, Task


@dataclass(frozen=True)
class Toy:
    """So many tasks side by side, and one that adds up what they left.

    Attributes:
        folder: of files and marks.
        count: of tasks.
        seconds: that each takes.
        faults: what happens in a task, by its name: ``dies`` (its process, the first time), ``fails`` (the first time),
            ``broken`` (always), ``refused`` (an input error).
    """

    folder: Path
    count: int = 6
    seconds: float = 0.0
    faults: tuple[tuple[str, str], ...] = ()

    @property
    def marks(self) -> Marks:
        return Marks(self.folder / "steps")

    @property
    def recipe(self) -> Recipe:
        given = {"folder": str(self.folder), "count": self.count, "seconds": self.seconds, "faults": self.faults}
        return Recipe("tests.helpers.jobs:toy", given)

    def tasks(self) -> list[Task]:
        names = [f"part-{number}" for number in range(self.count)]
        parts = [Task(name, partial(self._part, name, number)) for number, name in enumerate(names)]
        return [*parts, Task("sum", self._sum, names, say=lambda told: f"sum {told['sum']}")]

    def begun(self) -> list[str]:
        """Names of tasks in the order in which they were begun, by whomever."""
        log = self.folder / "log"
        return log.read_text().split() if log.exists() else []

    def _part(self, name: str, number: int) -> dict[str, Any]:
        before = self.begun().count(name)
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / "log").open("a") as log:
            log.write(f"{name}\n")
        fault = dict(self.faults).get(name)
        if fault == "dies" and not before:
            os.kill(os.getpid(), signal.SIGKILL)
        if (fault == "fails" and not before) or fault == "broken":
            raise ValueError(f"{name} is of no mood")
        if fault == "refused":
            raise InputError(f"{name} is not to be done; leave it out.")
        time.sleep(self.seconds)
        (self.folder / name).write_text(str(number**2))
        return {"square": number**2, "pid": os.getpid()}

    def _sum(self) -> dict[str, Any]:
        return {"sum": sum(int((self.folder / f"part-{number}").read_text()) for number in range(self.count))}


def toy(folder: str, count: int, seconds: float, faults: list[list[str]]) -> Toy:
    """The maker of its recipe."""
    return Toy(Path(folder), count, seconds, tuple((name, fault) for name, fault in faults))
