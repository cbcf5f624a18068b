"""Many workers of Dask that sleep, in few processes: ``python -m scripts.bench.sleepers ADDRESS WORKERS``."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import fire
import psutil

from scripts.bench.patches import HOME

PATIENCE_S = 300.0
QUIET = {  # what would cost a core with 1,024 workers in two processes, and nothing where each has its own machine
    "distributed.admin.system-monitor.interval": "1h",
    "distributed.worker.profile.enabled": False,
    "distributed.worker.memory.terminate": False,
    "distributed.worker.memory.pause": False,
    "distributed.worker.memory.spill": False,
    "distributed.worker.memory.target": False,
}


async def nap(seconds: float, *_: Any) -> None:
    """What a worker does."""
    await asyncio.sleep(seconds)


def sleepers(address: str, workers: int) -> None:
    """Be so many workers, until the scheduler is gone."""
    import dask
    from distributed import Worker

    async def work() -> None:
        folder = tempfile.mkdtemp()
        try:
            options = {"nthreads": 1, "memory_limit": 0, "dashboard": False, "local_directory": folder}
            every = [Worker(address, host="127.0.0.1", **options) for _ in range(workers)]
            for first in range(0, workers, 32):
                await asyncio.gather(*every[first : first + 32])
            await asyncio.gather(*(each.finished() for each in every))
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    with dask.config.set(QUIET):
        asyncio.run(work())


@contextmanager
def cluster(workers: int, processes: int = 2) -> Iterator[tuple[Any, psutil.Process]]:
    """A scheduler and sleeping workers.

    Yields:
        A client, and the process of the scheduler.
    """
    from distributed import Client

    with tempfile.TemporaryDirectory() as folder:
        file, started = Path(folder) / "scheduler.json", []
        environment = {**os.environ, "PYTHONPATH": str(HOME), "OMP_NUM_THREADS": "1"}

        def start(*words: str) -> subprocess.Popen:
            null = subprocess.DEVNULL
            started.append(subprocess.Popen([sys.executable, "-m", *words], env=environment, stdout=null, stderr=null))
            return started[-1]

        options = ("--host", "127.0.0.1", "--port", "0", "--no-dashboard", "--scheduler-file", str(file))
        scheduler = start("distributed.cli.dask_scheduler", *options)
        try:
            while not file.exists():
                time.sleep(0.1)
            with Client(scheduler_file=str(file), set_as_default=False) as client:
                for number in range(processes):
                    share = workers // processes + (number < workers % processes)
                    start("scripts.bench.sleepers", client.scheduler.address, str(share))
                client.wait_for_workers(workers, timeout=PATIENCE_S)
                time.sleep(2)  # until they are quiet
                yield client, psutil.Process(scheduler.pid)
        finally:
            for process in started:
                process.kill()
                process.wait()


if __name__ == "__main__":
    fire.Fire(sleepers)
