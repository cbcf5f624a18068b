"""A task that cannot be done ends the work, or is told of while the others go on."""

import subprocess
import sys

import pytest

from bundle.common.errors import InputError
from bundle.common.folder_lock import freed, held
from bundle.common.work.engine import Engine
from tests.conftest import ROOT
from tests.helpers.jobs import Toy


@pytest.mark.parametrize("workers", [1, 2])
def test_what_does_not_need_a_task_that_failed_is_done(tmp_path, workers):
    engine, job, told = Engine(workers=workers), Toy(tmp_path, faults=(("part-2", "refused"),)), {}
    with engine.started():
        engine.work_off(job, job.recipe, failed=told.setdefault)
    assert told == {"part-2": "part-2 is not to be done; leave it out."}
    done = [f"part-{number}" for number in (0, 1, 3, 4, 5)]
    assert sorted(path.parent.name for path in tmp_path.glob("steps/*/done.json")) == done  # not their sum
    assert sorted(job.begun()) == sorted([*done, "part-2"])


@pytest.mark.parametrize("workers", [0, -1, 1.5, True, "2"])
def test_a_number_of_workers_that_is_none_is_refused(workers):
    with pytest.raises(InputError, match=f"workers is {workers!r}; it must be a whole number of at least 1"):
        Engine(workers=workers)


def test_a_folder_that_nobody_has_is_free_at_once_and_stays_free(tmp_path):
    assert freed(tmp_path / "missing", 0)
    for _ in range(2):
        with held(tmp_path / "folder", "busy"):
            pass
        assert freed(tmp_path / "folder", 0)


def test_a_folder_that_another_process_has_is_waited_for(tmp_path):
    code = "import pathlib, sys, time; from bundle.common.folder_lock import held\n"
    code += "with held(pathlib.Path(sys.argv[1]), ''): print('mine', flush=True); time.sleep(2)"
    words = [sys.executable, "-c", code, str(tmp_path / "folder")]
    with subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout.readline() == "mine\n"
        assert not freed(tmp_path / "folder", 0)
        assert freed(tmp_path / "folder", 60)
        assert other.wait(10) == 0
