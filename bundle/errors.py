"""Faults in what a user gave us: one line per fault, and no traceback at the command line."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from types import TracebackType


class InputError(ValueError):
    """A fault that the user can mend; the message names the thing, the value found and the way out."""


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """The error, then what it was raised from, and so on."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def plain_errors() -> None:
    """Print an uncaught :class:`InputError` as its message alone; the exit code stays 1.

    MONAI wraps what a config raises in RuntimeErrors of its own, so the whole chain is searched. Any
    other error keeps its traceback.
    """

    def hook(kind: type[BaseException], error: BaseException, traceback: TracebackType | None) -> None:
        for link in _chain(error):
            if isinstance(link, InputError):
                print(f"\nerror: {link}", file=sys.stderr)
                return
        sys.__excepthook__(kind, error, traceback)

    sys.excepthook = hook
