"""One training at a time in a folder: a lock of the kernel's, which is gone with the process however it ends."""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import socket
from pathlib import Path
from typing import IO

from bundle.common import processes
from bundle.common.errors import InputError

LOCK = ".lock"
logger = logging.getLogger("bundle")
_held: dict[Path, IO[str]] = {}


def hold(output_dir: str | Path) -> None:
    """Keep other processes out of a folder; the main process does it for all that share a training.

    The lock is a record lock: processes that load batches, which are forks, do not have it too, so a training that
    was killed can go on at once.

    Args:
        output_dir: is there.

    Raises:
        InputError: if another process holds it.
    """
    fault = _take(Path(output_dir).resolve()) if processes.is_main() else None
    if processes.any_rank(fault is not None):
        raise InputError(fault or "the first process of this training was refused.")


def _take(folder: Path) -> str | None:
    """Lock a folder; a line that says who has it if it is taken."""
    if folder in _held:
        return None
    try:
        file = os.fdopen(os.open(folder / LOCK, os.O_RDWR | os.O_CREAT, 0o666), "r+", encoding="utf-8")
    except OSError as error:
        return f"{folder / LOCK} cannot be opened ({error.strerror}); if no training runs there, remove it."
    try:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        who = file.read().strip() or "another process"
        file.close()
        if error.errno not in (errno.EACCES, errno.EAGAIN):
            logger.warning("%s cannot be locked (%s); see that no other training uses it.", folder, error.strerror)
            return None
        return (
            f"output_dir {folder} is in the hands of a training that runs ({who}); wait for its end, stop it, or "
            "choose another --output_dir."
        )
    file.truncate(0)
    file.write(f"process {os.getpid()} on {socket.gethostname()}")
    file.flush()
    _held[folder] = file
    return None


def release(output_dir: str | Path) -> None:
    """Let others have a folder; does nothing if this process does not hold it."""
    file = _held.pop(Path(output_dir).resolve(), None)
    if file is not None:
        file.close()
