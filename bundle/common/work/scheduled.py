"""Tasks of a job given to a Dask cluster: begun again where a worker fails or is gone, and after a scheduler too."""

from __future__ import annotations

import json
import logging
import time
import uuid
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from bundle.common.errors import InputError
from bundle.common.work import worker
from bundle.common.work.clusters import LOCAL, drop, has_dashboard, join, see_slurm, start
from bundle.common.work.engine import SLURM, tell
from bundle.common.work.tasks import Job, Recipe, Task

EVERY_SECONDS = 0.1  # that what is done is looked at
SHOWN_SECONDS = 0.5
TRIES = 3  # of a task without any progress
PATIENCE_SECONDS = 20.0  # without a worker, before a user is told
BACK_SECONDS = 300.0  # that a scheduler which is gone is waited for
logger = logging.getLogger("bundle")


class _LostError(Exception):
    """The scheduler is gone."""


class Scheduled:
    """A cluster, from where it is started until it is left.

    Args:
        cluster: as of :class:`bundle.common.work.engine.Engine`.
        workers: how many, of a cluster that is started.
        modules: that workers import first.
    """

    def __init__(self, cluster: str | None, workers: int, modules: Sequence[str] = ()) -> None:
        self.cluster, self.workers, self.modules = cluster, workers, list(modules)
        self._client: Any = None
        self._enter = _as_it_is(worker.enter)
        self._number = 0  # of submissions, so that no two have one key
        self._own = uuid.uuid4().hex  # nor one that another command gives to the same cluster

    def __enter__(self) -> Scheduled:
        if self.cluster == SLURM:
            see_slurm()
        self._aside = ThreadPoolExecutor(1, "cluster")
        self._starting = self._aside.submit(start, self.cluster, self.workers)
        if self.cluster not in (None, SLURM):
            self._starting.result()  # so that a wrong address is told at once
        self._aside.submit(self._warm)
        return self

    def _warm(self) -> None:
        """Have the workers that are there import what they need."""
        client, _ = self._starting.result()
        if self.modules:
            client.run(self._enter, str(worker.ROOT), "warm", self.modules, on_error="ignore")

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._aside.shutdown(wait=False, cancel_futures=True)
        client, own = self._starting.result()
        if kind is not None and own is not None:
            drop(own)
        for each, patience_s in ((self._client or client, 5), (own, 10)):
            if each is not None:
                each.close(timeout=patience_s)

    def work_off(
        self,
        job: Job,
        recipe: Recipe,
        seen: Callable[[], int],
        failed: Callable[[str, str], None] | None = None,
    ) -> None:
        """As :meth:`bundle.common.work.engine.Engine.work_off`."""
        self._client, _ = self._starting.result()
        self._tell()
        watch = _Watch(seen, failed)
        while True:
            try:
                _Round(self._client, self._submit, job, worker.packed(recipe), watch).go()
                return
            except _LostError:
                self._come_back()

    def _tell(self) -> None:
        there = len(self._client.scheduler_info(n_workers=-1)["workers"])
        board = f"; dashboard: {self._client.dashboard_link}" if self.cluster is not None or has_dashboard() else ""
        tell(f"{there} worker{'s' * (there != 1)}{board}")

    def _submit(self, recipe: str, task: Task, needs: Sequence[Any], place: int, resources: dict[str, int]) -> Any:
        self._number += 1
        return self._client.submit(
            self._enter,
            str(worker.ROOT),
            "do",
            [str(worker.ROOT), recipe, task.name],
            *needs,
            key=f"{task.name}-{self._number}-{self._own}",
            priority=-place,
            resources=resources or None,
            pure=False,
        )

    def _come_back(self) -> None:
        """Wait for the scheduler, and join it again.

        Raises:
            InputError: if it stays away, or was one of this process.
        """
        if self.cluster in (None, SLURM):
            raise InputError("the workers of this command do not answer any more; the same command goes on.")
        tell(f"the scheduler {self.cluster} is gone; waiting for it, what is done is kept")
        self._client.close(timeout=1)
        until = time.monotonic() + BACK_SECONDS
        while True:
            try:
                self._client = join(self.cluster, 5)
                return
            except InputError:
                if time.monotonic() > until:
                    raise
                time.sleep(1)


class _Watch:
    """What a user sees, and whether anything goes on.

    Args:
        seen: as of :meth:`bundle.common.work.engine.Engine.work_off`.
        failed: likewise.
    """

    def __init__(self, seen: Callable[[], int], failed: Callable[[str, str], None] | None) -> None:
        self._seen, self._next = seen, 0.0
        self.failed = failed
        self.reached = 0
        self.out: set[str] = set()  # tasks that cannot be done

    def look(self) -> None:
        """Show how far it is, now and then."""
        if time.monotonic() >= self._next:
            self.reached = self._seen()
            self._next = time.monotonic() + SHOWN_SECONDS


