"""SLURM of this machine's own, and Dask's workers as its jobs."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import dask
import pytest
import yaml
from dask_jobqueue import SLURMCluster
from distributed import Client

from tests.conftest import ROOT
from tests.helpers.slurm import REQUIRED, Slurm, needs_slurm

DOC = ROOT / "docs" / "scale.md"


def documented() -> dict:
    """The example of ``jobqueue.yaml`` in the documentation, but for the network that nodes have."""
    (example,) = re.findall(r"```yaml\n(jobqueue:.*?)```", DOC.read_text(encoding="utf-8"), re.S)
    given = yaml.safe_load(re.sub(r"interface: \w+", "interface: lo", example))["jobqueue"]["slurm"]
    return {f"jobqueue.slurm.{name}": value for name, value in given.items()}


@pytest.fixture
def slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Slurm]:
    needs_slurm()
    with Slurm(tmp_path_factory.mktemp("slurm")) as running:
        yield running


def until_there(path: Path) -> str:
    """What a job writes, once it has."""
    end = time.monotonic() + 30
    while not (path.exists() and path.read_text()):
        assert time.monotonic() < end, path
        time.sleep(0.05)
    return path.read_text()


def test_a_job_runs_with_what_it_asked_for_and_nothing_is_left(slurm, tmp_path):
    script = 'echo $SLURM_CPUS_PER_TASK of $SLURMD_NODENAME, GPU $CUDA_VISIBLE_DEVICES > "$1.part"; mv "$1.part" "$1"'
    (tmp_path / "job.sh").write_text(f"#!/bin/sh\n{script}\n")
    given = ["--partition=gpu", "--cpus-per-task=3", "--gpus=1", "--output=/dev/null"]
    slurm.asked("sbatch", *given, str(tmp_path / "job.sh"), str(tmp_path / "said"))
    assert until_there(tmp_path / "said") == "3 of node, GPU 0\n"
    slurm.asked("sbatch", "--output=/dev/null", "--wrap", f"echo $$ > {tmp_path}/long; sleep 1000")
    number = int(until_there(tmp_path / "long"))
    assert len(slurm.processes()) >= 4  # three daemons and a job
    slurm.stop()
    assert slurm.processes() == []
    assert subprocess.run(["ps", "-o", "stat=", str(number)], capture_output=True, text=True).stdout[:1] in ("", "Z")
    assert os.environ.get("SLURM_CONF") != str(slurm.conf)


def test_workers_of_the_documented_configuration_are_jobs_with_a_gpu_each(slurm, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # for the logs
    with dask.config.set(documented()):
        cluster = SLURMCluster(python=sys.executable, scheduler_options={"dashboard_address": ":0"})
        with cluster, Client(cluster, set_as_default=False) as client:
            cluster.scale(jobs=2)
            client.wait_for_workers(2, timeout=60)
            own = {"CUDA_VISIBLE_DEVICES", "SLURM_JOB_ID", "SLURM_JOB_ACCOUNT"}
            told = client.run(lambda: {name: os.environ.get(name) for name in own})
            assert {each["CUDA_VISIBLE_DEVICES"] for each in told.values()} == {"0", "1"}
            assert {each["SLURM_JOB_ID"] for each in told.values()} == set(slurm.jobs())
            assert client.submit(sum, [1, 2], resources={"GPU": 1}).result(timeout=30) == 3
            workers = client.scheduler_info(n_workers=-1)["workers"].values()
            assert [(each["nthreads"], each["resources"]) for each in workers] == [(1, {"GPU": 1})] * 2
    end = time.monotonic() + 30
    while slurm.jobs():  # they end with the cluster
        assert time.monotonic() < end
        time.sleep(0.1)


def test_a_machine_without_slurm_says_so_and_fails_where_it_must_have_it(monkeypatch):
    monkeypatch.setattr("tests.helpers.slurm.PROGRAMS", ("no-such-program",))
    monkeypatch.delenv(REQUIRED, raising=False)
    with pytest.raises(pytest.skip.Exception, match="NOT TESTED, for this machine has no SLURM"):
        needs_slurm()
    monkeypatch.setenv(REQUIRED, "1")
    with pytest.raises(pytest.fail.Exception, match="apt-get install slurmctld"):
        needs_slurm()
