"""Work shared out among threads, for code that computes without PyTorch and lets go of the interpreter's lock."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from bundle.common.machine import cores

Item = TypeVar("Item")
Result = TypeVar("Result")


def in_order(do: Callable[[Item], Result], items: Iterable[Item]) -> Generator[Result, None, None]:
    """``map(do, items)`` by as many threads as may compute here; what ``do`` raises ends the work, in its place.

    Args:
        do: what each thread does with an item.
        items: read as they are worked off, at most four a thread ahead of what is taken.

    Yields:
        The results, in the order of the items.
    """
    count = cores()
    waiting: deque[Future[Result]] = deque()
    with ThreadPoolExecutor(count) as pool:
        try:
            for item in items:
                waiting.append(pool.submit(do, item))
                if len(waiting) >= 4 * count:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()
