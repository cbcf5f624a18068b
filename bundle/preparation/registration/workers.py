"""Threads that share work: each item is done alone by one of them, so a result does not depend on how many there are.

SciPy and the compiled loops of this folder release the interpreter's lock, so that threads do, which share the volume.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing
from typing import TypeVar

from bundle.common.threads import in_order

Item = TypeVar("Item")
Result = TypeVar("Result")


def share_out(
    do: Callable[[Item], Result], items: Sequence[Item], done: Callable[[], None] = lambda: None
) -> list[Result]:
    """``[do(item) for item in items]``, by as many threads as there are cores to use.

    Stopped, it waits for the items that are being done and begins no other.

    Args:
        do: may be called by several threads at once.
        items: what with.
        done: is called here, once for each item that is done, in their order.

    Returns:
        The results, in the order of the items.
    """
    results = []
    with closing(in_order(do, items)) as made:
        for result in made:
            results.append(result)
            done()
    return results
