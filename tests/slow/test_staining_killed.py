"""Kills at any moment cost nothing but the slice in hand."""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import time
from pathlib import Path

import pytest

from bundle.staining.job import WORK
from tests.helpers.volumes import files_of, make_voxels, stain, write_scan


def run_quietly(bundle: Path, scan: Path, output_dir: Path, ids: dict) -> None:
    """In a process of its own, for a kill to meet."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)
    os.dup2(null, 2)
    stain(bundle, scan, output_dir, **ids)


def start(*arguments) -> multiprocessing.Process:
    fork = multiprocessing.get_context("forkserver")
    fork.set_forkserver_preload(["tests.helpers.volumes", "bundle.staining.command", "bundle.networks.accelerate"])
    process = fork.Process(target=run_quietly if arguments else int, args=arguments)
    process.start()
    return process


def undisturbed(bundle: Path, scan: Path, output_dir: Path, ids: dict) -> tuple[float, float]:
    """Let a run end.

    Returns:
        Seconds until it has stained a slice, and after that.
    """
    began = time.perf_counter()
    process = start(bundle, scan, output_dir, ids)
    while process.is_alive() and not any((output_dir / WORK / "slices").glob("*/*")):
        time.sleep(0.005)
    first = time.perf_counter()
    process.join(120)
    assert process.exitcode == 0
    return first - began, time.perf_counter() - first


def killed(kills: int, rng: random.Random, run: tuple[Path, Path, Path, dict], before_s: float, work_s: float) -> int:
    """Start, kill, start again …: one kill in three while it starts, the others while it works.

    Returns:
        How many kills met a run that had not ended.
    """
    output_dir, met = run[2], 0
    for _ in range(kills):
        at_work = before_s + rng.uniform(0, 2 * work_s / kills)
        process = start(*run)
        process.join(at_work if rng.random() > 1 / 3 else rng.uniform(0, before_s))
        process.kill()
        process.join()
        met += process.exitcode == -signal.SIGKILL
        for found in output_dir.glob("stained*"):  # what can be seen is whole
            assert files_of(found) == files_of(output_dir.with_name("whole") / found.name)
    return met


@pytest.mark.parametrize(
    ("kills", "ids"),
    [
        (5, {"axes": "zyx", "fusion": "median", "output_format": "tif"}),
        (5, {"window": 16, "step": 4}),
        pytest.param(50, {"window": 16, "step": 4}, marks=pytest.mark.slow),
        pytest.param(50, {"axes": "zyx", "window": 16, "step": 8}, marks=pytest.mark.slow),
    ],
)
def test_killed_again_and_again_it_ends_with_the_same_bytes(trained, tmp_path, kills, ids):
    bundle = trained / "bundle"
    scan = write_scan(tmp_path / "scan.nii.gz", make_voxels())
    start().join()  # the first one waits for all to be imported,
    undisturbed(bundle, scan, tmp_path / "compiled", ids)  # and the second for kernels to be compiled
    times = undisturbed(bundle, scan, tmp_path / "whole", ids)
    met = killed(kills, random.Random(7), (bundle, scan, tmp_path / "killed", ids), *times)
    undisturbed(bundle, scan, tmp_path / "killed", ids)
    assert met >= kills // 2
    name = "stained.ome.tif" if ids.get("output_format") == "tif" else "stained.ome.zarr"
    assert files_of(tmp_path / "whole" / name) == files_of(tmp_path / "killed" / name)
    assert not (tmp_path / "killed" / WORK).exists()
