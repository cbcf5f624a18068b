"""A PACS that never ends, by a byte, a page, a bracket or a bomb, is one line in a given time and a given memory."""

from __future__ import annotations

import gzip
import json
import re
import socket
import threading
import time
import tracemalloc
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from pydicom import Dataset, dcmread
from pynetdicom import evt

from bundle.hospital.pacs import dimse, limits, web
from bundle.hospital.pacs.client import connect
from bundle.hospital.pacs.faults import LaterError, PacsError, Patience
from tests.hospital.hostile import HEAD, body_drips, drip, hostile, whole
from tests.hospital.orthanc import free_ports
from tests.hospital.pacs_parts import SERIES, STUDY, certificate, command, make_ct
from tests.hospital.small_pacs import SmallPacs

ONCE = Patience(attempts=1, timeout_s=2.0)


def head_drips(connection: socket.socket, _: bytes) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\nX-Header: ")
    drip(connection, b"a")


def chunk_drips(connection: socket.socket, _: bytes) -> None:
    connection.sendall(HEAD + b"Transfer-Encoding: chunked\r\n\r\nfffffff\r\n")
    drip(connection, b"[ ")


def one_line(capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch, *words: object) -> tuple[int, str]:
    """Exit code and the one line of a command."""
    code, shown, err = command(capsys, monkeypatch, *words, "--attempts", "1", "--timeout", "2")
    assert shown == ""
    assert err.strip().startswith("error: ")
    assert err.strip().count("\n") == 0
    return code, err


@pytest.mark.parametrize("answer", [body_drips, head_drips, chunk_drips])
def test_an_answer_by_drips_has_a_deadline(answer, capsys, monkeypatch):
    monkeypatch.setattr(web, "LONGEST_LIST_S", 0.6)
    began = time.monotonic()
    with hostile(answer) as address:
        code, said = one_line(capsys, monkeypatch, "find", "--pacs", address)
    assert code == 75
    assert "was not done after 0." in said
    assert time.monotonic() - began < 2


def test_a_handshake_by_drips_has_a_deadline(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(web, "LONGEST_LIST_S", 0.6)
    trusted = certificate(tmp_path, "own").with_suffix(".crt")

    def listen(listener: socket.socket) -> None:
        with suppress(OSError):
            connection, _ = listener.accept()
            connection.sendall(b"\x16\x03\x03\x3f\xff\x02")  # of a ServerHello of 16 KiB
            drip(connection, b"\0")

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=listen, args=(listener,), daemon=True).start()
        address = f"https://127.0.0.1:{listener.getsockname()[1]}/dicom-web"
        code, said = one_line(capsys, monkeypatch, "find", "--pacs", address, "--ca_file", trusted)
    assert (code, "was not done after 0." in said) == (75, True)


def test_an_object_by_drips_has_a_deadline(tmp_path, monkeypatch):
    monkeypatch.setattr(web, "LONGEST_OBJECT_S", 0.6)
    (file,) = make_ct(tmp_path, slices=1)
    with hostile(body_drips) as address:
        client = connect(address, ONCE)
        with pytest.raises(LaterError, match=r"was not done after 0.6 s while sending object 1\.2"):
            client.fetch(STUDY, SERIES, ["1.2"], lambda *_: None)
        with pytest.raises(LaterError, match=r"was not done after 0.6 s while storing"):
            client.store([file], lambda *_: None)


def pages(start: int, count: int) -> bytes:
    """Answers with UIDs that were never given before."""
    return json.dumps([{"0020000D": {"vr": "UI", "Value": [f"1.2.{start + n}"]}} for n in range(count)]).encode()


@pytest.mark.parametrize(("most", "value"), [("MOST_PAGES", 7), ("MOST_ANSWERS", 70)])
def test_pages_for_ever_come_to_an_end(most, value, capsys, monkeypatch):
    monkeypatch.setattr(limits, most, value)
    asked: list[bytes] = []

    def answer(connection: socket.socket, request: bytes) -> None:
        asked.append(request)
        whole(connection, pages(10 * len(asked), 10))

    with hostile(answer) as address:
        code, said = one_line(capsys, monkeypatch, "find", "--pacs", address)
    assert code == 1
    assert "no end of answers to one query: 80 in 8 parts so far; ask for less" in said
    assert len(asked) == 8


