"""How far all processes together are, and when they will be done."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from bundle.common.places import is_remote
from bundle.common.work.tasks import Marks
from bundle.staining.slices import SliceStore

EVERY_SECONDS = 0.5  # that slices on disk are counted
REMOTE_SECONDS = 5.0  # likewise, in an object store


class Progress:
    """A bar of the slices stained by all processes that share a run, by this one since it began or before.

    Args:
        marks: which tasks are done.
        store: where slices are.
        slabs: the slices of each staining task, by its name: (axis, start, stop).
        shown: whether this process shows it.
    """

    def __init__(self, marks: Marks, store: SliceStore, slabs: Mapping[str, tuple[str, int, int]], shown: bool) -> None:
        self.marks, self.store, self.slabs = marks, store, slabs
        self._next = 0.0  # when to count again
        total = sum(stop - start for _, start, stop in slabs.values())
        self._before = self._count()  # slices done by earlier tries
        self.bar = tqdm(
            total=total, initial=self._before, desc="staining", unit="slice", dynamic_ncols=True, disable=not shown
        )

    def _count(self) -> int:
        finished = self.marks.known(self.slabs)
        done = sum(stop - start for name, (_, start, stop) in self.slabs.items() if name in finished)
        # their slices may have been joined and removed
        begun = {name: slab for name, slab in self.slabs.items() if name not in finished}
        if is_remote(self.store.folder):
            return done + self.store.count(list(begun.values()))
        for name, (axis, start, stop) in begun.items():
            if (self.marks.folder / name).exists():
                done += sum(self.store.path(axis, number).exists() for number in range(start, stop))
        return done

    def update(self) -> None:
        """Show what is done by now, now and then."""
        if time.monotonic() >= self._next:
            self._show()

    def look(self) -> int:
        """Show what is done by now; so many slices."""
        done = self._count()
        if done <= self._before:  # start-up and choosing are no pace to reckon with
            self.bar.unpause()
        self.bar.update(max(0, done - self.bar.n))
        return done

    def _show(self) -> None:
        if not self.bar.disable:
            self.look()
        self._next = time.monotonic() + (REMOTE_SECONDS if is_remote(self.store.folder) else EVERY_SECONDS)

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *_: object) -> None:
        self._show()
        self.bar.close()


class FolderBar:
    """One bar for a folder of slides, in place of one a slide; a slide alone has that of its windows."""

    def __init__(self) -> None:
        self._bar: tqdm | None = None
        self._messages = ExitStack()  # log lines go above the bar while it is open

    def open(self, slides: int | None, inferer: Any) -> None:
        """Show it, where there are several slides.

        Args:
            slides: how many there are; None where that is not known.
            inferer: stains them; it, or the ``windows`` that it has, shows a bar where its ``progress`` is true.
        """
        if (slides or 1) > 1 and self._bar is None:
            within: tuple[Any, ...] = (inferer, getattr(inferer, "windows", None))
            for each in within:
                if hasattr(each, "progress"):
                    each.progress = False
            self._messages.enter_context(logging_redirect_tqdm())
            self._bar = tqdm(total=slides, desc="staining", unit="slide", dynamic_ncols=True)

    def say(self, what: object) -> None:
        """Print a line above it."""
        tqdm.write(str(what))

    def step(self) -> None:
        """One slide on."""
        if self._bar is not None:
            self._bar.update()

    def close(self) -> None:
        """Leave it as it is."""
        if self._bar is not None:
            self._bar.close()
            self._messages.close()
            self._bar = None


def slabs_of(shape: Sequence[int], axes: str, depth: int) -> dict[str, tuple[str, int, int]]:
    """The staining tasks of a volume, by name: axis, first slice and the one after the last.

    Args:
        shape: (Z, Y, X).
        axes: across which slices are stained.
        depth: slices in a task.
    """
    slabs = {}
    for axis in axes:
        size = shape["zyx".index(axis)]
        for number, start in enumerate(range(0, size, depth)):
            slabs[f"stain-{axis}-{number:04d}"] = (axis, start, min(start + depth, size))
    return slabs


@contextmanager
def bar(what: str, unit: str, shown: bool) -> Iterator[Callable[[int, int], None]]:
    """A progress bar for functions that report what is done and what there is in all."""
    with tqdm(desc=what, unit=unit, dynamic_ncols=True, disable=not shown) as progress:

        def report(done: int, total: int) -> None:
            progress.total = total
            progress.update(done - progress.n)

        yield report
