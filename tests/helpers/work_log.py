"""What processes do for a volume, in a file: each that is asked to writes lines there, and takes its time.

Dask's workers are asked by ``distributed.worker.preload``, and the process of a test by :func:`installed`.
"""

from __future__ import annotations

import os
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

LOG = "VIRTUAL_STAINING_WORK_LOG"  # the file
PACE_S = "VIRTUAL_STAINING_WORK_PACE_S"  # what a slice takes longer, so that a small volume meets several kills
PRELOAD = {"distributed.worker.preload": ["tests.helpers.work_log"]}


def _say(what: str, count: int) -> None:
    job = os.environ.get("SLURM_JOB_ID", "none")
    line = f"{what} {count} {os.getpid()} {job}\n".encode()
    file = os.open(os.environ[LOG], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    try:
        os.write(file, line)  # in one piece, whoever else writes
    finally:
        os.close(file)


@contextmanager
def installed() -> Iterator[None]:
    """Have this process write what it does, where the environment names a file."""
    from bundle.images.volumes.volume import Volume
    from bundle.staining import command, run
    from bundle.staining.slices import SliceStore
    from bundle.staining.stainer import Stainer

    counts: list[tuple[Any, str, Callable[..., tuple[str, int]]]] = [
        (Stainer, "__call__", lambda _, slices, *__: ("stain", len(slices))),
        (SliceStore, "write", lambda _, axis, number, *__: (f"slice-{axis}-{number}", 1)),
        (Volume, "read", lambda _, start, stop: ("read", stop - start)),
        (run, "find_hull", lambda *_: ("hull", 1)),
        (command, "survey", lambda *_: ("survey", 1)),
    ]
    with ExitStack() as stack:
        for owner, name, of in counts:
            stack.enter_context(patch.object(owner, name, _counted(getattr(owner, name), of)))
        yield


def _counted(function: Callable[..., Any], of: Callable[..., tuple[str, int]]) -> Callable[..., Any]:
    def counted(*given: Any) -> Any:
        if LOG in os.environ:
            what, count = of(*given)
            _say(what, count)
            if what == "stain":
                time.sleep(count * float(os.environ.get(PACE_S, 0)))
        return function(*given)

    return counted


def dask_setup(worker: Any) -> None:
    """What Dask calls in a worker that begins."""
    sys.path.insert(0, str(Path(__file__).parents[2]))  # MONAI has put the bundle's own code on the path of a test
    worker.work_log = installed()  # kept, as it undoes all when it is collected
    worker.work_log.__enter__()


@dataclass(frozen=True)
class Done:
    """What a file says.

    Attributes:
        counts: by what was done: slices stained and read, hulls, surveys.
        slices: how often each slice was written.
        most: slices that were stained at once.
        processes: that stained.
        jobs: of SLURM that stained; ``none`` for a process that is in none.
    """

    counts: Counter[str]
    slices: Counter[str]
    most: int
    processes: frozenset[str]
    jobs: frozenset[str]


def read(file: Path) -> Done:
    """What processes have done so far."""
    lines = [line.split() for line in file.read_text().splitlines()] if file.exists() else []
    counts: Counter[str] = Counter()
    for what, count, *_ in lines:
        counts[what] += int(count)
    stained = [line for line in lines if line[0] == "stain"]
    return Done(
        Counter({what: count for what, count in counts.items() if "-" not in what}),
        Counter({what: count for what, count in counts.items() if "-" in what}),
        max((int(line[1]) for line in stained), default=0),
        frozenset(line[2] for line in stained),
        frozenset(line[3] for line in stained),
    )
