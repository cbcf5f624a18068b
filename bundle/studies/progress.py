"""How far a study is: a line when a cell begins and ends, and meanwhile what is at work and how long it goes on."""

from __future__ import annotations

import json
import logging
import re
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from bundle.common.work.tasks import DONE
from bundle.studies.cells import BEGUN
from bundle.studies.plan import Cell

logger = logging.getLogger("bundle")
TRAINING = 0.9  # of a cell's time, its training; ours: `make demo` trains 10 minutes and evaluates one
LOOK_SECONDS = 2.0  # between two looks at what cells at work print
SAY_SECONDS = 300.0  # between two lines about it where there is no terminal
LEAST_SHARE = 0.02  # of a cell, that must be done before it is said how long the rest takes
TAIL_BYTES = 4096  # of what a cell prints
STEPS = re.compile(r"(\d+)/(\d+) \[")  # as tqdm shows them
EPOCHS = re.compile(r"epoch (\d+)/(\d+)")


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
        self.begun: list[str] = []
        self.out: list[str] = []
        self._before, self._began = float(len(self._done)), time.monotonic()
        self._next, self._say = 0.0, self._began + SAY_SECONDS
        self._messages = ExitStack()
        self._bar: tqdm | None = None
        if self._done:
            logger.info("%d of %d cells are done already", len(self._done), len(cells))
        if sys.stderr.isatty():
            self._messages.enter_context(logging_redirect_tqdm())
            form = "{percentage:3.0f}%|{bar:8}| {desc}"
            self._bar = tqdm(total=len(cells), bar_format=form, dynamic_ncols=True)

    def look(self) -> int:
        """Tell what has begun and what is done since the last look, and what is at work; so many are done."""
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
        if time.monotonic() >= self._next:
            self._show()
        return len(self._done)

    def failed(self, name: str, why: str) -> None:
        """Tell that a cell failed."""
        self.look()
        self.out.append(name)
        logger.error("%s; %s", why, self._left())

    def close(self) -> None:
        """Leave the bar as it is."""
        if self._bar is not None:
            self._show()
            self._bar.close()
            self._bar = None
        self._messages.close()

    def _show(self) -> None:
        """What cells are doing: on a terminal a line that is always there, elsewhere one now and then."""
        self._next = time.monotonic() + LOOK_SECONDS
        share, doing = self._shares()
        told = "; ".join([f"{len(self._done)} of {len(self._cells)} cells done", self._left(), *doing])
        if self._bar is not None:
            self._bar.n = share
            self._bar.set_description_str(told)
        elif doing and time.monotonic() >= self._say:
            self._say = time.monotonic() + SAY_SECONDS
            logger.info("%s", told)

    def _shares(self) -> tuple[float, list[str]]:
        """How many cells' worth of work is done, and what those at work are doing."""
        share, doing = float(len(self._done)), []
        for name in self.begun:
            if name not in self._done and name not in self.out:
                words, part = doing_of(self._cells[name])
                share += part
                doing.append(f"{name}: {words}")
        return share, doing

    def _left(self) -> str:
        """How many cells are to come, and how long that takes if the rest goes as what is done did."""
        left = len(self._cells) - len(self._done) - len(self.out)
        share = self._shares()[0]
        if not left or share - self._before < LEAST_SHARE:
            return f"{left} left"
        seconds = (time.monotonic() - self._began) / (share - self._before)
        hours, minutes = divmod(round(seconds * (len(self._cells) - len(self.out) - share) / 60), 60)
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


def doing_of(folder: Path) -> tuple[str, float]:
    """What a cell at work is doing.

    Args:
        folder: of the cell; by what it has printed so far.

    Returns:
        In words, and the share of its time that is over, 0 to 1.
    """
    started = _changed(folder / BEGUN)
    task = "evaluation" if _changed(folder / "evaluation.out") >= max(started, 1) else "training"
    path = folder / f"{task}.out"
    text = _tail(path) if _changed(path) >= max(started, 1) else ""
    epochs, steps = EPOCHS.findall(text), STEPS.findall(text)
    share = int(steps[-1][0]) / max(1, int(steps[-1][1])) if steps else 0.0
    if task == "evaluation":
        words = f"evaluation, {steps[-1][0]} of {steps[-1][1]}" if steps else "evaluation begins"
        return words, TRAINING + (1 - TRAINING) * share
    if epochs:
        epoch, total = map(int, epochs[-1])
        return f"training, epoch {epoch} of {total}", TRAINING * max(share, (epoch - 1) / max(1, total))
    return "training begins", 0.0


def _changed(path: Path) -> int:
    return path.stat().st_mtime_ns if path.exists() else 0


def _tail(path: Path) -> str:
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - TAIL_BYTES))
        return file.read().decode(encoding="utf-8", errors="replace")
