"""Who is at work on what: a file in a folder, for any number of processes and machines that share it."""

from __future__ import annotations

import fcntl
import json
import logging
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

logger = logging.getLogger("bundle")

BEAT_SECONDS = 30.0  # between two signs of life of a claim
CLAIM = "claim.json"
STALE_SECONDS = 600.0  # without one, the process is taken for dead


@contextmanager
def claimed(folder: Path) -> Iterator[bool]:
    """Hold a folder, if nobody else does: a file in it that shows a sign of life every half minute.

    Machines can share the work on any file system that makes files exclusively. A claim that was left behind is taken
    over only where files can be locked, because only a lock keeps two from doing so at once: the second would remove
    the fresh claim of the first.

    Args:
        folder: made if it is not there.

    Yields:
        Whether it is ours.
    """
    folder.mkdir(parents=True, exist_ok=True)
    claim = folder / CLAIM
    _remove_stale(claim)
    try:
        file = claim.open("x", encoding="utf-8")
    except FileExistsError:
        yield False
        return
    with file:
        json.dump({"host": socket.gethostname(), "pid": os.getpid()}, file)
        file.flush()
        over = threading.Event()

        def beat() -> None:
            while not over.wait(BEAT_SECONDS):
                os.utime(file.fileno())  # not the name, which another may have taken over

        thread = threading.Thread(target=beat, daemon=True)
        thread.start()
        try:
            yield True
        finally:
            over.set()
            thread.join()
            with _locked(file):
                if _is_named(file, claim):
                    claim.unlink(missing_ok=True)


def _remove_stale(claim: Path) -> None:
    """Remove a claim that was left behind; of several who would, one does."""
    try:
        file = claim.open("r+", encoding="utf-8")
    except (FileNotFoundError, PermissionError):  # there is none, or it is another user's
        return
    with file, _locked(file) as locked:
        # while we waited for the lock another may have removed it, and the name may be of a fresh one
        if not _is_named(file, claim) or not _is_stale(claim):
            return
        if not locked:
            logger.warning("%s was left behind and cannot be locked here; remove it if nobody is at work.", claim)
            return
        claim.unlink()
        logger.info("%s was left behind by a process that is gone; going on with it", claim.parent.name)


@contextmanager
def _locked(file: IO[str]) -> Iterator[bool]:
    """Hold the kernel's lock on an open file, waiting for it; yields False on a file system that has none."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX)
    except OSError:
        yield False
        return
    try:
        yield True
    finally:
        fcntl.flock(file, fcntl.LOCK_UN)


def _is_named(file: IO[str], path: Path) -> bool:
    """Whether a name is still that of an open file."""
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False


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
