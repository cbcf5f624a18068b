"""A cell's process is waited for when a study is told to stop."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from bundle.studies.cells import _run

SLOW_TO_SAVE = """
import pathlib, signal, sys, time

def save(*_):
    time.sleep(1.5)
    pathlib.Path("saved").touch()
    sys.exit(143)

signal.signal(signal.SIGTERM, save)
pathlib.Path("begun").touch()
time.sleep(60)
"""


def test_ctrl_c_ends_no_sooner_than_the_training_that_saves(tmp_path: Path):
    def report() -> None:
        if (tmp_path / "begun").exists():
            raise KeyboardInterrupt

    with (tmp_path / "out").open("w") as out, pytest.raises(KeyboardInterrupt):
        _run([sys.executable, "-c", SLOW_TO_SAVE], tmp_path, out, report)
    assert (tmp_path / "saved").exists()
