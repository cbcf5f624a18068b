"""Who does the work of a run: this process alone, or workers that Dask gives it to."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from tqdm import tqdm

from bundle.common.errors import InputError
from bundle.common.work.tasks import Job, Recipe

if TYPE_CHECKING:
    from bundle.common.work.scheduled import Scheduled

SLURM = "slurm"
MOST = 4  # workers of this machine for each core: each is a process with a network in memory
ADDRESS = re.compile(r"(tcp|tls|ws|wss|ucx)://[^\s/@]+:\d+/?")


class Engine:
    """Works off jobs: task after task in this process, or shared out.

    Args:
        cluster: ``tcp://HOST:PORT`` of a running Dask scheduler, ``slurm``, or None for this machine.
        workers: how many; None for one a GPU on this machine, one where there is none (its threads use all cores),
            and all that there are of a running cluster.

    Raises:
        InputError: if they say nothing that can be done.
    """

    def __init__(self, cluster: str | None = None, workers: int | None = None) -> None:
        if workers is not None and (type(workers) is not int or workers < 1):
            raise InputError(f"workers is {workers!r}; it must be a whole number of at least 1, or be left out.")
        if cluster is not None and cluster != SLURM and not (isinstance(cluster, str) and ADDRESS.fullmatch(cluster)):
            shown = cluster if "@" not in str(cluster) else "…@…"  # a password, perhaps
            raise InputError(f"cluster is {shown!r}; give the address of a Dask scheduler, tcp://HOST:8786, or slurm.")
        if cluster == SLURM and workers is None:
            raise InputError("cluster is slurm, but workers is not set; pass --workers N, at most so many jobs.")
        cores = os.cpu_count() or 1
        if cluster is None and (workers or 1) > MOST * cores:
            raise InputError(
                f"workers is {workers}, but this machine has {cores} cores; ask for {MOST * cores} at most, or name a "
                "--cluster."
            )
        if cluster not in (None, SLURM) and workers is not None:
            raise InputError(
                f"workers is {workers}, but the cluster {cluster} has as many as were started there; leave it out."
            )
        self.cluster, self.workers = cluster, workers
        self._scheduled: Scheduled | None = None

    @property
    def is_alone(self) -> bool:
        """Whether this process does all itself."""
        return self.cluster is None and self._local_workers() == 1

    def _local_workers(self) -> int:
        return self.workers or gpus() or 1

    @contextmanager
    def started(self, modules: Sequence[str] = (), wanted: bool = True) -> Iterator[None]:
        """Have workers meanwhile; they start while the caller goes on.

        Args:
            modules: that they import first.
            wanted: whether there will be anything to do.

        Raises:
            InputError: if there is no such cluster.
        """
        if self.is_alone or not wanted:
            yield
            return
        from bundle.common.work.scheduled import Scheduled  # here, as only this needs Dask

        with Scheduled(self.cluster, self._local_workers(), modules) as self._scheduled:
            try:
                yield
            finally:
                self._scheduled = None

    def work_off(
        self,
        job: Job,
        recipe: Recipe,
        seen: Callable[[], int] = lambda: 0,
        failed: Callable[[str, str], None] | None = None,
    ) -> None:
        """Do all tasks that are not done.

        Args:
            job: whose they are.
            recipe: by which a worker makes the same.
            seen: called now and then while workers are at work, to show how far they are; gives a number that grows.
            failed: called with the name of a task for which something must be mended first, and what; the others go
                on, but for those that need it. None to end with the first.

        Raises:
            InputError: if something must be mended first; what is done stays.
        """
        if self._scheduled is not None:
            self._scheduled.work_off(job, recipe, seen, failed)
            return
        out: set[str] = set()  # what cannot be done
        for task in job.tasks():
            if job.marks.is_done(task.name):
                continue
            if out.intersection(task.needs):
                out.add(task.name)
                continue
            try:
                job.marks.do(task)
            except InputError as error:
                if failed is None:
                    raise
                failed(task.name, str(error))
                out.add(task.name)
                continue
            told = task.say(job.marks.remembered(task.name)) if not job.marks.over() else None
            if told:
                tell(told)


def tell(line: str) -> None:
    """Print a line, on its own also where a bar is shown."""
    tqdm.write(line)


def gpus() -> int:
    """How many GPUs this process may use."""
    import torch  # here, as it takes seconds

    return torch.cuda.device_count()


def share_of_cores(workers: int) -> int:
    """Threads of each of so many workers of this machine."""
    there = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, there // workers)
