"""How far a study is, a line when a cell begins and when it ends."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Sequence
from pathlib import Path

from bundle.common.work.tasks import DONE
from bundle.studies.cells import BEGUN
from bundle.studies.plan import Cell

logger = logging.getLogger("bundle")


class Progress:
    """What a user is told of the cells of a study, by the files that whoever is at work on them leaves.

    Args:
        folder: of the study.
        cells: all of it.

    Attributes:
        begun: names of the cells that were begun meanwhile.
        out: of those that failed.
    """

    def __init__(self, folder: Path, cells: Sequence[Cell]) -> None:
        self._cells = {cell.name: folder / "cells" / cell.name for cell in cells}
        self._places = {name: f"cell {place} of {len(cells)}" for place, name in enumerate(self._cells, 1)}
        self._done = {name for name in self._cells if self._is_done(name)}
        self._seen = {name: self._start(name) for name in self._cells}
        self._before, self._began = len(self._done), time.monotonic()
        self.begun: list[str] = []
        self.out: list[str] = []
        if self._done:
            logger.info("%d of %d cells are done already", len(self._done), len(cells))

    def look(self) -> int:
        """Tell what has begun and what is done since the last look; so many are done."""
        for name in self._cells:
            if name in self._done:
                continue
            start = self._start(name)
            if start != self._seen[name]:
                self._seen[name] = start
                self.begun.append(name)
                logger.info("%s: begins (%s)%s", name, self._places[name], self._by(name))
            if self._is_done(name):
                self._done.add(name)
                logger.info("%s: done%s; %s", name, self._by(name), self._left())
        return len(self._done)

    def failed(self, name: str, why: str) -> None:
        """Tell that a cell failed."""
        self.look()
        self.out.append(name)
        logger.error("%s; %s", why, self._left())

    def _left(self) -> str:
        """How many cells are to come, and how long that takes if they take as long as those before."""
        left, ended = len(self._cells) - len(self._done) - len(self.out), len(self._done) - self._before
        if not left or not ended:
            return f"{left} left"
        seconds = (time.monotonic() - self._began) / ended * left
        hours, minutes = divmod(round(seconds / 60), 60)
        return f"{left} left, about {f'{hours} h ' if hours else ''}{minutes} min"

    def _is_done(self, name: str) -> bool:
        return (self._cells[name] / DONE).exists()

    def _start(self, name: str) -> int:
        """When a cell was begun last, whatever the unit; 0 if never."""
        path = self._cells[name] / BEGUN
        return path.stat().st_mtime_ns if path.exists() else 0

    def _by(self, name: str) -> str:
        """Which worker has a cell, if there are any."""
        path = self._cells[name] / BEGUN
        worker = json.loads(path.read_text(encoding="utf-8"))["worker"] if path.exists() else ""
        return f" on {worker}" if worker else ""
