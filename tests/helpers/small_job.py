"""A job whose tasks write a file each, or fail."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from bundle.common.errors import InputError
from bundle.common.work.tasks import Marks, Recipe, Task

# by name: what each needs, and what must be mended for it
TASKS: dict[str, tuple[list[str], str]] = {
    "one": ([], ""),
    "ill": (["one"], "ill is 3; it must be 4."),
    "after": (["ill"], ""),
    "last": (["after", "one"], ""),
    "two": (["one"], ""),
}


@dataclass(frozen=True)
class Small:
    """It."""

    folder: Path

    @property
    def marks(self) -> Marks:
        return Marks(self.folder)

    def tasks(self) -> list[Task]:
        return [Task(name, partial(self._do, name, fault), needs) for name, (needs, fault) in TASKS.items()]

    def _do(self, name: str, fault: str) -> dict[str, Any]:
        with (self.folder / "begun.txt").open("a") as file:
            file.write(f"{name}\n")
        if fault:
            raise InputError(fault)
        return {}

    def recipe(self) -> Recipe:
        return Recipe(f"{__name__}:made_again", {"folder": str(self.folder)})


def made_again(folder: str) -> Small:
    """For a worker."""
    return Small(Path(folder))
