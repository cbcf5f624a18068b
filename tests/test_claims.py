"""A claim keeps other processes out, and one that was left behind does not."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time

from bundle.claims import STALE_SECONDS, claimed


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
