"""Registration on two cores against one: phantoms found again in their volume, and refused in a wrong one.

``python -m scripts.bench.registration_cores``; the rounds with one thread and with two follow each other in turn.
"""

from __future__ import annotations

import os
import statistics
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np

from bundle.common.command_line import command
from bundle.preparation.registration.plane import find_plane
from bundle.preparation.registration.trace import Trace
from scripts.bench.registration import Trial, make_trial, start

ARMS = ("guess", "free", "wrong", "wrong_free")  # with a guess, without; the same in another specimen's volume


class Round(NamedTuple):
    """One registration: what it took, and the bits of what it found."""

    seconds: float
    cpu_seconds: float
    peak_mb: float
    found: bytes


def main(number: int = 100, rounds: int = 3, arms: list[str] | tuple[str, ...] = ARMS, size: int = 256) -> None:
    """Print a line for each arm: seconds of one thread and of two, and their ratio.

    Args:
        number: of the specimen; the wrong volume is its neighbour's.
        rounds: of each arm and number of threads.
        arms: of guess, free, wrong and wrong_free.
        size: of the volume, voxels a side.
    """
    trial = make_trial(number, size=size)
    other = make_trial(number ^ 1, size=size).volume if any("wrong" in arm for arm in arms) else trial.volume
    print("| arm | one thread, s (range) | two, s (range) | × (range) | CPU s, one and two | peak, MB, one and two |")
    print("|---|---|---|---|---|---|")
    measured(trial, trial.volume, "guess", number, 1)  # loads what is compiled
    for arm in arms:
        volume = other if "wrong" in arm else trial.volume
        pairs = [[measured(trial, volume, arm, number, threads) for threads in (1, 2)] for _ in range(rounds)]
        if len({each.found for pair in pairs for each in pair}) > 1:
            raise SystemExit(f"{arm}: one thread and two find different planes")
        print(row(arm, pairs), flush=True)


def measured(trial: Trial, volume: np.ndarray, arm: str, number: int, threads: int) -> Round:
    """Register with so many threads."""
    os.environ["OMP_NUM_THREADS"] = str(threads)
    guess = None if arm.endswith("free") else start(trial.slide, np.random.default_rng([6, number]))
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    began, cpu = time.monotonic(), time.process_time()
    found = find_plane(volume, trial.slide.pixels, 5.0, guess, trace=Trace(shown=False)).finished
    seconds, cpu = time.monotonic() - began, time.process_time() - cpu
    peak = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return Round(seconds, cpu, int(peak.split()[1]) / 1000, found.pose.matrix().tobytes() + found.warp.tobytes())


def row(arm: str, pairs: list[list[Round]]) -> str:
    """A line of the table: medians, and the range of the rounds."""
    one, two = ([pair[n].seconds for pair in pairs] for n in (0, 1))
    ratios = [first.seconds / second.seconds for first, second in pairs]
    cpu = [statistics.median(pair[n].cpu_seconds for pair in pairs) for n in (0, 1)]
    peak = [statistics.median(pair[n].peak_mb for pair in pairs) for n in (0, 1)]
    spread = [f"{statistics.median(each):.2f} ({min(each):.2f}–{max(each):.2f})" for each in (one, two, ratios)]
    return f"| {arm} | {' | '.join(spread)} | {cpu[0]:.1f}, {cpu[1]:.1f} | {peak[0]:.0f}, {peak[1]:.0f} |"


if __name__ == "__main__":
    command(main)
