"""Schedulers and workers of Dask as processes of their own, as a user starts them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress


@contextmanager
def dask(*words: str) -> Iterator[subprocess.Popen]:
    """A command of Dask, in a session of its own, killed at the end with all that it started."""
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "cwd": "/"}
    process = subprocess.Popen([sys.executable, "-m", "dask", *words], start_new_session=True, **quiet)
    try:
        yield process
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def scheduler(port: int) -> AbstractContextManager[subprocess.Popen]:
    """One that listens on loopback."""
    return dask("scheduler", "--host", "127.0.0.1", "--port", str(port), "--no-dashboard")


def worker(port: int, name: str) -> AbstractContextManager[subprocess.Popen]:
    """One with its nanny, which starts it anew when it dies."""
    return dask("worker", f"tcp://127.0.0.1:{port}", "--nthreads", "1", "--name", name, "--no-dashboard")


@contextmanager
def started(port: int, *names: str) -> Iterator[ExitStack]:
    """A scheduler and workers.

    Yields:
        What ends them, and what others can be added to.
    """
    with ExitStack() as stack:
        stack.enter_context(scheduler(port))
        for name in names:
            stack.enter_context(worker(port, name))
        yield stack
