"""A measured run."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from bundle.data.load import load_datalist
from bundle.evaluation.paired import evaluate
from bundle.report.run import tell


@pytest.fixture(scope="session")
def measured_once(trained, tmp_path_factory) -> Path:
    """A finished run, measured without LPIPS."""
    folder = tmp_path_factory.mktemp("measured") / "run"
    shutil.copytree(trained, folder, ignore=shutil.ignore_patterns("checkpoints", "evaluation", "report.html"))
    data = load_datalist(str(trained.parent / "data"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TORCH_HOME", str(folder.parent))
        evaluate(data, str(folder / "bundle"), str(folder), "cpu", 32, 16, 0.5, ["training", "testing"], None)
        tell(str(folder))
    return folder


@pytest.fixture
def measured(measured_once, tmp_path) -> Path:
    """A copy of it to change."""
    return shutil.copytree(measured_once, tmp_path / "run")
