"""Faults in what a user gave us: one line per fault, and no traceback at the command line."""

from __future__ import annotations

import errno
import re
import sys
import threading
from collections.abc import Callable, Iterator
from types import TracebackType

from bundle.common.extras import missing_extra

FULL = (errno.ENOSPC, errno.EDQUOT)
NO_PLACE = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG)


NO_MEMORY = ("can't allocate memory", "not enough memory", "out of memory")  # as PyTorch says it
NO_SUCH_ID = re.compile(r"the referring item `@(.+)` is not defined")  # as MONAI says it


class InputError(ValueError):
    """A fault that the user can mend; the message names the thing, the value found and the way out."""


class PausedError(InputError):
    """No fault: the user is asked to look before it goes on. It is told as no error; the exit code is that of one."""


def causes(error: BaseException | None) -> Iterator[BaseException]:
    """The error, then what it was raised from, and so on; a chain that a library closed to a ring comes to an end."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__


def input_error(error: BaseException) -> InputError | None:
    """The fault of the user that lies behind an error; None if there is none.

    MONAI wraps what a config raises in RuntimeErrors of its own, so the whole chain is searched.
    """
    return next((link for link in causes(error) if isinstance(link, InputError)), None)


def full_disk(error: BaseException) -> OSError | None:
    """What a full disk, or a used up quota, said to cause an error; None if it is not that."""
    return next((link for link in causes(error) if isinstance(link, OSError) and link.errno in FULL), None)


def no_memory(error: BaseException) -> bool:
    """Whether an error says that the CPU or the GPU has no memory left."""
    said = isinstance(error, RuntimeError) and any(words in str(error).lower() for words in NO_MEMORY)
    return said or isinstance(error, MemoryError)


def _of_memory(error: BaseException) -> str:
    """What to tell of an error that :func:`no_memory` knows."""
    asked = re.search(r"allocate (\d+) bytes", str(error))
    found = f"{int(asked[1]) / 1e9:.1f} GB at once" if asked else str(error) or "of this machine"
    return f"memory does not suffice ({found}); ask for less at once."


def line_of(error: BaseException) -> str | None:
    """What to tell of an error that the user can mend, a machine's limits and rights among them; None of any other."""
    fault, full = input_error(error), full_disk(error)
    if fault is not None:
        return str(fault)
    if full is not None:
        where = f" at {full.filename}" if full.filename else ""
        return f"the disk is full{where} ({full.strerror}); make room and run the same command again."
    for link in causes(error):
        if no_memory(link):
            return _of_memory(link)
        if told := missing_extra(link):
            return told
        if missing := NO_SUCH_ID.search(str(link)):
            return f"the config refers to {missing[1]}, which it does not have; name all files it is made of, in order."
        if isinstance(link, OSError) and link.errno in NO_PLACE and link.filename:
            return f"{link.filename}: {link.strerror}; name another place, or ask for the right to this one."
    return None


def plain_errors(speaks: Callable[[], bool] = lambda: True) -> None:
    """Print an uncaught error that :func:`line_of` knows as one line; the exit code stays 1.

    What is only :class:`PausedError` is not called an error.

    Any other error keeps its traceback.

    Args:
        speaks: asked when an error ends this process, whether to print it at all.
    """

    def hook(kind: type[BaseException], error: BaseException, traceback: TracebackType | None) -> None:
        if not speaks():
            return
        fault = line_of(error)
        if fault is None:
            sys.__excepthook__(kind, error, traceback)
        else:
            print(f"\n{'' if isinstance(input_error(error), PausedError) else 'error: '}{fault}", file=sys.stderr)

    def hook_of_threads(arguments: threading.ExceptHookArgs) -> None:
        # TensorBoard writes in a thread, and its next call in the main one raises the same error
        if arguments.exc_value is None or full_disk(arguments.exc_value) is None:
            threading.__excepthook__(arguments)

    sys.excepthook = hook
    threading.excepthook = hook_of_threads
