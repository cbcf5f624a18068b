"""Processes that a process of ours starts, and none of which goes on when it is gone."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from collections.abc import Callable

PR_SET_PDEATHSIG = 1


def ends_with_parent() -> Callable[[], None]:
    """What a child is to call first (``preexec_fn``): the kernel ends it with its parent, where it can (Linux).

    The signal is SIGTERM, after which a training saves. The parent is the thread that starts the child.
    """
    parent = os.getpid()
    if sys.platform != "linux":
        return lambda: None
    tell = ctypes.CDLL(None).prctl  # now, as a child of many threads should do little

    def first() -> None:
        tell(PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:  # gone in between
            os.kill(os.getpid(), signal.SIGTERM)

    return first
