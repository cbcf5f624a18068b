"""A trained bundle, a scan, and a sample in air."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from tests.helpers.slide_staining import SMALL
from tests.helpers.volumes import make_voxels, write_scan


@pytest.fixture(scope="session")
def bundle(trained) -> Path:
    return trained / "bundle"


@pytest.fixture(scope="session")
def voxels() -> np.ndarray:
    return make_voxels()


@pytest.fixture(scope="session")
def scan(voxels, tmp_path_factory) -> Path:
    return write_scan(tmp_path_factory.mktemp("scan") / "scan.nii.gz", voxels)


@pytest.fixture(scope="session")
def sample(tmp_path_factory) -> tuple[Path, np.ndarray]:
    """A bright ball and a speck in a dark volume."""
    z, y, x = np.mgrid[:64, :96, :96] + 0.5
    ball = (z - 30) ** 2 + (y - 40) ** 2 + (x - 44) ** 2 < 14**2
    voxels = np.where(ball, 30000, 10000).astype(np.uint16)
    voxels[60, 90, 90] = 30000
    return write_scan(tmp_path_factory.mktemp("sample") / "scan.nii.gz", voxels), ball


LEVELS = {"bone_intensity": 30000, "background_intensity": 10000}


@pytest.fixture(scope="session")
def levelled(trained, tmp_path_factory) -> Path:
    """The same bundle, as if its dataset had declared the two grey values."""
    folder = tmp_path_factory.mktemp("levelled") / "bundle"
    shutil.copytree(trained / "bundle", folder)
    path = folder / "configs" / "inference.json"
    content = json.loads(path.read_text())
    content["source"] |= LEVELS
    path.write_text(json.dumps({**content, **LEVELS}))
    return folder


@pytest.fixture
def small_blocks(monkeypatch):
    """So that a small slide has several."""
    for name, value in SMALL.items():
        monkeypatch.setattr(name, value)
