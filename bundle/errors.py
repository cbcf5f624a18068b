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


def input_error(error: BaseException) -> InputError | None:
    """The fault of the user that lies behind an error; None if there is none.

    MONAI wraps what a config raises in RuntimeErrors of its own, so the whole chain is searched.
    """
    return next((link for link in _chain(error) if isinstance(link, InputError)), None)


def plain_errors() -> None:
    """Print an uncaught :class:`InputError` as its message alone; the exit code stays 1.

    Any other error keeps its traceback.
    """

    def hook(kind: type[BaseException], error: BaseException, traceback: TracebackType | None) -> None:
        fault = input_error(error)
        if fault is None:
            sys.__excepthook__(kind, error, traceback)
        else:
            print(f"\nerror: {fault}", file=sys.stderr)

    sys.excepthook = hook
