"""A slide stained by workers of Dask is the slide stained by one process, whoever is killed meanwhile."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from bundle.common.errors import InputError
from bundle.staining.job import WORK
from bundle.staining.whole_slides.run import SlideRun
from tests.conftest import ROOT
from tests.helpers.slide_staining import HE, KI67, make_bundle, stain_slide, tissue, write_slide
from tests.helpers.volumes import files_of


@pytest.fixture(scope="module")
def he(tmp_path_factory):
    return make_bundle(tmp_path_factory.mktemp("he") / "bundle", HE, KI67, window=64, step=None)


@pytest.fixture(scope="module")
def slide(tmp_path_factory):
    """Three strips of a block each, as workers know no smaller ones."""
    return write_slide(tmp_path_factory.mktemp("slide") / "slide.tif", np.tile(tissue(440, 300, 30), (10, 1, 1)))


def command_of(bundle: Path, slide: Path, folder: Path, **ids: object) -> list[str]:
    """What a user types for it, with two workers."""
    configs = [str(bundle / "configs" / "inference.json"), str(ROOT / "configs" / "slide.json")]
    command = [sys.executable, "-m", "monai.bundle", "run", "inference", "--config_file", str(configs)]
    given = {"bundle_root": bundle, "input": slide, "output_dir": folder, "device": "cpu", "workers": 2, **ids}
    return [*command, *(word for name, value in given.items() for word in (f"--{name}", str(value)))]


def of_session(number: int) -> set[int]:
    """The processes of a session that are at work."""
    found = set()
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, _, session = path.read_text().rpartition(")")[2].split()[:4]
        except OSError:  # it is gone
            continue
        if int(session) == number and state != "Z":
            found.add(int(path.parent.name))
    return found


@pytest.mark.parametrize(("output_format", "viewer"), [("ome-zarr", True), ("ome-tiff", False)])
def test_two_workers_give_the_bytes_of_one_process(he, slide, tmp_path, output_format, viewer):
    ids = {
        "output_format": output_format,
        "viewer": viewer,
        "step": 16,
    }  # many windows, so that the bar has time to show
    stain_slide(he, slide, tmp_path / "one", **ids)
    command = command_of(he, slide, tmp_path / "two", **ids)
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    names = sorted(path.name for path in (tmp_path / "one").iterdir())
    assert sorted(path.name for path in (tmp_path / "two").iterdir()) == names
    for name in names:
        if name not in ("slide.json", "report.html", "ro-crate-metadata.json"):  # which tell when, and for how long
            assert files_of(tmp_path / "one" / name) == files_of(tmp_path / "two" / name)
    assert done.stdout.count("stained at 0.5 µm") == 1  # no worker says so too
    shown = re.findall(r"(\d+\.\d+)/(\d+\.\d+) Mpx of tissue", done.stderr)
    assert [float(now) for now, _ in shown] == sorted(float(now) for now, _ in shown)
    assert shown[-1][0] == shown[-1][1]


def test_a_look_while_the_result_is_written_says_once_that_all_is_stained(he, slide, tmp_path, monkeypatch, capsys):
    write = SlideRun._write
    monkeypatch.setattr(SlideRun, "_write", lambda run: (run._see(), run._see(), write(run))[-1])
    stain_slide(he, slide, tmp_path, output_format="ome-tiff", viewer=False)
    assert capsys.readouterr().out.count("all is stained") == 1


def test_a_command_that_is_killed_takes_its_workers_along_and_the_next_goes_on(he, slide, tmp_path):
    stain_slide(he, slide, tmp_path / "one", output_format="ome-tiff", step=32)
    command = command_of(he, slide, tmp_path / "two", output_format="ome-tiff", step=32, viewer=False)
    first = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.DEVNULL, start_new_session=True)
    done = tmp_path / "two" / WORK / "steps"
    while not list(done.glob("stain-*/*_*.json")):
        assert first.poll() is None
        time.sleep(0.01)
    workers = of_session(first.pid) - {first.pid}
    os.kill(first.pid, signal.SIGKILL)
    killed = time.monotonic()
    first.wait()
    assert len(workers) >= 2
    while of_session(first.pid) and time.monotonic() < killed + 30:
        time.sleep(0.05)
    assert time.monotonic() < killed + 10
    before = {path: path.stat().st_mtime_ns for path in done.glob("stain-*/*_*.json")}
    with pytest.MonkeyPatch.context() as patch:
        kept, clear = {}, SlideRun.clear
        see = lambda: kept.update({path: path.stat().st_mtime_ns for path in before})
        patch.setattr(SlideRun, "clear", lambda run: (see(), clear(run)))
        stain_slide(he, slide, tmp_path / "two", output_format="ome-tiff", step=32)
    assert kept == before
    assert files_of(tmp_path / "one" / "stained.ome.tif") == files_of(tmp_path / "two" / "stained.ome.tif")


def test_a_second_command_for_a_folder_is_refused_in_a_line(he, slide, tmp_path, monkeypatch):
    refused, go = [], SlideRun.go

    def meanwhile(run, *given):
        with pytest.raises(InputError) as raised:
            stain_slide(he, slide, tmp_path)
        refused.append(str(raised.value))
        go(run, *given)

    monkeypatch.setattr(SlideRun, "go", meanwhile)
    stain_slide(he, slide, tmp_path)
    (line,) = refused
    assert line.startswith(f"output_dir {tmp_path} is in the hands of a run that is at work (this very process); wait")
    assert not (tmp_path / WORK).exists()
