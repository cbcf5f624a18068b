"""What an evaluation of other ids has left is never taken for that of these, wherever it was killed."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path

import pytest

from bundle.common import folder_lock
from bundle.common.errors import InputError
from bundle.evaluation.working import BEGUN, sole

DONE = Path("steps") / "slide-0000" / "done.json"
ONE, OTHER = {"eval_patch": 32, "started": "now"}, {"eval_patch": 64, "started": "then"}


def left(work: Path) -> None:
    """A row of a stopped evaluation."""
    done = work / DONE
    done.parent.mkdir(parents=True, exist_ok=True)
    done.write_text("{}")
    (work / "colours.npz").write_bytes(b"")


def stopped(work: Path, origin: dict, check=lambda: None) -> None:
    """An evaluation that leaves a row, and is stopped."""
    with suppress(ZeroDivisionError), sole(work, "run", origin):
        check()
        left(work)
        raise ZeroDivisionError


def test_it_goes_on_with_its_own_and_removes_others(tmp_path):
    work, seen = tmp_path / "work", []
    done = work / DONE
    stopped(work, ONE)
    stopped(work, {**ONE, "started": "later"}, lambda: seen.append(done.exists()))
    assert seen == [True]
    with sole(work, "run", OTHER):
        assert not done.exists()
        assert json.loads((work / BEGUN).read_text()) == {"eval_patch": 64}
    assert not work.exists()


def test_a_kill_while_others_are_removed_leaves_nothing_that_is_taken_for_its_own(tmp_path):
    work = tmp_path / "work"
    stopped(work, ONE)
    done = work / DONE
    assert done.exists()
    (work / BEGUN).unlink()  # which may come first, and then the kill
    with sole(work, "run", OTHER):
        assert not done.exists()
        assert not (work / "colours.npz").exists()


def test_nothing_is_removed_once_another_may_have_it(tmp_path, monkeypatch):
    work, leave = tmp_path / "work", folder_lock._leave
    seen = []
    monkeypatch.setattr(folder_lock, "_leave", lambda folder: seen.append(sorted(folder.iterdir())) or leave(folder))
    with sole(work, "run", ONE):
        left(work)
        with pytest.raises(InputError, match="in the hands of an evaluation"), sole(work, "run", ONE):
            pass
    assert seen == [[work.resolve() / ".lock"]]
