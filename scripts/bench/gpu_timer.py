"""Times one thing after another on a device, within a budget of minutes: for :mod:`scripts.bench.gpu`."""

from __future__ import annotations

import gc
import math
import statistics
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch

Do = Callable[[], object]


class Sizes(NamedTuple):
    """Of networks (width, blocks), windows and slices (px), patches (px) and batches; how long to time each item."""

    width: int = 64
    blocks: int = 9
    window: int = 256
    step: int = 64
    large: int = 1024
    side: int = 1200
    patch: int = 256
    batches: tuple[int, ...] = (1, 4, 16)
    rounds: int = 5
    round_s: float = 0.2


SMALL = Sizes(4, 1, 32, 16, 48, 64, 32, (1, 2), 1, 0.0)


class Timing(NamedTuple):
    """Seconds of a call, a number a round, and the most memory of the GPU meanwhile, GB; 0 on a CPU."""

    seconds: list[float]
    peak_gb: float

    @property
    def median(self) -> float:
        """Seconds."""
        return statistics.median(self.seconds)

    @property
    def peak(self) -> str:
        """GB, for a table."""
        return f"{self.peak_gb:.1f}" if self.peak_gb else "–"

    def milliseconds(self, parts: int = 1) -> str:
        """Median and range of a part of a call."""
        low, high = (f"{1000 * end(self.seconds) / parts:.3g}" for end in (min, max))
        return f"{1000 * self.median / parts:.3g} ({low}–{high})"


class Timer:
    """Times one thing after another, as long as there is time.

    Args:
        device: where they compute.
        minutes: for all of them.
        sizes: how often, and how long, each is timed.

    Attributes:
        notes: a line for each that did not work, or was left out.
    """

    def __init__(self, device: torch.device, minutes: float, sizes: Sizes) -> None:
        self.device, self.sizes, self.end = device, sizes, time.monotonic() + 60 * minutes
        self.pace: dict[str, float] = {}  # seconds of a unit of size, by kind
        self.notes: list[str] = []

    def __call__(
        self, name: str, make: Callable[[], Do], kind: str, size: float, begin_s: float = 0.0
    ) -> Timing | None:
        """Time what ``make`` gives.

        Args:
            name: for the notes.
            make: gets it ready.
            kind: of things that take as long for their size.
            size: by which its time is foretold from those before it.
            begin_s: what the first call may take more.
        """
        each, left = self.pace.get(kind, 0.0) * size, self.end - time.monotonic()
        needed = begin_s + 3 * each + self.sizes.rounds * max(each, self.sizes.round_s)
        if needed > left:
            self.notes.append(f"- {name}: left out; it may take {needed:.0f} s, and {max(0.0, left):.0f} s are left.")
            return None
        try:
            made = self._timed(make())
        except RuntimeError as error:  # of PyTorch: no memory, or nothing that this device can do
            said = str(error).strip().splitlines() or [type(error).__name__]
            self.notes.append(f"- {name}: did not work: {said[0][:200]}")
            return None
        finally:
            if self.device.type == "cuda":
                gc.collect()  # what is held in rings keeps its memory
                torch.cuda.empty_cache()
        self.pace[kind] = made.median / size
        return made

    def _timed(self, do: Do) -> Timing:
        on_gpu = self.device.type == "cuda"
        if on_gpu:
            torch.cuda.reset_peak_memory_stats(self.device)
        self._seconds(do, 1)
        once = self._seconds(do, 1)
        calls = max(1, math.ceil(self.sizes.round_s / max(once, 1e-6)))
        seconds: list[float] = []
        while not seconds or (len(seconds) < self.sizes.rounds and time.monotonic() + calls * once < self.end):
            seconds.append(self._seconds(do, calls))
        return Timing(seconds, torch.cuda.max_memory_allocated(self.device) / 1e9 if on_gpu else 0.0)

    def _seconds(self, do: Do, calls: int) -> float:
        begin = time.perf_counter()
        for _ in range(calls):
            do()
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return (time.perf_counter() - begin) / calls

    def table(self, heads: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
        """Print rows, then the notes since the last table."""
        lines = [heads, ["---"] * len(heads), *rows]
        told = ["| " + " | ".join(map(str, line)) + " |" for line in lines] if rows else []
        print("\n".join([*told, "", *self.notes, *([""] if self.notes else [])]), flush=True)
        self.notes.clear()
