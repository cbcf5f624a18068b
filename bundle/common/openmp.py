"""Threads of PyTorch that sleep while they wait, also where PyTorch was loaded before anything of ours."""

from __future__ import annotations

import os
import threading

ASKED = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")  # what GNU OpenMP reads, once, when PyTorch loads
NAME = "openmp"  # of the thread that begins the team
ENOUGH = 2**18  # values that PyTorch shares out among its threads


def wait_asleep() -> None:
    """Let OpenMP's threads sleep while they wait for each other, unless the user has said how they shall.

    They spin unless GNU OpenMP counts more threads than cores. So one more team of them is begun here, which is never
    called again. Beside a program that keeps a core busy a training step then takes 0.6 of the time, beside several a
    tenth, and alone a tenth more (docs/performance.md). Once is enough.
    """
    import torch  # here, as it takes seconds

    told = any(os.environ.get(name) for name in ASKED)
    if told or torch.get_num_threads() == 1 or any(thread.name == NAME for thread in threading.enumerate()):
        return
    begun, over = threading.Event(), threading.Event()

    def begin() -> None:
        torch.ones(ENOUGH).sin()
        begun.set()
        over.wait()  # for ever: with its thread the team would end

    threading.Thread(target=begin, name=NAME, daemon=True).start()
    begun.wait()
