"""Who is at work on what: a file in a folder, for any number of processes and machines that share it."""

from __future__ import annotations

import json
import logging
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

logger = logging.getLogger("bundle")

BEAT_SECONDS = 30.0  # between two signs of life of a claim
CLAIM = "claim.json"
STALE_SECONDS = 600.0  # without one, the process is taken for dead


@contextmanager
def claimed(folder: Path) -> Iterator[bool]:
    """Hold a folder, if nobody else does: a file in it that shows a sign of life every half minute.

    Works on any file system that makes files exclusively, so machines can share the work.

    Args:
        folder: made if it is not there.

    Yields:
        Whether it is ours.
    """
    folder.mkdir(parents=True, exist_ok=True)
    claim = folder / CLAIM
    if claim.exists() and _is_stale(claim):
        stale = claim.with_name(f".claim.{socket.gethostname()}.{os.getpid()}")
        try:
            os.rename(claim, stale)  # of several who see it stale, one succeeds
            stale.unlink()
            logger.info("%s was left behind by a process that is gone; going on with it", folder.name)
        except FileNotFoundError:
            pass
    try:
        with claim.open("x", encoding="utf-8") as file:
            json.dump({"host": socket.gethostname(), "pid": os.getpid()}, file)
    except FileExistsError:
        yield False
        return
    over = threading.Event()

    def beat() -> None:
        while not over.wait(BEAT_SECONDS):
            if claim.exists():
                os.utime(claim)

    thread = threading.Thread(target=beat, daemon=True)
    thread.start()
    try:
        yield True
    finally:
        over.set()
        thread.join()
        claim.unlink(missing_ok=True)


def _is_stale(claim: Path) -> bool:
    """Whether who made a claim is gone: its process on this machine, its sign of life on another."""
    try:
        silent = time.time() - claim.stat().st_mtime
        owner = json.loads(claim.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return False
    except json.JSONDecodeError:  # in the middle of being written, or by a process that was killed there
        return silent > BEAT_SECONDS
    if owner["host"] != socket.gethostname():
        return silent > STALE_SECONDS
    return not _is_alive(owner["pid"]) or silent > STALE_SECONDS


def _is_alive(pid: int) -> bool:
    """Whether a process of this machine runs; one that ended and whose parent has not yet noticed does not."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    try:
        state = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0]
    except OSError:  # no Linux
        return True
    return state != "Z"
