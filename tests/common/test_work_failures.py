"""A task that cannot be done ends the work, or is told of while the others go on."""

import pytest

from bundle.common.errors import InputError
from bundle.common.folder_lock import freed, held
from bundle.common.work.engine import Engine
from tests.helpers.small_job import Small


@pytest.mark.parametrize("workers", [1, 2])
def test_what_does_not_need_a_task_that_failed_is_done(tmp_path, workers):
    engine, job, told = Engine(workers=workers), Small(tmp_path), {}
    with engine.started():
        engine.work_off(job, job.recipe(), failed=told.setdefault)
    assert told == {"ill": "ill is 3; it must be 4."}
    assert sorted(path.parent.name for path in tmp_path.glob("*/done.json")) == ["one", "two"]
    assert sorted((tmp_path / "begun.txt").read_text().split()) == ["ill", "one", "two"]


@pytest.mark.parametrize("workers", [1, 2])
def test_the_first_failure_ends_the_work_where_nobody_asked_to_go_on(tmp_path, workers):
    engine, job = Engine(workers=workers), Small(tmp_path)
    with engine.started(), pytest.raises(InputError, match="^ill is 3; it must be 4.$"):
        engine.work_off(job, job.recipe())


@pytest.mark.parametrize("workers", [0, -1, 1.5, True, "2"])
def test_a_number_of_workers_that_is_none_is_refused(workers):
    with pytest.raises(InputError, match=f"workers is {workers!r}; it must be a whole number of at least 1"):
        Engine(workers=workers)


def test_a_folder_that_nobody_has_is_free_at_once_and_stays_free(tmp_path):
    assert freed(tmp_path / "missing", 0)
    for _ in range(2):
        with held(tmp_path, "busy"):
            pass
        assert freed(tmp_path, 0)
