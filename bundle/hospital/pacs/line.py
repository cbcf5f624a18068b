"""HTTP of which each answer is over in a given time and within a given size, whatever the server does."""

from __future__ import annotations

import contextlib
import socket
from typing import Any

import requests
from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

from bundle.hospital.pacs.limits import Guard, check_depth

BLOCK = 1 << 20


class Line(HTTPAdapter):
    """For one request at a time; ``requests`` itself waits for ever for a server that sends a byte now and then.

    Args:
        peer: the server, for messages.

    Attributes:
        doing: what the next answer is about, likewise.
        longest_s: for it, from the connection to its last byte.
        most_bytes: of it, unpacked.
    """

    def __init__(self, peer: str) -> None:
        self.peer, self.doing, self.longest_s, self.most_bytes = peer, "", 0.0, 0
        self.ended = False  # before its time
        self.wire: socket.socket | None = None  # the same connection as the one in use, to be ended from outside
        super().__init__()

    def init_poolmanager(self, *args: Any, **options: Any) -> None:
        """Make connections that we can end, also in the middle of a handshake."""
        super().init_poolmanager(*args, **options)
        line = self

        class Plain(HTTPConnection):
            def _new_conn(self) -> socket.socket:
                return line.hold(super()._new_conn())

        class Secure(HTTPSConnection):
            def _new_conn(self) -> socket.socket:
                return line.hold(super()._new_conn())

        plain, secure = (
            type(pool.__name__, (pool,), {"ConnectionCls": kind})
            for pool, kind in ((HTTPConnectionPool, Plain), (HTTPSConnectionPool, Secure))
        )
        self.poolmanager.pool_classes_by_scheme = {"http": plain, "https": secure}

    def hold(self, connection: socket.socket) -> socket.socket:
        """Keep a second handle of a new connection: TLS takes the first one's away.

        Raises:
            ConnectionAbortedError: if the time of the request is over; no further attempt is made.
        """
        self.let_go()
        if self.ended:
            connection.close()
            raise ConnectionAbortedError("the time is over")
        self.wire = connection.dup()
        return connection

    def let_go(self) -> None:
        """Close that handle."""
        if self.wire is not None:
            self.wire.close()
        self.wire = None

    def cut(self) -> None:
        """End the connection; who reads from it is told that it has ended."""
        self.ended = True
        if self.wire is not None:
            with contextlib.suppress(OSError):  # it has ended by itself
                self.wire.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Close all."""
        self.let_go()
        super().close()

    def send(self, request: requests.PreparedRequest, *args: Any, **options: Any) -> requests.Response:
        """Send a request, and read all of its answer.

        Raises:
            LaterError: if it takes longer than it may.
            PacsError: if it is larger, or nested deeper, than it may be.
        """
        self.ended = False
        with Guard(self.peer, self.doing, self.longest_s, self.most_bytes, self.cut) as guard:
            answer = super().send(request, *args, **{**options, "stream": True})
            blocks = []
            for block in answer.iter_content(BLOCK):
                guard.add(len(block))
                if guard.fault:
                    break
                blocks.append(block)
            answer._content = b"".join(blocks)  # as ``requests`` keeps what it has read
        check_depth(self.peer, answer.content)
        return answer
