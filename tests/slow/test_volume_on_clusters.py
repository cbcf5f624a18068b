"""Whoever stains a volume, and whatever dies meanwhile: the same bytes, and nothing twice but what was in hand."""

from __future__ import annotations

import json
import random
import shutil
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import dask
import psutil
import pytest
from distributed import Client, LocalCluster

from tests.conftest import ROOT
from tests.helpers import work_log
from tests.helpers.dask_commands import scheduler, started, worker
from tests.helpers.slurm import Slurm, needs_slurm
from tests.helpers.volumes import files_of, make_voxels, stain, write_scan
from tests.hospital.orthanc import free_ports

pytestmark = pytest.mark.slow
SHAPE = (320, 40, 36)  # ten slabs
IDS = {"window": 16, "step": 8, "hull": True}
LEVELS = {"bone_intensity": 30000, "background_intensity": 10000}
PACE_S = 0.1  # a slice takes at least
STARTED_S = 120.0  # that workers may take on a busy machine


@dataclass(frozen=True)
class Volume:
    """One to be stained again and again.

    Attributes:
        bundle, scan: of it.
        whole: the folder of the run of one process.
        done: what that did.
        log: where the processes of the run at hand write what they do.
    """

    bundle: Path
    scan: Path
    whole: Path
    done: work_log.Done
    log: Path

    def stain(self, folder: Path, **ids) -> None:
        stain(self.bundle, self.scan, folder, **IDS, **ids)

    def has_stained(self, slices: int) -> Callable[[], bool]:
        return lambda: stained(self) >= slices

    def check(self, folder: Path, lost: int = 0, hulls: int = 1, surveys: int = 1) -> work_log.Done:
        """The same bytes; nothing is done twice but so many slices that were in hand, so many hulls and surveys."""
        made, done = folder / "stained.ome.zarr", work_log.read(self.log)
        assert files_of(made) == files_of(self.whole / "stained.ome.zarr")
        spent, whole = (json.loads((each / "volume.json").read_text())["spent"] for each in (folder, self.whole))
        assert 0 <= done.counts["stain"] - SHAPE[0] <= lost
        each = whole["windows"] / SHAPE[0]
        assert abs(spent["windows"] - whole["windows"]) <= lost * each
        assert len(done.slices) == SHAPE[0]
        assert sum(done.slices.values()) <= SHAPE[0] + lost
        assert 1 <= done.counts["hull"] <= hulls
        assert done.counts["survey"] == surveys
        if not lost:  # a worker that begins looks at some slices, and nobody at all of them
            more = done.counts["read"] - self.done.counts["read"]
            assert 0 <= more < SHAPE[0]
        return done


@pytest.fixture(scope="module")
def one(trained, tmp_path_factory) -> Volume:
    """A volume as one process stains it."""
    folder = tmp_path_factory.mktemp("one")
    shutil.copytree(trained / "bundle", folder / "bundle")
    inference = folder / "bundle" / "configs" / "inference.json"
    content = json.loads(inference.read_text())
    inference.write_text(json.dumps({**content, "source": content["source"] | LEVELS, **LEVELS}))
    volume = Volume(
        folder / "bundle",
        write_scan(folder / "scan.nii.gz", make_voxels(SHAPE)),
        folder / "whole",
        work_log.read(folder / "none"),
        folder / "log",
    )
    with pytest.MonkeyPatch.context() as patch, work_log.installed():
        patch.setenv(work_log.LOG, str(volume.log))
        volume.stain(volume.whole, workers=1)
    done = work_log.read(volume.log)
    assert (done.counts["stain"], done.counts["hull"], len(done.processes)) == (SHAPE[0], 1, 1)
    return Volume(volume.bundle, volume.scan, volume.whole, done, volume.log)


