"""Threads of PyTorch that sleep while they wait, where other programs want the cores that they would wait on."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

ASKED = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")  # what GNU OpenMP reads, once, when PyTorch loads
NAME = "openmp"  # of the thread that watches
ENOUGH = 2**18  # values that PyTorch shares out among its threads
EVERY_SECONDS = 2.0  # that the machine is looked at
BUSY = 0.3  # cores that other programs use, from which it is so
STAT = Path("/proc/stat")


class Team:
    """One more team of OpenMP's threads, which never works: with it GNU OpenMP counts more threads than cores.

    Its threads spin while they wait unless it does; then they sleep.
    """

    def __init__(self) -> None:
        self._held: tuple[threading.Thread, threading.Event] | None = None

    def hold(self, wanted: bool) -> None:
        """Begin the team if it is wanted and not there, and end it if it is there and not wanted."""
        if not wanted and self._held is not None:
            thread, over = self._held
            over.set()
            thread.join()
            self._held = None
        if wanted and self._held is None:
            begun, over = threading.Event(), threading.Event()
            thread = threading.Thread(target=_stay, args=(begun, over), daemon=True)
            thread.start()
            begun.wait()
            self._held = thread, over


def _stay(begun: threading.Event, over: threading.Event) -> None:
    """Be the thread whose team it is; with it the team ends."""
    import torch

    torch.ones(ENOUGH).sin()
    begun.set()
    over.wait()


def machine_seconds() -> float:
    """Seconds that all cores together have worked since the machine began, for whomever."""
    user, nice, system, _, _, *interrupts = map(int, STAT.read_text(encoding="ascii").split("\n", 1)[0].split()[1:9])
    return (user + nice + system + sum(interrupts)) / os.sysconf("SC_CLK_TCK")


def _watch(team: Team) -> None:
    """Hold a team while others use the machine, as long as this process lives."""
    whole, own, then = machine_seconds(), time.process_time(), time.monotonic()
    while True:
        time.sleep(EVERY_SECONDS)
        now = machine_seconds(), time.process_time(), time.monotonic()
        team.hold((now[0] - whole) - (now[1] - own) > BUSY * (now[2] - then))
        whole, own, then = now


def wait_asleep() -> None:
    """Let OpenMP's threads sleep while they wait for each other, when others want the cores; once is enough.

    GNU OpenMP reads how threads shall wait when PyTorch loads, which ``python -m monai.bundle`` does before it reads a
    config. Beside a program that keeps a core busy a training step of two threads that spin takes 1.6 times as long as
    of two that sleep, and alone a tenth less (docs/performance.md). Who says how they shall wait is obeyed.
    """
    import torch  # here, as it takes seconds

    told = any(os.environ.get(name) for name in ASKED)
    there = any(thread.name == NAME for thread in threading.enumerate())
    if told or there or torch.get_num_threads() == 1 or not STAT.exists():
        return
    team = Team()
    team.hold(True)  # until it is known
    threading.Thread(target=_watch, args=(team,), name=NAME, daemon=True).start()
