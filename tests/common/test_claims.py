"""A claim keeps other processes out, and one that was left behind does not."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from contextlib import ExitStack

from bundle.common import claims
from bundle.common.claims import CLAIM, STALE_SECONDS, claimed


def leave_behind(folder, age=0.0):
    """A claim of a process that is gone."""
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    (folder / CLAIM).write_text(json.dumps({"host": socket.gethostname(), "pid": gone.pid}))
    os.utime(folder / CLAIM, (time.time() - age,) * 2)


def test_a_claim_keeps_others_out_until_it_ends(tmp_path):
    with claimed(tmp_path / "cell") as mine:
        with claimed(tmp_path / "cell") as other:
            assert (mine, other) == (True, False)
        assert (tmp_path / "cell" / "claim.json").exists()  # the other left it alone
    with claimed(tmp_path / "cell") as again:
        assert again


def test_a_claim_of_a_process_that_is_gone_is_taken_over(tmp_path):
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    for owner, age, free in (
        ({"host": os.uname().nodename, "pid": gone.pid}, 0, True),
        ({"host": os.uname().nodename, "pid": os.getpid()}, 0, False),
        ({"host": "elsewhere", "pid": 1}, 5, False),
        ({"host": "elsewhere", "pid": 1}, STALE_SECONDS + 5, True),
    ):
        claim = tmp_path / "claim.json"
        claim.write_text(json.dumps(owner))
        os.utime(claim, (time.time() - age,) * 2)
        with claimed(tmp_path) as mine:
            assert mine is free, owner
        claim.unlink(missing_ok=True)


def test_a_process_that_ended_unnoticed_by_its_parent_is_gone(tmp_path):
    child = subprocess.Popen([sys.executable, "-c", "pass"])
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)  # ended, and still a zombie
    (tmp_path / "claim.json").write_text(json.dumps({"host": socket.gethostname(), "pid": child.pid}))
    with claimed(tmp_path) as ours:
        assert ours
    child.wait()


def test_of_two_that_found_one_left_behind_the_slower_does_not_take_the_claim_of_the_faster(tmp_path, monkeypatch):
    leave_behind(tmp_path)
    lock = claims.fcntl.flock
    with ExitStack() as faster:

        def overtaken(file, operation):
            monkeypatch.setattr(claims.fcntl, "flock", lock)
            assert faster.enter_context(claimed(tmp_path)), "it takes over what was left behind"
            lock(file, operation)

        monkeypatch.setattr(claims.fcntl, "flock", overtaken)  # the slower has opened the old claim by then
        fresh = []
        with claimed(tmp_path) as ours:
            assert not ours
            fresh.append((tmp_path / CLAIM).read_text())
        assert json.loads(fresh[0])["pid"] == os.getpid()
        assert (tmp_path / CLAIM).exists(), "the faster still holds it"


def test_many_processes_that_find_one_left_behind_are_never_two(tmp_path):
    leave_behind(tmp_path)
    code = (
        "import sys, time; from pathlib import Path; from bundle.common.claims import claimed\n"
        "folder, start = Path(sys.argv[1]), float(sys.argv[2])\n"
        "time.sleep(max(0, start - time.time()))\n"
        "with claimed(folder) as ours:\n"
        "    print(ours); time.sleep(1 if ours else 0)"
    )
    start = str(time.time() + 1.5)
    words = [sys.executable, "-c", code, str(tmp_path), start]
    running = [subprocess.Popen(words, stdout=subprocess.PIPE, text=True) for _ in range(4)]
    assert sorted(process.communicate()[0].strip() for process in running) == ["False", "False", "False", "True"]


def test_who_slept_too_long_leaves_the_claim_that_another_took(tmp_path, monkeypatch):
    with ExitStack() as sleeper, ExitStack() as other:
        assert sleeper.enter_context(claimed(tmp_path))
        os.utime(tmp_path / CLAIM, (time.time() - STALE_SECONDS - 5,) * 2)
        assert other.enter_context(claimed(tmp_path))
        sleeper.close()
        assert (tmp_path / CLAIM).exists()
        with claimed(tmp_path) as third:
            assert not third


def test_without_locks_nothing_is_taken_over_and_the_file_is_named(tmp_path, monkeypatch, caplog):
    def unsupported(file, operation):
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr(claims.fcntl, "flock", unsupported)
    leave_behind(tmp_path)
    with claimed(tmp_path) as ours:
        assert not ours
    assert f"{tmp_path / CLAIM} was left behind and cannot be locked here; remove it" in caplog.text
    (tmp_path / CLAIM).unlink()
    with claimed(tmp_path) as ours:
        assert ours
    assert not (tmp_path / CLAIM).exists()
