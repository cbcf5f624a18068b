"""Under which names MONAI Label's server answers: its real ASGI application, asked in its own environment."""

from __future__ import annotations

import json
import os
import subprocess

import pytest

from bundle.common.errors import InputError
from scripts.label.__main__ import NAMES, own_names
from tests.conftest import ROOT
from tests.hospital.conftest import environment_of, needs

ASKED = """
import json, sys
from lib.server import app
from starlette.testclient import TestClient
told = []
for host, address in json.loads(sys.argv[1]):
    client = TestClient(app, base_url=f"http://{address}:8000", raise_server_exceptions=False)
    answer = client.get("/openapi.json", headers={"Host": host} | ({"Origin": f"http://{host}"} if host else {}))
    told.append((answer.status_code, answer.json().get("detail", "")))
print(json.dumps(told))
"""
OURS = "127.0.0.1"
SERVED = {
    "localhost:8000": OURS,
    "LOCALHOST": OURS,
    "localhost.:8000": OURS,
    "127.0.0.1:8000": OURS,
    "[::1]:8000": OURS,
    "machine.lab:8000": OURS,
    "10.1.2.3:8000": "10.1.2.3",  # its own address, where it listens on all
    "[fe80::1]:8000": "[fe80::1]",
}
REFUSED = {
    "": OURS,
    "rebound.example:8000": OURS,
    "127.0.0.1.rebound.example": OURS,
    "localhost.rebound.example:8000": OURS,
    "machine.lab.rebound.example": OURS,
    "localhost@rebound.example": OURS,
    "localhost:x@rebound.example:8000": OURS,
    "rebound.example#localhost": OURS,
    "10.9.9.9:8000": "10.1.2.3",
    "[::1": OURS,
    "localhost\\.rebound.example": OURS,
    "*": OURS,
}


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[int, str]]:
    """Status and words for each host."""
    needs("label")
    folder = tmp_path_factory.mktemp("label")
    hosts = {**SERVED, **REFUSED}
    environment = {**os.environ, "PYTHONPATH": f"{ROOT / 'scripts' / 'label'}{os.pathsep}{ROOT}"}
    environment |= {NAMES: " ".join(own_names("127.0.0.1", "machine.lab")), "CUDA_VISIBLE_DEVICES": ""}
    words = [environment_of("label"), "-c", ASKED, json.dumps(list(hosts.items()))]
    done = subprocess.run(words, env=environment, cwd=folder, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return dict(zip(hosts, json.loads(done.stdout.splitlines()[-1]), strict=True))


@pytest.mark.parametrize("host", SERVED)
def test_its_own_names_are_served(host: str, told: dict) -> None:
    assert told[host][0] == 200


@pytest.mark.parametrize("host", REFUSED)
def test_a_name_that_leads_here_from_elsewhere_is_not(host: str, told: dict) -> None:
    status, detail = told[host]
    assert status == 403
    assert "this server is not called" in detail
    assert "--names" in detail


@pytest.mark.parametrize("names", ["*", "machine.lab:8000", "http://machine.lab", "a b", "", "a,,b", "-x", ["x", "*"]])
def test_names_that_are_none_are_refused(names: object) -> None:
    with pytest.raises(InputError, match="give names or addresses without port"):
        own_names("127.0.0.1", names)  # type: ignore[arg-type]


def test_a_server_on_all_addresses_is_called_by_the_machine_s_name() -> None:
    assert own_names("127.0.0.1", ()) == ["127.0.0.1"]
    assert own_names("0.0.0.0", "machine.lab,10.1.2.3") == [os.uname().nodename, "machine.lab", "10.1.2.3"]
