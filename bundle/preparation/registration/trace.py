"""What a registration says while it searches: a line for each stage, and the time that is left."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from tqdm import tqdm


@dataclass
class Trace:
    """How the information rose.

    Attributes:
        shown: whether it is said too.
        rows: stage, seconds since the start, nats per pixel, evaluations.
        began: the start, seconds.
    """

    shown: bool = True
    rows: list[tuple[str, float, float, int]] = field(default_factory=list)
    began: float = field(default_factory=time.monotonic)
    _bar: tqdm | None = None

    def __call__(self, stage: str, score: float, evaluations: int) -> None:
        """Keep a stage's result and show it."""
        seconds = time.monotonic() - self.began
        self.rows.append((stage, round(seconds, 2), round(float(score), 4), evaluations))
        if self.shown:
            tqdm.write(f"[{seconds:5.1f} s] {stage}: {score:.3f} nats per pixel", file=sys.stderr)

    @contextmanager
    def bar(self, what: str, pixels: int) -> Iterator[None]:
        """Show how much is done, and the time left, of so many pixels to compare; :meth:`compared` moves it on."""
        with tqdm(
            total=pixels, desc=what, unit="px", unit_scale=True, dynamic_ncols=True, disable=not self.shown
        ) as self._bar:
            yield
        self._bar = None

    def compared(self, pixels: int) -> None:
        """So many pixels more have been compared, as many as were expected."""
        if self._bar is not None:
            self._bar.update(pixels)
