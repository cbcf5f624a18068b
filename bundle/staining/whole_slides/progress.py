"""How far all processes that stain one slide are, and when they will be done."""

from __future__ import annotations

import json
import time

from tqdm import tqdm

from bundle.common.work.tasks import Marks

EVERY_SECONDS = 1.0  # that blocks on disk are counted


class Progress:
    """A bar of the tissue stained by all processes that share a run, by this one since it began or before.

    Args:
        marks: which tasks are done; a file for each block that is, in its strip's folder.
        shown: whether this process shows it.
    """

    def __init__(self, marks: Marks, shown: bool) -> None:
        self.marks, self.shown = marks, shown
        self._seen: dict[str, int] = {}  # px of tissue of each block that is done
        self._block, self._windows, self._done = 0, 1, 0  # px of the one in hand, its windows, those of them done
        self._next = 0.0
        self._bar: tqdm | None = None

    def begin(self, total_px: int) -> None:
        """Show the bar, as it is known how much there is; again does no harm."""
        if self.shown and self._bar is None:
            if there := self._count():
                print(f"goes on: {there / 1e6:.1f} of {total_px / 1e6:.1f} Mpx of tissue are stained")
            self._bar = tqdm(
                total=total_px / 1e6,
                initial=there / 1e6,
                desc="staining",
                dynamic_ncols=True,
                smoothing=0,  # blocks of several processes come in bursts
                bar_format="{l_bar}{bar}| {n:.2f}/{total:.2f} Mpx of tissue [{elapsed}<{remaining}]",
            )

    def block(self, tissue_px: int, windows: int) -> None:
        """Begin a block, of so much tissue and so many windows, whether they hold some or not."""
        self._block, self._windows, self._done = tissue_px, windows, 0

    def windows(self, number: int) -> None:
        """Count windows of the block in hand."""
        self._done += number
        self.update()

    def update(self) -> None:
        """Show what is done by now, now and then."""
        if self._bar is not None and time.monotonic() >= self._next:
            self._show()

    def look(self) -> int:
        """Show what other processes have done by now; so many blocks."""
        self._show()
        return len(self._seen)

    def _show(self) -> None:
        done = self._count() / 1e6
        if self._bar is not None:
            self._bar.n = max(self._bar.n, done)
            self._bar.refresh()  # also if nothing is new, for the time
        self._next = time.monotonic() + EVERY_SECONDS

    def _count(self) -> int:
        for path in self.marks.folder.glob("stain-*/*_*.json"):
            if str(path) not in self._seen:
                self._seen[str(path)] = json.loads(path.read_text(encoding="utf-8"))["tissue_px"]
        return sum(self._seen.values()) + int(self._block * min(1.0, self._done / self._windows))

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    def end(self) -> bool:
        """Leave the bar as it is, as other things are done from here on; whether there was one."""
        if self._bar is None:
            return False
        self._show()
        self._bar.close()
        self._bar = None
        return True
