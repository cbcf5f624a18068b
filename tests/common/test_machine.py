"""How many threads may compute: as PyTorch counts them."""

import os
import subprocess
import sys

import pytest

from bundle.common.errors import InputError
from bundle.common.machine import cores
from tests.conftest import ROOT


@pytest.mark.parametrize(("told", "count"), [("1", 1), ("3", 3), (" 2 ", 2), ("4,2", 4)])
def test_what_openmp_is_told_counts(monkeypatch, told, count):
    monkeypatch.setenv("OMP_NUM_THREADS", told)
    assert cores() == count


@pytest.mark.parametrize("told", ["0", "-1", "many", "1.5"])
def test_what_is_no_number_of_threads_is_refused(monkeypatch, told):
    monkeypatch.setenv("OMP_NUM_THREADS", told)
    with pytest.raises(InputError, match=f"OMP_NUM_THREADS is '{told}'; it must be a whole number above 0, or be left"):
        cores()


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system binds no process to cores")
def test_without_it_the_cores_of_the_process_count():
    said = (
        "import os; from bundle.common.machine import cores; print(cores()); "
        "os.sched_setaffinity(0, {min(os.sched_getaffinity(0))}); print(cores())"
    )
    environment = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
    done = subprocess.run([sys.executable, "-c", said], cwd=ROOT, env=environment, capture_output=True, check=True)
    assert done.stdout.split() == [str(len(os.sched_getaffinity(0))).encode(), b"1"]
