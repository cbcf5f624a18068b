"""One process at a time at work in a folder: a lock of the kernel's, which is gone with the process however it ends."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import logging
import os
import shutil
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from bundle.common.errors import InputError

LOCK = ".lock"
WAY = "wait for its end, stop it, or choose another --output_dir."
TRIES = 1000
logger = logging.getLogger("bundle")
_held: dict[Path, IO[str]] = {}
_one = threading.Lock()  # a thread at a time asks, as the kernel tells processes apart and not threads


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

    folder, fault = Path(output_dir).resolve(), None
    if processes.is_main():
        with _one:
            if folder not in _held:
                fault = _take(folder, f"output_dir {folder} is in the hands of a training that runs", WAY)
    if processes.any_rank(fault is not None):
        raise InputError(fault or "the first process of this training was refused.")


def release(output_dir: str | Path) -> None:
    """Let others have a folder; does nothing if this process does not hold it."""
    with _one:
        file = _held.pop(Path(output_dir).resolve(), None)
        if file is not None:
            file.close()


@contextmanager
def held(
    folder: Path, busy: str, way: str = WAY, fault: type[InputError] = InputError, mode: int = 0o777
) -> Iterator[None]:
    """Keep other processes, and other threads of this one, out of a folder; if nothing is in it at the end, it goes.

    Args:
        folder: made if it is not there.
        busy: what to say where another has it, before who that is.
        way: what to say after that.
        fault: what is raised then.
        mode: rights of a folder that is made.

    Raises:
        InputError: if another holds it, of the kind that is given.
    """
    place = folder.resolve()
    with _one:
        said = f"{busy} (this very process); {way}" if place in _held else _take(place, busy, way, mode)
    if said:
        raise fault(said)
    try:
        yield
    finally:
        _leave(place)


def empty(folder: Path) -> None:
    """Remove all that is in a folder which this process holds, but the lock."""
    for path in folder.iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        elif path.name != LOCK:
            path.unlink()


def freed(folder: str | Path, patience_s: float) -> bool:
    """Wait until no other process holds a folder, as one that was told to stop does while it saves.

    Args:
        folder: may be missing.
        patience_s: to wait at most.

    Returns:
        Whether it is free.
    """
    until = time.monotonic() + patience_s
    while (Path(folder) / LOCK).exists():
        with contextlib.suppress(InputError), held(Path(folder), ""):
            return True
        if time.monotonic() > until:
            return False
        time.sleep(0.2)
    return True


def _leave(folder: Path) -> None:
    """Let others have a folder; one that is empty goes."""
    with contextlib.suppress(OSError):  # it is gone with all that was in it
        if [path.name for path in folder.iterdir()] == [LOCK]:
            (folder / LOCK).unlink()  # while it is ours, so that who opened it before finds it gone
    release(folder)
    with contextlib.suppress(OSError):  # something is in it, or another has come
        folder.rmdir()


def _take(folder: Path, busy: str, way: str, mode: int = 0o777) -> str | None:
    """Lock a folder that this process has not; a line that says who has it if it is taken."""
    for _ in range(TRIES):
        try:
            with contextlib.suppress(FileExistsError):
                folder.mkdir(mode=mode, parents=True)  # each time, as who leaves it may remove it
            asked = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW  # a link would have the file that it names emptied
            file = os.fdopen(os.open(folder / LOCK, asked, 0o666), "r+", encoding="utf-8", errors="replace")
        except FileNotFoundError:
            continue
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
            return f"{busy} ({who}); {way}"
        if _is_named(file, folder / LOCK):
            file.truncate(0)
            file.write(f"process {os.getpid()} on {socket.gethostname()}")
            file.flush()
            _held[folder] = file
            return None
        file.close()  # whoever had it has removed it since it was opened
    return f"{folder / LOCK} is there and gone again; if nothing runs there, remove {folder}."


def _is_named(file: IO[str], path: Path) -> bool:
    """Whether a name is still that of an open file."""
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False
