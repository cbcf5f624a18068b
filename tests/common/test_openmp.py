"""Threads that wait for each other do not take a core while they do."""

import os
import subprocess
import sys

import pytest

WORK = """
import sys, threading, time
import torch
torch.set_num_threads(2)
from bundle.common.openmp import wait_asleep
x = torch.ones(2**18)
x.sin()
if sys.argv[1] == "asleep":
    wait_asleep()
    wait_asleep()
began = time.process_time()
for _ in range(25):
    x.sin()
    time.sleep(0.02)
print(time.process_time() - began, sum(thread.name == "openmp" for thread in threading.enumerate()))
"""


def seconds(how: str, **environment: str) -> tuple[float, int]:
    """Of the processor, for work that takes next to none of it; and teams that were begun for that."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("OMP_", "GOMP_"))}
    run = [sys.executable, "-c", WORK, how]
    spent, teams = subprocess.run(
        run, env={**clean, **environment}, capture_output=True, text=True, check=True
    ).stdout.split()
    return float(spent), int(teams)


@pytest.mark.skipif(sys.platform != "linux", reason="PyTorch has GNU's OpenMP on Linux alone")
def test_threads_sleep_while_they_wait_though_pytorch_was_loaded_before():
    (spinning, none), (asleep, one) = seconds("as it comes"), seconds("asleep")
    assert (none, one) == (0, 1)
    assert asleep < spinning / 2


@pytest.mark.parametrize("name", ["OMP_WAIT_POLICY", "GOMP_SPINCOUNT"])
def test_who_says_how_threads_wait_is_obeyed(name):
    told = {"OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "1000"}
    assert seconds("asleep", **{name: told[name]})[1] == 0
