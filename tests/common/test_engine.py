"""Work is done once whoever does it, whatever dies, and what cannot be done is said in a line."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator

import pytest

from bundle.common.errors import InputError
from bundle.common.work import scheduled
from bundle.common.work.engine import Engine
from tests.conftest import ROOT
from tests.helpers.dask_commands import scheduler, worker
from tests.helpers.jobs import Toy
from tests.helpers.processes import wait_for
from tests.hospital.orthanc import free_ports

SUM = 0 + 1 + 4 + 9 + 16 + 25


@pytest.fixture(scope="module")
def two() -> Iterator[Engine]:
    """Two workers of this machine, started once."""
    engine = Engine(workers=2)
    with engine.started(["tests.helpers.jobs"]):
        yield engine


def go(engine: Engine, job: Toy, started: bool = False) -> None:
    with contextlib.nullcontext() if started else engine.started():
        engine.work_off(job, job.recipe)


def test_alone_each_is_done_once_and_in_order(tmp_path, capsys):
    job = Toy(tmp_path)
    go(Engine(workers=1), job)
    assert job.begun() == [f"part-{number}" for number in range(6)]
    assert job.marks.remembered("sum") == {"sum": SUM}
    assert capsys.readouterr().out == f"sum {SUM}\n"
    go(Engine(workers=1), job)
    assert len(job.begun()) == 6
    assert capsys.readouterr().out == ""


def test_two_workers_do_each_once_and_say_the_same(two, tmp_path, capsys):
    job = Toy(tmp_path, seconds=0.3)
    go(two, job, started=True)
    assert sorted(job.begun()) == [f"part-{number}" for number in range(6)]
    assert f"sum {SUM}\n" in capsys.readouterr().out
    pids = {job.marks.remembered(f"part-{number}")["pid"] for number in range(6)}
    assert len(pids) == 2
    assert os.getpid() not in pids


def test_a_task_that_fails_is_tried_again_and_the_worker_is_named(two, tmp_path, caplog):
    job = Toy(tmp_path, faults=(("part-2", "fails"),))
    go(two, job, started=True)
    assert Counter(job.begun())["part-2"] == 2
    assert job.marks.remembered("sum") == {"sum": SUM}
    told = [record.getMessage() for record in caplog.records if "tried again" in record.getMessage()]
    assert len(told) == 1
    assert told[0].startswith("part-2 failed on worker local-")
    assert "part-2 is of no mood" in told[0]


def test_a_task_that_always_fails_ends_it_with_why(two, tmp_path):
    job = Toy(tmp_path, faults=(("part-2", "broken"),))
    with pytest.raises(
        InputError, match=r"part-2 failed 3 times, last on worker local-\d \(ValueError: part-2 is of no"
    ):
        go(two, job, started=True)
    assert Counter(job.begun())["part-2"] == 3
    assert not (tmp_path / "steps" / "sum").exists()


def test_what_a_user_must_mend_is_told_at_once(two, tmp_path):
    job = Toy(tmp_path, faults=(("part-2", "refused"),))
    with pytest.raises(InputError, match=r"^part-2 is not to be done; leave it out\.$"):
        go(two, job, started=True)
    assert Counter(job.begun())["part-2"] == 1


def test_a_worker_that_dies_costs_what_it_had_in_hand(two, tmp_path):
    job = Toy(tmp_path, seconds=0.2, faults=(("part-1", "dies"),))
    go(two, job, started=True)
    assert Counter(job.begun()) == {**{f"part-{number}": 1 for number in range(6)}, "part-1": 2}
    assert job.marks.remembered("sum") == {"sum": SUM}


def test_a_cluster_by_its_address_whose_scheduler_dies_and_a_worker_that_comes_late(tmp_path, capsys):
    port, job = free_ports(1)[0], Toy(tmp_path, count=40, seconds=0.4)
    engine = Engine(f"tcp://127.0.0.1:{port}")
    with pytest.raises(InputError, match=rf"cluster tcp://127.0.0.1:{port} does not answer; start one there"):
        go(engine, job)
    failed: list[BaseException] = []

    def work() -> None:
        try:
            go(engine, job)
        except BaseException as error:  # told by the test
            failed.append(error)

    done = lambda: len(list((tmp_path / "steps").glob("*/done.json")))
    with contextlib.ExitStack() as first:
        first.enter_context(scheduler(port))
        first.enter_context(worker(port, "early"))
        thread = threading.Thread(target=work)
        thread.start()
        wait_for(lambda: done() >= 5)
    reached = done()
    assert reached < 40
    with scheduler(port), worker(port, "again"):
        wait_for(lambda: done() > reached + 3)
        with worker(port, "late"):
            began, pids = (
                time.monotonic(),
                lambda: {
                    job.marks.remembered(path.parent.name)["pid"]
                    for path in (tmp_path / "steps").glob("part-*/done.json")
                },
            )
            before = len(pids())
            wait_for(lambda: len(pids()) > before)
            assert time.monotonic() - began < 15  # a worker takes seconds to start here
            thread.join(60)
    assert not failed
    assert not thread.is_alive()
    assert job.marks.remembered("sum")["sum"] == sum(number**2 for number in range(40))
    told = capsys.readouterr().out
    assert f"the scheduler tcp://127.0.0.1:{port} is gone; waiting for it, what is done is kept" in told
    assert max(Counter(job.begun()).values()) <= 2  # what was in hand


def test_a_scheduler_that_does_not_come_back_ends_it_in_a_line(tmp_path, monkeypatch):
    monkeypatch.setattr(scheduled, "BACK_SECONDS", 2.0)
    port, job = free_ports(1)[0], Toy(tmp_path, count=40, seconds=0.4)
    raised: list[BaseException] = []

    def work() -> None:
        try:
            go(Engine(f"tcp://127.0.0.1:{port}"), job)
        except InputError as error:
            raised.append(error)

    with scheduler(port), worker(port, "only"):
        thread = threading.Thread(target=work)
        thread.start()
        wait_for(lambda: len(list((tmp_path / "steps").glob("*/done.json"))) >= 2)
    thread.join(60)
    assert "does not answer" in str(raised[0])


@pytest.mark.parametrize(
    ("cluster", "workers", "line"),
    [
        ("localhost", None, "cluster is 'localhost'; give the address of a Dask scheduler, tcp://HOST:8786, or slurm"),
        ("tcp://me:secret@host:1", None, "give the address of a Dask scheduler"),
        ("slurm", None, "cluster is slurm, but workers is not set; pass --workers N, at most so many jobs"),
        (
            "tcp://host:1",
            3,
            "workers is 3, but the cluster tcp://host:1 has as many as were started there; leave it out",
        ),
    ],
)
def test_settings_that_say_nothing_are_refused(cluster, workers, line):
    with pytest.raises(InputError) as raised:
        Engine(cluster, workers)
    assert line in str(raised.value)


def test_slurm_without_what_a_job_asks_for_is_told_what_is_missing():
    with pytest.raises(InputError, match=r"jobqueue\.slurm\.cores and jobqueue\.slurm\.memory of a job is not set"):
        go(Engine("slurm", 2), None)


def test_one_worker_never_imports_dask():
    code = "import sys; import bundle.staining.command; from bundle.common.work.engine import Engine\n"
    code += "with Engine(workers=1).started(): print('distributed' in sys.modules, 'dask' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.split()[-2:] == ["False", "False"]