class _Round:
    """All that is left of a job, with one client, until it is done or the scheduler is gone."""

    def __init__(self, client: Any, submit: Callable[..., Any], job: Job, recipe: str, watch: _Watch) -> None:
        self.client, self.submit, self.job, self.recipe, self.watch = client, submit, job, recipe, watch
        self.tasks = [task for task in job.tasks() if not (job.marks.is_done(task.name) or task.name in watch.out)]
        self.places = {task.name: place for place, task in enumerate(self.tasks)}
        self.futures: dict[str, Any] = {}
        self.tries: Counter[str] = Counter()
        self._reached = 0  # when a task failed last
        self._waited = time.monotonic()
        self._told = False

    def go(self) -> None:
        """Work it off.

        Raises:
            InputError: if something must be mended first.
            _LostError: if the scheduler is gone.
        """
        try:
            self._give(self.tasks)
            left = {task.name: task for task in self.tasks}
            while left:
                self._see_connected()
                failed = [task for task in left.values() if self.futures[task.name].status == "error"]
                for name in [name for name in left if self.futures[name].status == "finished"]:
                    self._say(left.pop(name))
                if failed:
                    self._give(self._note(failed))
                    left = {name: task for name, task in left.items() if name not in self.watch.out}
                self.watch.look()
                self._see_workers()
                time.sleep(EVERY_SECONDS)
            self.watch.look()
        finally:
            if self.client.status == "running":
                self.client.cancel([each for each in self.futures.values() if each.status == "pending"])

    def _give(self, tasks: Sequence[Task]) -> None:
        offers = {name for each in self._workers() for name in each.get("resources", {})}
        for task in tasks:
            needs = [self.futures[name] for name in task.needs if name in self.futures]
            resources = {"GPU": 1} if task.on_gpu and "GPU" in offers else {}
            self.futures[task.name] = self.submit(self.recipe, task, needs, self.places[task.name], resources)

    def _workers(self) -> list[dict[str, Any]]:
        try:
            return list(self.client.scheduler_info(n_workers=-1)["workers"].values())
        except (OSError, TimeoutError) as error:  # it does not answer
            raise _LostError from error

    def _see_connected(self) -> None:
        if self.client.status != "running" or any(
            each.status in ("cancelled", "lost") for each in self.futures.values()
        ):
            raise _LostError

    def _see_workers(self) -> None:
        """Say so, once, if nobody is there to work."""
        if self._told or time.monotonic() < self._waited + PATIENCE_SECONDS:
            return
        self._waited = time.monotonic()
        if not self._workers():
            tell("no worker has come yet; waiting for one")
            self._told = True

    def _say(self, task: Task) -> None:
        told = None if self.job.marks.over() else task.say(self.job.marks.remembered(task.name))
        if told:
            tell(told)

    def _note(self, failed: Sequence[Task]) -> list[Task]:
        """Judge why tasks failed: those that need what failed fail with it, so each failure is looked at once.

        Returns:
            Those to try again.

        Raises:
            InputError: if trying again is of no use, and the others are not to go on.
        """
        whole: dict[str, dict[str, Any]] = {}
        of: dict[str, str] = {}  # the task that failed, by those that failed with it
        for task in failed:
            error = self.futures[task.name].exception()
            told = _failure(error, task.name)
            whole.setdefault(told["task"], told)
            of[task.name] = told["task"]
        self.watch.look()
        if self.watch.reached > self._reached:
            self.tries.clear()
            self._reached = self.watch.reached
        for name, told in whole.items():
            if told["line"]:
                if told["worker"] and not told["worker"].startswith(LOCAL):  # where things may be other than here
                    told["line"] = f"{told['line']} (said by worker {told['worker']})"
                if self.watch.failed is None:
                    raise InputError(told["line"])
                self.watch.failed(name, told["line"])
                continue
            self.tries[name] += 1
            last = told["trace"].strip().splitlines()[-1]
            if self.tries[name] == TRIES:
                logger.error("%s on worker %s:\n%s", name, told["worker"], told["trace"])
                raise InputError(
                    f"{name} failed {TRIES} times, last on worker {told['worker']} ({last}); the same command goes on "
                    "when that is mended."
                )
            logger.warning("%s failed on worker %s (%s); it is tried again", name, told["worker"], last)
        self.watch.out.update(task.name for task in failed if whole[of[task.name]]["line"])
        return [task for task in failed if task.name not in self.watch.out]


def _failure(error: Any, name: str) -> dict[str, Any]:
    """What a worker said, or what Dask says of workers that died with a task."""
    try:
        told = json.loads(str(error))
        if isinstance(told, dict) and {"task", "worker", "line", "trace"} <= told.keys():
            return told
    except ValueError:
        pass
    last = getattr(error, "last_worker", None)
    return {
        "task": name,
        "worker": getattr(last, "name", "?"),
        "line": None,
        "trace": f"{type(error).__name__}: {error}",
    }


class _AsItIs:
    """A function that is sent with its code, so that whoever passes it on need not have its module."""

    def __init__(self, code: bytes, name: str) -> None:
        self._code, self.__name__ = code, name

    def __reduce__(self) -> tuple[Any, ...]:
        import cloudpickle

        return cloudpickle.loads, (self._code,)

    def __call__(self, *_: Any) -> None:
        raise TypeError("it is called where it was sent to")


def _as_it_is(function: Callable[..., Any]) -> _AsItIs:
    import cloudpickle

    cloudpickle.register_pickle_by_value(worker)
    try:
        return _AsItIs(cloudpickle.dumps(function), function.__name__)
    finally:
        cloudpickle.unregister_pickle_by_value(worker)
