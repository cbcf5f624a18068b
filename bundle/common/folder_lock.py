"""One process at a time at work in a folder: a lock of the kernel's, which is gone with the process however it ends."""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from bundle.common.errors import InputError

LOCK = ".lock"
logger = logging.getLogger("bundle")
_held: dict[Path, IO[str]] = {}


def hold(output_dir: str | Path) -> None:
    """Keep other trainings out of a folder; the main process does it for all that share a training.

    The lock is a record lock: processes that load batches, which are forks, do not have it too, so a training that
    was killed can go on at once.

    Args:
        output_dir: is there.

    Raises:
        InputError: if another process holds it.
    """
    from bundle.common import processes  # here, as PyTorch takes seconds

    folder = Path(output_dir).resolve()
    fault = (
        _take(folder, f"output_dir {folder} is in the hands of a training that runs") if processes.is_main() else None
    )
    if processes.any_rank(fault is not None):
        raise InputError(fault or "the first process of this training was refused.")


def release(output_dir: str | Path) -> None:
    """Let others have a folder; does nothing if this process does not hold it."""
    file = _held.pop(Path(output_dir).resolve(), None)
    if file is not None:
        file.close()


@contextmanager
def held(folder: Path, busy: str) -> Iterator[None]:
    """Keep other processes, and other threads of this one, out of a folder.

    Args:
        folder: made if it is not there.
        busy: what to say where another has it, before who that is.

    Raises:
        InputError: if another holds it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    place = folder.resolve()
    fault = f"{busy} (this very process); wait for its end." if place in _held else _take(place, busy)
    if fault:
        raise InputError(fault)
    try:
        yield
    finally:
        release(place)


def freed(folder: str | Path, patience_s: float) -> bool:
    """Wait until no other process holds a folder, as one that was told to stop does while it saves.

    Args:
        folder: may be missing.
        patience_s: to wait at most.

    Returns:
        Whether it is free.
    """
    place, until = Path(folder).resolve(), time.monotonic() + patience_s
    while (place / LOCK).exists():
        if _take(place, "") is None:
            release(place)
            break
        if time.monotonic() > until:
            return False
        time.sleep(0.2)
    return True


def _take(folder: Path, busy: str) -> str | None:
    """Lock a folder; a line that says who has it if it is taken."""
    if folder in _held:
        return None
    try:
        file = os.fdopen(os.open(folder / LOCK, os.O_RDWR | os.O_CREAT, 0o666), "r+", encoding="utf-8")
    except OSError as error:
        return f"{folder / LOCK} cannot be opened ({error.strerror}); if nothing runs there, remove it."
    try:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        who = file.read().strip() or "another process"
        file.close()
        if error.errno not in (errno.EACCES, errno.EAGAIN):
            logger.warning("%s cannot be locked (%s); see that nothing else uses it.", folder, error.strerror)
            return None
        return f"{busy} ({who}); wait for its end, stop it, or choose another --output_dir."
    file.truncate(0)
    file.write(f"process {os.getpid()} on {socket.gethostname()}")
    file.flush()
    _held[folder] = file
    return None