def test_pages_that_each_come_in_time_have_a_deadline_together(capsys, monkeypatch):
    monkeypatch.setattr(web, "LONGEST_LIST_S", 1.0)
    asked: list[bytes] = []

    def answer(connection: socket.socket, request: bytes) -> None:
        asked.append(request)
        time.sleep(0.3)
        whole(connection, pages(len(asked), 1))

    with hostile(answer) as address:
        code, _ = one_line(capsys, monkeypatch, "find", "--pacs", address)
    assert code == 75
    assert len(asked) <= 4


@pytest.mark.parametrize("depth", [limits.MOST_DEPTH + 1, 100_000])
@pytest.mark.parametrize("pair", [("[", "]"), ('{"a":', "}")])
def test_deep_nesting_is_refused(depth, pair, capsys, monkeypatch):
    body = (pair[0] * depth + "0" + pair[1] * depth).encode()
    with hostile(lambda connection, _: whole(connection, body)) as address:
        code, said = one_line(capsys, monkeypatch, "find", "--pacs", address)
    assert (code, f"nests its answer {depth} deep" in said) == (1, True)


def test_brackets_in_text_are_no_nesting():
    limits.check_depth("", json.dumps([{"a": '[["\\{' * 100, "b": [[]]}]).encode())
    limits.check_depth("", b"")


def bombs() -> dict[str, tuple[bytes, bytes]]:
    """An answer of 256 MB in few bytes, and how it is packed."""
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    zeros = b" " * (1 << 20)
    once = b"".join(packer.compress(zeros) for _ in range(256)) + packer.flush()
    return {"gzip": (b"gzip", once), "gzip in gzip": (b"gzip, gzip", gzip.compress(once))}


@pytest.mark.parametrize("name", ["gzip", "gzip in gzip", "as it is"])
def test_a_bomb_takes_no_more_memory_than_an_answer_may(name, capsys, monkeypatch):
    monkeypatch.setattr(web, "MOST_LIST_BYTES", 4 << 20)

    def answer(connection: socket.socket, _: bytes) -> None:
        if name == "as it is":
            connection.sendall(HEAD + b"\r\n")
            while True:
                connection.sendall(b" " * (1 << 16))
        how, body = packed[name]
        whole(connection, body, b"Content-Encoding: " + how + b"\r\n")

    packed = bombs()
    with hostile(answer) as address:
        tracemalloc.start()
        code, said = one_line(capsys, monkeypatch, "find", "--pacs", address)
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert (code, "sent more than 4194304 bytes while answering a query" in said) == (1, True)
    assert most < 24 << 20


def test_an_object_larger_than_may_be_is_refused(monkeypatch):
    monkeypatch.setattr(web, "MOST_OBJECT_BYTES", 1 << 20)
    said = "sent more than 1048576 bytes while sending object"
    with hostile(lambda wire, _: whole(wire, bytes(2 << 20))) as address, pytest.raises(PacsError, match=said):
        connect(address, ONCE).fetch(STUDY, SERIES, ["1.2"], lambda *_: None)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"null",
        b'"text"',
        b"7",
        b"[7]",
        b"[[]]",
        b'[{"0020000D": 7}]',
        b"[" + b"9" * 5000 + b"]",
        b"\xff\xfe",
        b"{",
    ],
)
def test_answers_of_another_kind_are_a_line_or_nothing(body, capsys, monkeypatch):
    with hostile(lambda connection, _: whole(connection, body)) as address:
        words = ("find", "--pacs", address, "--attempts", "1")
        code, shown, err = command(capsys, monkeypatch, *words)
    assert (code, shown.strip(), err) == (0, "no series matches", "") or (
        code == 75 and re.fullmatch(r"error: .* gave no readable answer while answering a query \(\w+\)\.", err.strip())
    )


@contextmanager
def small(monkeypatch: pytest.MonkeyPatch, files: list[Path], **handlers: Callable) -> Iterator[str]:
    """An application entity with a handler of ours; its address."""
    for name, handler in handlers.items():
        monkeypatch.setattr(SmallPacs, name, handler)
    pacs = SmallPacs(*files)
    with pacs:
        yield pacs.address


def answers_for_ever(self: SmallPacs, event: evt.Event) -> Iterator[tuple[int, Dataset | None]]:
    number = 0
    while True:
        number += 1
        found = Dataset()
        found.QueryRetrieveLevel, found.StudyInstanceUID = "STUDY", f"1.2.{number}"
        yield 0xFF00, found


def slow_answers_for_ever(self: SmallPacs, event: evt.Event) -> Iterator[tuple[int, Dataset | None]]:
    for each in answers_for_ever(self, event):
        time.sleep(0.1)
        yield each


