"""A PACS that never ends does not hold MONAI Label's server: its store, in its own environment, before one."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import time

import pytest

from tests.conftest import ROOT
from tests.hospital.conftest import environment_of, needs
from tests.hospital.hostile import body_drips, hostile, whole

ASKED = """
import sys
from bundle.hospital.pacs import limits
from lib import series
from lib.answers import answer
series.LONGEST_S, limits.MOST_PAGES, series.MOST_LIST_BYTES = 1.0, 7, 100_000
client = series.connect(sys.argv[1])
try:
    if sys.argv[2] == "object":
        client.retrieve_instance("1.2", "1.2.3", "1.2.3.4")
    else:
        series.all_of(client, client.search_for_series, {})
except Exception as error:
    said = answer(error, sys.argv[1])
    print(said.status_code, said.detail)
"""


def told(address: str, what: str) -> str:
    """What a client is told."""
    needs("label")
    environment = {**os.environ, "PYTHONPATH": f"{ROOT / 'scripts' / 'label'}{os.pathsep}{ROOT}"}
    words = [environment_of("label"), "-c", ASKED, address, what]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60, env=environment)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.parametrize("what", ["list", "object"])
def test_an_answer_by_drips_has_a_deadline(what):
    began = time.monotonic()
    with hostile(body_drips) as address:
        assert told(address, what).startswith(f"502 {address} was not done after 1 s while answering")
    assert time.monotonic() - began < 40


@pytest.mark.parametrize(("pause_s", "said"), [(0, "no end of answers to one query"), (0.4, "was not done after 1 s")])
def test_pages_for_ever_come_to_an_end(pause_s, said):
    asked: list[bytes] = []

    def answer(connection: socket.socket, request: bytes) -> None:
        asked.append(request)
        time.sleep(pause_s)
        whole(connection, json.dumps([{"0020000E": {"vr": "UI", "Value": [f"1.2.{len(asked)}"]}}]).encode())

    with hostile(answer) as address:
        assert said in told(address, "list")
    assert len(asked) <= 8


@pytest.mark.parametrize(
    ("body", "said"),
    [(b"[" * 100 + b"]" * 100, "nests its answer 100 deep"), (b" " * 200_000, "sent more than 1000")],
)
def test_what_is_too_deep_or_too_large_is_refused(body, said):
    with hostile(lambda connection, _: whole(connection, body)) as address:
        assert said in told(address, "list")