@pytest.fixture
def volume(one, tmp_path, monkeypatch) -> Iterator[Volume]:
    """The same, with a log of its own that this process and all workers write, at their pace."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv(work_log.LOG, str(tmp_path / "log"))
    monkeypatch.setenv(work_log.PACE_S, str(PACE_S))
    # of workers that this process starts, and of those that have a command of their own
    monkeypatch.setenv("DASK_DISTRIBUTED__WORKER__PRELOAD", "tests.helpers.work_log")
    with dask.config.set(work_log.PRELOAD), work_log.installed():
        yield Volume(one.bundle, one.scan, one.whole, one.done, tmp_path / "log")


def until(what: Callable[[], bool], seconds: float = STARTED_S, or_when: Callable[[], bool] = lambda: False) -> None:
    """Wait for something, or for what makes waiting of no use."""
    end = time.monotonic() + seconds
    while not (what() or or_when()):
        assert time.monotonic() < end, "it did not come to that"
        time.sleep(0.05)


@contextmanager
def staining(volume: Volume, folder: Path, port: int) -> Iterator[Callable[[], bool]]:
    """Stain on a cluster, beside what a test does to it; to the end.

    Yields:
        Whether it is at its end.
    """
    with ThreadPoolExecutor(1) as aside:
        run = aside.submit(volume.stain, folder, cluster=f"tcp://127.0.0.1:{port}")
        yield run.done
        run.result(300)


def stained(volume: Volume) -> int:
    return work_log.read(volume.log).counts["stain"]


def children(process) -> list[psutil.Process]:
    """The workers of a nanny."""
    found = psutil.Process(process.pid).children(recursive=True)
    return [each for each in found if "spawn_main" in " ".join(each.cmdline())]


def test_two_workers_of_this_machine(volume, tmp_path):
    volume.stain(tmp_path / "two", workers=2)
    assert len(volume.check(tmp_path / "two").processes) == 2


def test_a_local_cluster_by_its_address(volume, tmp_path):
    options = {"n_workers": 2, "threads_per_worker": 1, "dashboard_address": None}
    with LocalCluster(**options) as cluster:
        volume.stain(tmp_path / "two", cluster=cluster.scheduler_address)
    assert len(volume.check(tmp_path / "two").processes) == 2


def test_jobs_of_slurm(volume, tmp_path, tmp_path_factory, monkeypatch):
    needs_slurm()
    monkeypatch.chdir(tmp_path)  # where keys of the connection lie meanwhile
    asked = {"cores": 1, "memory": "4GB", "queue": "gpu", "interface": "lo", "log-directory": str(tmp_path / "logs")}
    asked |= {"job-extra-directives": ["--gpus=1"], "worker-extra-args": ["--resources", "GPU=1"]}
    with Slurm(tmp_path_factory.mktemp("slurm")) as slurm:
        with dask.config.set({f"jobqueue.slurm.{name}": value for name, value in asked.items()}):
            volume.stain(tmp_path / "jobs", cluster="slurm", workers=2)
        done = volume.check(tmp_path / "jobs")
        until(lambda: not slurm.jobs(), 30)
    assert "none" not in done.jobs
    assert len(done.jobs) == 2


def test_workers_killed_again_and_again(volume, tmp_path):
    (port,), rng, kills = free_ports(1), random.Random(3), 0
    with ExitStack() as stack:
        stack.enter_context(scheduler(port))
        nannies = [stack.enter_context(worker(port, name)) for name in ("one", "two")]
        ended = stack.enter_context(staining(volume, tmp_path / "killed", port))
        while not ended():
            # a period in work and not in seconds, so that a busy machine comes to an end too
            until(volume.has_stained(stained(volume) + rng.randint(10, 40)), or_when=ended)
            for each in [] if ended() else children(nannies[kills % 2]):
                each.kill()
                kills += 1
    assert kills >= 6
    volume.check(tmp_path / "killed", kills * volume.done.most, hulls=1 + kills)


def test_a_scheduler_killed_and_started_again(volume, tmp_path, capsys):
    (port,) = free_ports(1)
    with ExitStack() as stack:
        cluster = stack.enter_context(started(port, "one", "two"))
        with staining(volume, tmp_path / "out", port):
            for reached in (60, 160):
                until(volume.has_stained(reached))
                cluster.close()
                cluster = stack.enter_context(started(port, "one", "two"))
    volume.check(tmp_path / "out", 2 * 2 * volume.done.most)  # two workers, twice
    assert capsys.readouterr().out.count("is gone; waiting for it, what is done is kept") == 2


def test_a_worker_that_comes_late_has_work_within_five_seconds(volume, tmp_path):
    (port,) = free_ports(1)
    with started(port, "early") as cluster:
        seen = cluster.enter_context(Client(f"tcp://127.0.0.1:{port}", set_as_default=False))
        with staining(volume, tmp_path / "out", port):
            until(volume.has_stained(10))
            cluster.enter_context(worker(port, "late"))
            addresses = lambda: {each["name"]: at for at, each in seen.scheduler_info(n_workers=-1)["workers"].items()}
            until(lambda: "late" in addresses())
            late = addresses()["late"]
            until(lambda: bool(seen.processing()[late]), 5)
            until(lambda: len(work_log.read(volume.log).processes) == 2)  # and does it
    volume.check(tmp_path / "out")
