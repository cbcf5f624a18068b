"""Processes of this machine, as the kernel lists them."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from pathlib import Path


def at_work_on(folder: Path) -> list[int]:
    """Processes that have a folder on their command line."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):  # it has just ended
            if str(folder).encode() in path.read_bytes():
                found.append(int(path.parent.name))
    return found


def wait_for(what: Callable[[], object], seconds: float = 120) -> None:
    """Wait until something is so."""
    until = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < until, "it took too long"
        time.sleep(0.1)
