"""Where objects land that a PACS sends by C-STORE, within a C-GET or after a C-MOVE."""

from __future__ import annotations

import socket
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

from pynetdicom import evt
from pynetdicom.association import Association

from bundle.hospital.pacs.faults import UnreachableError
from bundle.hospital.pacs.series import UID, Keep


class Inbox:
    """Takes what a PACS sends, if it was asked for."""

    def __init__(self, sop_uids: Sequence[str], keep: Keep) -> None:
        self.awaited = set(sop_uids)
        self.keep = keep
        self.own_fault: Exception | None = None
        self.took: Callable[[], None] = lambda: None  # called after each object

    def take(self, event: evt.Event) -> int:
        """Answer a C-STORE request of the PACS; runs in a thread of pynetdicom."""
        request: Any = event.request
        sop_uid = str(request.AffectedSOPInstanceUID)
        if not UID.fullmatch(sop_uid) or sop_uid not in self.awaited:
            return 0x0124
        try:
            self.keep(sop_uid, event.encoded_dataset())
        except Exception as error:  # a full disk, above all: told to the PACS, and raised where it can be seen
            self.own_fault = error
            return 0xA700
        self.awaited.discard(sop_uid)
        self.took()
        return 0

    def raise_own(self) -> None:
        """Raise what went wrong on our side."""
        if self.own_fault is not None:
            raise self.own_fault

    def check(self, peer: str) -> None:
        """See that all has come.

        Raises:
            UnreachableError: if not.
        """
        self.raise_own()
        if self.awaited:
            raise UnreachableError(f"{peer} says that all was sent, but {len(self.awaited)} objects did not come.")


def cut(associations: Sequence[Association]) -> None:
    """End connections, so that whoever waits for them wakes up."""
    for each in associations:
        with suppress(OSError, AttributeError):  # it has ended by itself
            each.dul.socket.socket.shutdown(socket.SHUT_RDWR)  # type: ignore[union-attr]
