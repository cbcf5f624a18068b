"""A DICOMweb server that means ill, or is broken."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/dicom+json\r\n"


@contextmanager
def hostile(answer: Callable[[socket.socket, bytes], None]) -> Iterator[str]:
    """A server that answers each request, of which it reads the head, as it likes; its address for DICOMweb."""
    over = threading.Event()

    def serve() -> None:
        with suppress(OSError):
            while not over.is_set():
                connection, _ = listener.accept()
                threading.Thread(target=talk, args=(connection,), daemon=True).start()

    def talk(connection: socket.socket) -> None:
        with suppress(OSError), connection:
            while not over.is_set():
                asked = b""
                while b"\r\n\r\n" not in asked:
                    block = connection.recv(65536)
                    if not block:
                        return
                    asked += block
                answer(connection, asked)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=serve, daemon=True).start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/dicom-web"
        over.set()


def whole(connection: socket.socket, body: bytes, head: bytes = b"") -> None:
    connection.sendall(HEAD + head + b"Content-Length: %d\r\n\r\n" % len(body) + body)


def drip(connection: socket.socket, text: bytes) -> None:
    """A letter every 50 ms, which is never silence."""
    while True:
        for letter in text:
            connection.sendall(bytes([letter]))
            time.sleep(0.05)


def body_drips(connection: socket.socket, _: bytes) -> None:
    connection.sendall(HEAD + b"Content-Length: 1000000\r\n\r\n")
    drip(connection, b"[ ")
