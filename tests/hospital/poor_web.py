"""A DICOMweb service in front of a real one, with the faults that the real one cannot be made to have."""

from __future__ import annotations

import http.client
import socket
import ssl
import struct
import threading
import time
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any
from urllib.parse import urlsplit

HOP = ("connection", "transfer-encoding", "content-length", "host", "keep-alive")


@dataclass
class Fault:
    """What goes wrong with some requests.

    Attributes:
        method: of them.
        part: of their path.
        after: so many of them go well first.
        times: so many do not, then.
        status: answered instead; 0 to pass the request on.
        body: of that answer.
        location: that it leads to.
        cut_answer: pass on so many bytes of the answer only, then drop the connection.
        cut_request: read so many bytes of the request only, then drop the connection.
        wait_s: before anything is answered.
    """

    method: str
    part: str
    after: int = 0
    times: int = 10**9
    status: int = 0
    body: bytes = b""
    location: str = ""
    cut_answer: int | None = None
    cut_request: int | None = None
    wait_s: float = 0.0

    def meets(self, method: str, path: str) -> bool:
        """Whether it is this request's turn."""
        if method != self.method or self.part not in path:
            return False
        self.after -= 1
        if self.after >= 0:
            return False
        self.times -= 1
        return self.times >= 0


@dataclass
class PoorWeb:
    """The service; a context manager.

    Attributes:
        target: address of the real server.
        certificate: with its key, PEM, for HTTPS; Orthanc 1.10.1 of Debian drops the connections of its own HTTPS.
        faults: may be set at any time.
        seen: (method, path) of all requests.
        web: its address.
    """

    target: str
    certificate: str | None = None
    faults: list[Fault] = field(default_factory=list)
    seen: list[tuple[str, str]] = field(default_factory=list)

    def __enter__(self) -> PoorWeb:
        """Start it."""
        poor = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_: Any) -> None:
                pass

            def do_GET(self) -> None:  # noqa: N802  the name that http.server calls
                poor.answer(self)

            do_POST = do_GET  # noqa: N815

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        if self.certificate:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(self.certificate)
            self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()
        self.web = f"http{'s' if self.certificate else ''}://127.0.0.1:{self.server.server_port}/dicom-web"
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """End it."""
        self.server.shutdown()
        self.server.server_close()

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        """Pass a request on, unless it is to fare badly."""
        self.seen.append((request.command, request.path))
        fault = next((each for each in self.faults if each.meets(request.command, request.path)), Fault("", ""))
        length = int(request.headers.get("Content-Length", 0))
        if fault.cut_request is not None:
            request.rfile.read(fault.cut_request)
            _drop(request)
            return
        body = request.rfile.read(length)
        time.sleep(fault.wait_s)
        if fault.status:
            status, headers, content = fault.status, [("Content-Type", "application/dicom+json")], fault.body
            headers += [("Location", fault.location)] if fault.location else []
        else:
            status, headers, content = self._real(request, body)
        request.send_response(status)
        for name, value in headers:
            if name.lower() not in HOP:
                request.send_header(name, value)
        request.send_header("Content-Length", str(len(content)))
        request.end_headers()
        request.wfile.write(content if fault.cut_answer is None else content[: fault.cut_answer])
        if fault.cut_answer is not None:
            _drop(request)

    def _real(self, request: BaseHTTPRequestHandler, body: bytes) -> tuple[int, list[tuple[str, str]], bytes]:
        connection = http.client.HTTPConnection(urlsplit(self.target).netloc, timeout=60)
        headers = {name: value for name, value in request.headers.items() if name.lower() not in HOP}
        connection.request(request.command, request.path, body, headers)
        answer = connection.getresponse()
        content = answer.read()
        connection.close()
        return answer.status, answer.getheaders(), content


def _drop(request: BaseHTTPRequestHandler) -> None:
    """Drop a connection as a machine does that dies: with a reset."""
    request.close_connection = True
    request.wfile.flush()
    request.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    request.connection.close()
