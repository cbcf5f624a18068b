"""What may go wrong between us and a PACS, what is tried again, and with which code a command then ends."""

from __future__ import annotations

import os
import random
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

from bundle.common.errors import InputError, full_disk, input_error

AGAIN = os.EX_TEMPFAIL  # 75: the same command, later, may do better; cron and systemd know the number
LONGEST_PAUSE_S = 60.0
T = TypeVar("T")


class PacsError(InputError):
    """A fault that somebody must mend first: credentials, an AE title, an object the PACS does not take."""


class RefusedError(PacsError):
    """The PACS does not take one object; what else it was given it may take."""


class UnlikeError(PacsError):
    """A scan that is unlike the model's training data, where such are refused."""


class LaterError(InputError):
    """A fault that goes away by itself or by somebody's making room: the same command, later, goes on."""


class FullError(LaterError):
    """The PACS has no room; to ask again at once would not help."""


class UnreachableError(LaterError):
    """Nobody answers, or not in time, or the connection was dropped: worth another try at once."""


@dataclass(frozen=True)
class Patience:
    """How long a PACS is waited for.

    Attributes:
        attempts: in a row without any progress before giving up.
        timeout_s: that a connection, or an answer, may take.
        first_pause_s: before the second attempt; each further one is twice as long, up to a minute.
    """

    attempts: int = 5
    timeout_s: float = 30.0
    first_pause_s: float = 1.0

    def __post_init__(self) -> None:
        if type(self.attempts) is not int or self.attempts < 1:
            raise InputError(f"attempts is {self.attempts!r}; it must be a whole number of at least 1.")
        if isinstance(self.timeout_s, bool) or not isinstance(self.timeout_s, (int, float)) or self.timeout_s <= 0:
            raise InputError(f"timeout is {self.timeout_s!r}; it must be a number of seconds above 0.")


def persistently(step: Callable[[], T], patience: Patience, left: Callable[[], int] = lambda: 0) -> T:
    """Do something that may be worth another try, with pauses that double and are spread at random.

    Args:
        step: raises :class:`UnreachableError` where another try may help; it then does what is still to do.
        patience: for how long.
        left: how much is to do; an attempt that brought this down starts the count of attempts anew.

    Returns:
        What ``step`` returns.

    Raises:
        UnreachableError: of the last attempt.
    """
    failed, before = 0, left()
    while True:
        try:
            return step()
        except UnreachableError as error:
            failed = failed + 1 if left() == before else 1
            before = left()
            if failed >= patience.attempts:
                raise
            # a random half, so that many clients do not come back at the same instant
            pause_s = min(LONGEST_PAUSE_S, patience.first_pause_s * 2 ** (failed - 1)) * random.uniform(0.5, 1)
            print(f"{error} Attempt {failed + 1} of {patience.attempts} in {pause_s:.1f} s.", file=sys.stderr)
            time.sleep(pause_s)


def then_again(error: InputError) -> str:
    """How a line goes on that ends with what the same command will do."""
    return "the same command" if isinstance(error, LaterError) else "once that is mended, the same command"


@contextmanager
def exit_codes() -> Iterator[None]:
    """End with :data:`AGAIN` where a rerun may help; other faults go the usual way, to exit code 1."""
    try:
        yield
    except Exception as error:
        fault, full = input_error(error), full_disk(error)
        if isinstance(fault, LaterError):
            print(f"\nerror: {fault}", file=sys.stderr)
        elif fault is None and full is not None:
            where = f" at {full.filename}" if full.filename else ""
            print(f"\nerror: the disk is full{where}; make room and run the same command again.", file=sys.stderr)
        else:
            raise
        sys.exit(AGAIN)
