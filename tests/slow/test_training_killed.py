"""Thirty kills at any moment, also while a checkpoint is being written, cost nothing but the step in hand."""

from __future__ import annotations

import multiprocessing
import os
import random
import runpy
import signal
import sys
import time
from pathlib import Path

import pytest

from bundle.common.run_folder import LATEST, PREVIOUS
from tests.helpers.training import command, differences, latest

KILLS = 30
IDS = {"epochs": 30, "patches_per_pair": 6, "save_minutes": 0, "picture_every": 30, "resume": "true"}


def run_quietly(typed: list[str]) -> None:
    """A command line, in a process of its own that has all its libraries already, for a kill to meet."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)
    os.dup2(null, 2)
    sys.argv = typed
    runpy.run_module("monai.bundle", run_name="__main__", alter_sys=True)


def start(*folders: Path) -> multiprocessing.Process:
    fork = multiprocessing.get_context("forkserver")
    fork.set_forkserver_preload(
        ["tests.helpers.training", "bundle.training.run_state", "bundle.training.publish", "bundle.report"]
    )
    process = fork.Process(
        target=run_quietly if folders else int, args=[command(*folders, **IDS)[2:]] if folders else []
    )
    process.start()
    return process


def kill_while_saving(process: multiprocessing.Process, folder: Path) -> None:
    """Wait for a checkpoint that is being written, and kill then."""
    while process.is_alive() and not any(folder.glob(f".latest.{process.pid}.partial*")):
        time.sleep(0.0005)
    process.kill()


def undisturbed(dataset: Path, output: Path) -> tuple[float, float]:
    """Let a run end.

    Returns:
        Seconds until it has taken a step, and after that.
    """
    began = time.monotonic()
    process = start(dataset, output)
    while process.is_alive() and not (output / PREVIOUS).exists():
        time.sleep(0.005)
    first = time.monotonic()
    process.join()
    assert process.exitcode == 0
    return first - began, time.monotonic() - first


@pytest.mark.slow
def test_killed_thirty_times_a_run_ends_with_the_same_bits(dataset, tmp_path):
    start().join()  # the first one waits for all to be imported
    start_s, work_s = undisturbed(dataset, tmp_path / "whole")
    rng, met, halves = random.Random(7), 0, 0
    folder = (tmp_path / "killed" / LATEST).parent
    for number in range(KILLS):
        process = start(dataset, tmp_path / "killed")
        # half of the work in all: a machine that other tests slowed when it was timed may be twice as fast by now
        at_work = start_s + rng.uniform(0, work_s / KILLS)
        process.join(rng.uniform(0, at_work) if number % 3 == 0 else at_work)
        if number % 3 == 1:
            kill_while_saving(process, folder)
        process.kill()
        process.join()
        met += process.exitcode == -signal.SIGKILL
        halves += any(folder.glob(f".latest.{process.pid}.partial*"))
    undisturbed(dataset, tmp_path / "killed")
    print(f"{start_s:.1f} s to start, {work_s:.1f} s of work, {met} kills met, {halves} of them while it saved")
    assert met >= KILLS - 5
    assert halves >= KILLS // 6
    assert not differences(latest(tmp_path / "whole"), latest(tmp_path / "killed"))
    assert not any(folder.glob(".*partial*"))
