"""How long and how large an answer of a PACS may be: one that is hostile or broken never ends by itself."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable
from types import TracebackType

import numpy as np

from bundle.hospital.pacs.faults import LaterError, PacsError

LONGEST_LIST_S = 300.0  # for all answers to one query, ten times the silence that --timeout allows
LONGEST_OBJECT_S = 3600.0  # for one object, fetched or stored: 4 GiB, the largest there is, at 10 Mbit/s
MOST_LIST_BYTES = 32 << 20  # of a list or a page of it, unpacked: 500 answers of 64 KiB, and one is asked for less
MOST_OBJECT_BYTES = 2 << 30  # of an object that is fetched, and so is whole in memory: a slice of 32,768² px of 16 bits
MOST_ANSWERS = 50_000  # to one query: a scan has some 5,000 slices at most, and longer lists of studies can be narrowed
MOST_PAGES = 1_000  # of one query: a PACS that gives at least 50 answers at once needs no more
MOST_DEPTH = 64  # of JSON: a data set is 3 deep and each sequence adds 3; nobody nests 20 of them
TEXT = re.compile(rb'"(?:[^"\\]|\\.)*"', re.DOTALL)


class Guard:
    """Cuts a connection when what comes over it takes too long or grows too large; a context manager.

    Args:
        peer: the PACS, for messages.
        doing: what it was about, likewise.
        longest_s: for the whole; :meth:`anew` begins it again.
        most_bytes: likewise.
        cut: ends the connection, so that whoever waits for it wakes up.
    """

    def __init__(self, peer: str, doing: str, longest_s: float, most_bytes: int, cut: Callable[[], None]) -> None:
        self.peer, self.doing, self.longest_s, self.most_bytes, self.cut = peer, doing, longest_s, most_bytes, cut
        self.fault: LaterError | PacsError | None = None
        self.timer, self.bytes = threading.Timer(0, lambda: None), 0

    def __enter__(self) -> Guard:
        """Begin."""
        self.anew()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """End; what came of a cut connection is our fault, in its place.

        Raises:
            LaterError: if it took too long.
            PacsError: if it was too large.
        """
        self.timer.cancel()
        if self.fault is not None:
            raise self.fault from error

    def anew(self) -> None:
        """Begin to count again: the next object."""
        self.timer.cancel()
        self.bytes = 0
        self.timer = threading.Timer(self.longest_s, self._too_long)
        self.timer.daemon = True
        self.timer.start()

    def add(self, count: int) -> None:
        """Count bytes that came."""
        self.bytes += count
        if self.bytes > self.most_bytes and self.fault is None:
            said = f"more than {self.most_bytes} bytes while {self.doing}"
            self.fault = PacsError(f"{self.peer} sent {said}, which cannot be meant; look at its log.")
            self.cut()

    def count(self, answers: int) -> None:
        """See that a list may yet come to an end, and cut what would not listen to less.

        Raises:
            PacsError: as :func:`check_count`.
        """
        try:
            check_count(self.peer, answers, 1)
        except PacsError:
            self.cut()
            raise

    def _too_long(self) -> None:
        self.fault = LaterError(
            f"{self.peer} was not done after {self.longest_s:g} s while {self.doing}, though it was never silent for "
            "long; it may be overloaded, or no PACS."
        )
        self.cut()


def check_count(peer: str, answers: int, pages: int) -> None:
    """See that a list may yet come to an end.

    Raises:
        PacsError: if it is longer than any list should be.
    """
    if answers > MOST_ANSWERS or pages > MOST_PAGES:
        raise PacsError(
            f"{peer} gives no end of answers to one query: {answers} in {pages} parts so far; ask for less (--patient,"
            " --study, --days)."
        )


def check_depth(peer: str, body: bytes) -> None:
    """See that JSON is not nested deeper than a reader can follow.

    Raises:
        PacsError: if it is.
    """
    if body[:64].lstrip()[:1] not in (b"[", b"{"):
        return
    letters = np.frombuffer(TEXT.sub(b"", body), np.uint8)
    steps = np.isin(letters, list(b"[{")).astype(np.int8) - np.isin(letters, list(b"]}")).astype(np.int8)
    deepest = int(np.cumsum(steps, dtype=np.int32).max(initial=0))
    if deepest > MOST_DEPTH:
        raise PacsError(f"{peer} nests its answer {deepest} deep, {MOST_DEPTH} is the most for DICOM; is it a PACS?")
