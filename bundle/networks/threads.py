"""Threads that do not wait for each other: each computes an item alone."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any

import torch

_own = threading.local()  # ``alone``: this thread is one of a pool


def share_out(do: Callable[[Any], Any], items: list[Any]) -> list[Any]:
    """``[do(item) for item in items]``, by as many threads as PyTorch may use here, each of which uses no more."""
    threads = torch.get_num_threads()
    with torch.no_grad():
        if threads == 1 or hasattr(_own, "alone"):
            return [do(item) for item in items]
        return list(_pool(threads).map(torch.no_grad()(do), items))


@cache
def _pool(threads: int) -> ThreadPoolExecutor:
    """Threads in which PyTorch computes with one thread."""
    pool, together = ThreadPoolExecutor(threads, "stain"), threading.Barrier(threads + 1)

    def alone() -> None:
        torch.set_num_threads(1)
        torch.get_num_threads()  # settles it for this thread; the first call would else take what others set later
        _own.alone = True
        together.wait()

    for _ in range(threads):
        pool.submit(alone)
    together.wait()
    torch.set_num_threads(threads)  # what threads started later begin with
    return pool
