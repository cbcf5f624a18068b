"""Threads that wait for each other do not take a core that others want."""

import os
import subprocess
import sys

import pytest

from bundle.common import openmp

WORK = """
import threading, time
import torch
torch.set_num_threads(2)
from bundle.common import openmp

x = torch.ones(2**18)
x.sin()

def spent():
    began = time.process_time()
    for _ in range(25):
        x.sin()
        time.sleep(0.02)
    return time.process_time() - began

"""


def run(code: str, **environment: str) -> list[str]:
    """What a program prints that has PyTorch before anything of ours, and no wish how threads shall wait."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("OMP_", "GOMP_"))}
    call = [sys.executable, "-c", WORK + code]
    return subprocess.run(call, env={**clean, **environment}, capture_output=True, text=True, check=True).stdout.split()


@pytest.mark.skipif(sys.platform != "linux", reason="PyTorch has GNU's OpenMP on Linux alone")
def test_threads_sleep_while_there_is_one_more_team_and_spin_without():
    code = "team = openmp.Team()\nfor wanted in (False, True, True, False):\n    team.hold(wanted)\n    print(spent())"
    spinning, asleep, still, again = map(float, run(code))
    assert max(asleep, still) < min(spinning, again) / 2


WATCHED = """
class Fake(openmp.Team):
    def hold(self, wanted):
        print(wanted, flush=True)

worked = [0.0]

def machine_seconds():
    worked[0] += 1.0 if len(seen) < 2 else 0.0
    seen.append(0)
    return worked[0] + time.process_time()

seen = []
openmp.Team, openmp.machine_seconds, openmp.EVERY_SECONDS, openmp.BUSY = Fake, machine_seconds, 0.2, 1.5
openmp.wait_asleep()
openmp.wait_asleep()
time.sleep(0.7)
print(sum(thread.name == openmp.NAME for thread in threading.enumerate()))
"""


def test_the_team_is_there_while_others_use_the_machine():
    held = run(WATCHED)
    assert held[:3] == ["True", "True", "False"]  # unknown; 1 s in 0.2 s is more than 1.5 cores; nothing
    assert held[-1] == "1"  # though it was asked for twice


@pytest.mark.parametrize(("name", "value"), [("OMP_WAIT_POLICY", "PASSIVE"), ("GOMP_SPINCOUNT", "1000")])
def test_who_says_how_threads_wait_is_obeyed(name, value):
    assert run("openmp.wait_asleep()\nprint(threading.active_count())", **{name: value}) == ["1"]


def test_the_machines_work_is_read_of_its_table(tmp_path, monkeypatch):
    table = tmp_path / "stat"
    table.write_text("cpu  100 20 30 5000 600 1 2 3 40 50\ncpu0 1 2 3 4 5 6 7 8 9 10\n")  # idle 5000, waiting 600
    monkeypatch.setattr(openmp, "STAT", table)
    assert openmp.machine_seconds() * os.sysconf("SC_CLK_TCK") == 100 + 20 + 30 + 1 + 2 + 3