def dripping(self: SmallPacs, event: evt.Event) -> Iterator[tuple[int, Dataset | None]]:
    with suppress(OSError, AttributeError):
        drip(event.assoc.dul.socket.socket, b"\4\0\0\x0f\xff\xff")  # of data that takes 1 MiB to come
    yield 0xFF00, None


def test_answers_by_dimse_for_ever_come_to_an_end(capsys, monkeypatch):
    monkeypatch.setattr(limits, "MOST_ANSWERS", 40)
    with small(monkeypatch, [], find=answers_for_ever) as address:
        code, said = one_line(capsys, monkeypatch, "find", "--pacs", address)
    assert (code, "no end of answers to one query: 41" in said) == (1, True)


@pytest.mark.parametrize("find", [slow_answers_for_ever, dripping])
def test_answers_by_dimse_have_a_deadline_together(find, capsys, monkeypatch):
    monkeypatch.setattr(dimse, "LONGEST_LIST_S", 1.0)
    began = time.monotonic()
    with small(monkeypatch, [], find=find) as address:
        code, said = one_line(capsys, monkeypatch, "find", "--pacs", address)
    assert (code, "was not done after 1 s while answering a query" in said) == (75, True)
    assert time.monotonic() - began < 10


def test_an_association_by_drips_has_a_deadline(capsys, monkeypatch):
    monkeypatch.setattr(dimse, "LONGEST_LIST_S", 1.0)
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def listen() -> None:
            with suppress(OSError):
                while True:
                    connection, _ = listener.accept()
                    threading.Thread(target=quietly_drip, args=(connection,), daemon=True).start()

        def quietly_drip(connection: socket.socket) -> None:
            with suppress(OSError):
                drip(connection, b"\2\0\0\x0f\xff\xff")

        threading.Thread(target=listen, daemon=True).start()
        began = time.monotonic()
        code, said = one_line(capsys, monkeypatch, "find", "--pacs", f"dicom://A@127.0.0.1:{listener.getsockname()[1]}")
        assert (code, "was not done after 1 s" in said) == (75, True)
        assert time.monotonic() - began < 10


def test_more_bytes_by_dimse_than_may_be_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(dimse, "MOST_OBJECT_BYTES", 100_000)
    files = make_ct(tmp_path, slices=1, PixelData=bytes(300 * 300 * 2), Rows=300, Columns=300)
    with small(monkeypatch, files) as address:
        uid = str(dcmread(files[0]).SOPInstanceUID)
        with pytest.raises(PacsError, match="sent more than 100000 bytes while sending objects"):
            connect(address, ONCE).fetch(STUDY, SERIES, [uid], lambda *_: None)


@pytest.mark.parametrize("talk", [b"\2\0\0\x0f\xff\xff", b""])
def test_who_drips_into_the_port_of_a_move_holds_nothing(talk, monkeypatch):
    (port,) = free_ports(1)

    def connect_and_drip() -> None:
        with suppress(OSError), socket.create_connection(("127.0.0.1", port)) as wire:
            drip(wire, talk) if talk else time.sleep(20)

    def move(self: SmallPacs, event: evt.Event) -> Iterator:
        threading.Thread(target=connect_and_drip, daemon=True).start()
        time.sleep(0.5)
        yield None, None

    began = time.monotonic()
    with small(monkeypatch, [], move=move) as address:
        client = connect(address, ONCE, fetch="move", receive_port=port)
        with pytest.raises(PacsError, match="entered there"):
            client.fetch(STUDY, SERIES, ["1.2"], lambda *_: None)
    while any(type(thread).__name__ == "DULServiceProvider" for thread in threading.enumerate()):
        time.sleep(0.1)  # such a thread would hold the process when it ends
        assert time.monotonic() - began < 15
    assert time.monotonic() - began < 15


@pytest.mark.parametrize("status", [0xA700, 0xB000, 0xB001, 0xFE00])
def test_a_limit_of_answers_is_said_and_is_not_taken_for_a_whole_list(status, capsys, monkeypatch):
    def find(self: SmallPacs, event: evt.Event) -> Iterator[tuple[int, Dataset | None]]:
        found = Dataset()
        found.QueryRetrieveLevel, found.StudyInstanceUID = "STUDY", "1.2"
        yield 0xFF00, found
        yield status, None

    with small(monkeypatch, [], find=find) as address:
        code, said = one_line(capsys, monkeypatch, "find", "--pacs", address)
    assert (code, f"status {status:04X}h after 1 answers to a query" in said) == (1, True)
    assert "raise its limit, or ask for less" in said
