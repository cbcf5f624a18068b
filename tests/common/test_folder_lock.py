"""One training at a time in a folder, and none kept out by one that is gone."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from bundle.common import folder_lock
from bundle.common.errors import InputError
from bundle.common.folder_lock import LOCK, hold, release
from tests.conftest import ROOT, TINY, run_bundle
from tests.helpers.training import TRAIN, started
from tests.training.test_resume import step_of, until

HOLDER = (  # with a fork, as those that load batches
    "import os, sys, time; from bundle.common.folder_lock import hold\n"
    "hold(sys.argv[1]); child = os.fork()\n"
    "print('holds', flush=True) if child else None; time.sleep(60)"
)
ASKER = "import fcntl, sys\nwith open(sys.argv[1], 'r+') as file: fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)"


def is_free(folder: Path) -> bool:
    """Whether a process that has nothing of ours could lock the folder."""
    asked = subprocess.run([sys.executable, "-c", ASKER, str(folder / LOCK)], capture_output=True, check=False)
    return asked.returncode == 0


def test_others_are_kept_out_until_the_process_is_gone_whatever_its_forks_do(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "link").symlink_to("run")
    words = [sys.executable, "-c", HOLDER, str(tmp_path / "run")]
    holder = subprocess.Popen(words, stdout=subprocess.PIPE, text=True, cwd=ROOT, start_new_session=True)
    assert holder.stdout.readline() == "holds\n"
    for name in ("run", "link"):
        with pytest.raises(InputError) as raised:
            hold(tmp_path / name)
        assert str(raised.value).startswith(
            f"output_dir {tmp_path / 'run'} is in the hands of a training that runs (process {holder.pid} on "
        )
        assert str(raised.value).endswith("; wait for its end, stop it, or choose another --output_dir.")
    holder.kill()
    holder.wait()
    hold(tmp_path / "link")
    os.killpg(holder.pid, signal.SIGKILL)  # the fork was there until now


def test_it_is_held_until_it_is_released(tmp_path):
    hold(tmp_path)
    hold(tmp_path)  # its own
    assert not is_free(tmp_path)
    release(tmp_path)
    release(tmp_path)
    assert is_free(tmp_path)


def test_a_lock_that_cannot_be_opened_is_named(tmp_path):
    (tmp_path / LOCK).mkdir()
    with pytest.raises(
        InputError, match=rf"{tmp_path / LOCK} cannot be opened \(Is a directory\); if nothing runs there"
    ):
        hold(tmp_path)


def test_where_nothing_can_be_locked_it_is_said(tmp_path, monkeypatch, caplog):
    def unsupported(file, operation):
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr(folder_lock.fcntl, "lockf", unsupported)
    hold(tmp_path)
    assert f"{tmp_path} cannot be locked (Function not implemented); see that nothing else uses it." in caplog.text


def test_a_second_training_is_refused_in_one_line_and_leaves_the_first_alone(dataset, tmp_path):
    run = tmp_path / "run"
    first = started(dataset, run, tmp_path, epochs=1000)
    until(lambda: (run / LOCK).exists())
    until(lambda: step_of(run) > 0)
    second = run_bundle("training", TRAIN, **TINY, dataset_dir=dataset, output_dir=run, resume="changed")
    assert second.returncode == 1
    assert f"output_dir {run} is in the hands of a training that runs (process {first.pid} on " in second.stderr
    assert "Traceback" not in second.stdout + second.stderr
    before = step_of(run)
    first.send_signal(signal.SIGINT)
    first.communicate(timeout=60)
    assert first.returncode == 130
    assert step_of(run) > before
