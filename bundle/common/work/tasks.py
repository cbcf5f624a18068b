"""Work in pieces, each done once and never again after a kill: what is done is marked on disk."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from bundle.common.atomic import write_json
from bundle.common.errors import InputError
from bundle.common.places import is_remote, remote

DONE = "done.json"


@dataclass(frozen=True)
class Task:
    """A piece of work.

    Attributes:
        name: of its folder.
        work: does it, from what earlier tasks left in files, and leaves its result in files; begun again after a kill.
            Returns what is to be remembered of it, plain JSON.
        needs: names of the tasks that must be done before.
        tidy: removes what nothing needs any more once this is done; may find it gone.
        say: what a user is told when it is done, by what is remembered of it; None for nothing.
        on_gpu: whether it goes to workers that offer ``GPU``, if a cluster has such.
    """

    name: str
    work: Callable[[], dict[str, Any]]
    needs: Sequence[str] = ()
    tidy: Callable[[], None] = field(default=lambda: None)
    say: Callable[[Mapping[str, Any]], str | None] = field(default=lambda told: None)
    on_gpu: bool = False


class Marks:
    """Which tasks are done: a folder for each, with a mark in it.

    Args:
        folder: of the tasks.
        over: whether all is done, so that the folder may be gone.
    """

    def __init__(self, folder: Path, over: Callable[[], bool] = lambda: False) -> None:
        self.folder, self.over = folder, over
        self._done: set[str] = set()

    def is_done(self, name: str) -> bool:
        """Whether a task is done, by whomever."""
        if name not in self._done and (self.folder / name / DONE).exists():
            self._done.add(name)
        return name in self._done

    def known(self, names: Collection[str]) -> set[str]:
        """Which of several tasks are done; in an object store by one listing, as each question there takes its time."""
        if is_remote(self.folder):
            marks = remote(self.folder).below()
            self._done |= {name for name in names if f"{name}/{DONE}" in marks}
            return self._done & set(names)
        return {name for name in names if self.is_done(name)}

    def remembered(self, name: str) -> dict[str, Any]:
        """What a task that is done left to be remembered.

        Raises:
            InputError: if the mark is damaged, as a power cut may leave it.
        """
        mark = self.folder / name / DONE
        try:
            told = json.loads(mark.read_text(encoding="utf-8"))
        except (json.JSONDecodeError, UnicodeDecodeError):
            told = None
        if not isinstance(told, dict):
            raise InputError(
                f"{mark} is damaged; remove it and run the same command again, or choose another --output_dir."
            )
        return told

    def do(self, task: Task) -> None:
        """Do a task, unless it is done; it may be, where a worker was taken for dead and was not."""
        if self.is_done(task.name) or self.over():
            return
        try:
            told = task.work()
        except FileNotFoundError:  # another has done it, and what nothing needs any more is gone
            if self.is_done(task.name) or self.over():
                return
            raise
        if not self.over():
            write_json(self.folder / task.name / DONE, told)
            task.tidy()


class Job(Protocol):
    """What is worked off: the same tasks in every process that makes it."""

    @property
    def marks(self) -> Marks:
        """Which tasks are done."""

    def tasks(self) -> Sequence[Task]:
        """All that is to be done; no task needs a later one."""


@dataclass(frozen=True)
class Recipe:
    """How a worker makes the job that this process has.

    Attributes:
        maker: a function of a module, ``MODULE:FUNCTION``, that gives a :class:`Job`.
        given: its arguments, plain JSON.
    """

    maker: str
    given: Mapping[str, Any]
