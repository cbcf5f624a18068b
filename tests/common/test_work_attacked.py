"""Marks that a power cut damaged, locks that are links, commands that share a cluster without knowing of each other."""

from __future__ import annotations

import os
import subprocess
import sys
import threading

import pytest

from bundle.common import folder_lock
from bundle.common.errors import InputError
from bundle.common.folder_lock import LOCK, held
from bundle.common.work.engine import Engine
from bundle.common.work.scheduled import Scheduled
from bundle.common.work.tasks import DONE
from tests.helpers import dask_commands
from tests.helpers.jobs import Toy
from tests.hospital.orthanc import free_ports

HOLDER = (
    "import fcntl, sys\nfile = open(sys.argv[1], 'r+b'); fcntl.lockf(file, fcntl.LOCK_EX); print('holds', flush=True)"
)
HOLDER += "\nsys.stdin.read()"


@pytest.mark.parametrize("content", [b"", b'{"square"', b"\xff\xfe", b"[1]", b"null"])
def test_a_damaged_mark_is_named(tmp_path, content):
    job = Toy(tmp_path, count=2)
    mark = job.marks.folder / "sum" / DONE
    Engine(workers=1).work_off(job, job.recipe)
    mark.write_bytes(content)
    with pytest.raises(InputError) as raised:
        job.marks.remembered("sum")
    assert str(raised.value).startswith(f"{mark} is damaged; remove it")


def test_two_commands_may_share_a_cluster(tmp_path):
    port, jobs = free_ports(1)[0], [Toy(tmp_path / name, count=3, seconds=0.5) for name in ("one", "two")]

    def work(job: Toy) -> None:
        engine = Engine(f"tcp://127.0.0.1:{port}")
        with engine.started():
            engine.work_off(job, job.recipe)

    with dask_commands.started(port, "only"):
        threads = [threading.Thread(target=work, args=(job,)) for job in jobs]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
    for job in jobs:
        assert sorted(job.begun()) == ["part-0", "part-1", "part-2"]
        assert job.marks.remembered("sum") == {"sum": 5}


@pytest.mark.parametrize("cluster", [None, "slurm"])
def test_a_scheduler_of_our_own_that_is_lost_is_told_in_a_line(cluster):
    with pytest.raises(InputError, match="do not answer any more; the same command goes on"):
        Scheduled(cluster, 2)._come_back()


def test_a_lock_that_is_a_link_does_not_empty_what_it_names(tmp_path):
    precious, folder = tmp_path / "thesis.txt", tmp_path / "run"
    precious.write_text("years of work")
    folder.mkdir()
    (folder / LOCK).symlink_to(precious)
    with pytest.raises(InputError, match=r"\.lock cannot be opened"), held(folder, "busy"):
        pass
    assert precious.read_text() == "years of work"


def test_a_lock_with_any_bytes_is_told_of(tmp_path):
    (tmp_path / LOCK).write_bytes(b"\xff\xfe\x00")
    words = [sys.executable, "-c", HOLDER, str(tmp_path / LOCK)]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout.readline() == "holds\n"
        with pytest.raises(InputError, match="^busy"), held(tmp_path, "busy"):
            pass
        holder.stdin.close()
    with held(tmp_path, "busy"):
        assert (tmp_path / LOCK).read_text().startswith(f"process {os.getpid()} on ")
    assert tmp_path.resolve() not in folder_lock._held


def test_more_workers_than_a_machine_can_bear_are_refused_before_they_start():
    with pytest.raises(InputError, match=rf"workers is 100000, but this machine has {os.cpu_count()} cores; ask for"):
        Engine(workers=100_000)
    assert Engine(workers=2).workers == 2
    assert Engine("slurm", 100_000).workers == 100_000
