"""An evaluation as work that is shared out, and of which a stopped one keeps what it has done."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from tqdm import tqdm

from bundle.common.atomic import write_json
from bundle.common.folder_lock import empty, held
from bundle.common.run_folder import read_record
from bundle.common.work.engine import Engine
from bundle.common.work.tasks import Job, Recipe

BEGUN = "begun.json"  # in the folder of the work: what it is of
PASSING = ("started", "command", "machine", "processor", "capability", "gpus", "threads", "processes")  # of an origin


@contextmanager
def sole(work: Path, output_dir: str, origin: Mapping[str, Any]) -> Iterator[None]:
    """Keep a second evaluation out meanwhile; what a stopped one has done stays if it was of the same.

    Args:
        work: folder of the work; removed at the end.
        output_dir: of the run, for messages.
        origin: what the figures come from.

    Raises:
        InputError: if another process is at work in it, or its record cannot be read.
    """
    same = json.loads(json.dumps({name: value for name, value in origin.items() if name not in PASSING}, default=str))
    with held(work, f"output_dir {output_dir} is in the hands of an evaluation that is at work"):
        # without a record it is of what was being removed when it was killed
        if not (work / BEGUN).exists() or read_record(work / BEGUN) != same:
            empty(work)
        write_json(work / BEGUN, same)
        yield
        with suppress(OSError):  # what cannot be removed stays
            empty(work)


def work_off(
    job: Callable[[Callable[[], Any]], Job],
    recipe: Recipe,
    names: Sequence[str],
    engine: Engine,
    unit: str,
    module: str,
) -> None:
    """Do what is not done, and show how far it is.

    Args:
        job: makes it, given what it is to call when a task is done.
        recipe: by which a worker makes it.
        names: of its tasks.
        engine: does it.
        unit: what a task measures.
        module: that a worker imports first.
    """
    marks = job(lambda: None).marks
    left = sum(not marks.is_done(name) for name in names)
    with (
        engine.started([module], left > 0),
        tqdm(total=len(names), initial=len(names) - left, desc="evaluating", unit=unit, dynamic_ncols=True) as bar,
    ):
        engine.work_off(job(bar.update), recipe)
