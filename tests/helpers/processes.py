"""Processes of this machine, as the kernel lists them."""

from __future__ import annotations

import contextlib
import signal
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


def hears_sigterm(process: int) -> bool:
    """Whether a process has something of its own to do when it is told to end."""
    try:
        lines = Path(f"/proc/{process}/status").read_text(encoding="ascii").splitlines()
    except OSError:  # it has just ended
        return False
    caught = next(line.split()[1] for line in lines if line.startswith("SigCgt:"))
    return bool(int(caught, 16) >> (signal.SIGTERM - 1) & 1)


def wait_for(what: Callable[[], object], seconds: float = 300) -> None:
    """Wait until something is so."""
    until = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < until, "it took too long"
        time.sleep(0.1)
