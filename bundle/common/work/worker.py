"""A worker of a Dask cluster: it makes the job of a recipe once, and does one of its tasks at a time."""

from __future__ import annotations

import base64
import hashlib
import importlib
import json
import logging
import os
import sys
import threading
import traceback
import warnings
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bundle.common.errors import InputError, line_of
from bundle.common.work.tasks import Job, Recipe

ROOT = Path(__file__).resolve().parents[3]  # of the code that runs
_one = threading.Lock()  # a network takes one batch at a time, whatever number of threads a worker was given
_held: dict[str, Job] = {}  # the job in hand, by the digest of its recipe


class _Worker:
    """What is known of this process."""

    is_one = False


def speaks() -> bool:
    """Whether this process tells a user what it does; a worker does not."""
    return not _Worker.is_one


def packed(recipe: Recipe) -> str:
    """A recipe as text for :func:`do`."""
    text = json.dumps({"maker": recipe.maker, "given": recipe.given, "folder": str(Path.cwd())}, default=str)
    return base64.b64encode(zlib.compress(text.encode())).decode("ascii")


def enter(root: str, function: str, given: list[str], *needs: Any) -> Any:
    """What Dask calls: a function of this module; sent as it is, so that a scheduler need not have our code.

    Args:
        root: of the code that the client runs, which this machine may have at the same place.
        function: its name.
        given: its arguments.
        needs: of what is done before; only that it is.
    """
    import importlib
    import os
    import sys

    if "bundle" not in sys.modules and os.path.isdir(root):  # noqa: PTH112  before a trained bundle, which has code too
        sys.path.insert(0, root)
    return getattr(importlib.import_module("bundle.common.work.worker"), function)(*given)


def warm(*modules: str) -> None:
    """Import what the first task will need, while the client still reads."""
    _hush()
    for module in modules:
        importlib.import_module(module)


def do(root: str, recipe: str, name: str) -> str:
    """Do a task.

    Args:
        root: of the code that the client runs.
        recipe: of :func:`packed`.
        name: of the task.

    Returns:
        The worker's name.

    Raises:
        RuntimeError: with a :class:`Failure` as text, which any process can read.
    """
    _Worker.is_one = True
    _hush()
    with _one:
        try:
            job = _job(root, recipe)
            job.marks.do(next(task for task in job.tasks() if task.name == name))
        except Exception as error:
            line = line_of(error)
            told = {"task": name, "worker": own_name(), "line": line, "trace": traceback.format_exc()}
            raise RuntimeError(json.dumps(told)) from None
    return own_name()


def _hush() -> None:
    """Leave out what libraries say of a codec that no scan here needs: it would cut into the client's bar."""
    logging.getLogger("monai").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", message="NvImgCodecPydicomReader")


def _job(root: str, recipe: str) -> Job:
    digest = hashlib.sha256(recipe.encode()).hexdigest()
    if digest not in _held:
        if Path(root).is_dir() and Path(root) != ROOT:
            raise InputError(f"worker {own_name()} runs the code in {ROOT}, not that in {root}; start it anew.")
        _held.clear()
        made: Mapping[str, Any] = json.loads(zlib.decompress(base64.b64decode(recipe)))
        if not Path(made["folder"]).is_dir():
            raise InputError(
                f"worker {own_name()} has no folder {made['folder']}, where the command was started; all workers must "
                "see the folders that it names."
            )
        os.chdir(made["folder"])  # names are given from there
        module, _, function = made["maker"].partition(":")
        _held[digest] = getattr(importlib.import_module(module), function)(**made["given"])
    return _held[digest]


def own_name() -> str:
    """Of this worker, as its cluster has it; empty where this process is none."""
    worker = _worker()
    return "" if worker is None else str(worker.name)


def is_wanted() -> bool:
    """Whether the task in hand is still asked for; not where who did has stopped or is gone."""
    worker = _worker()
    if worker is None:
        return True
    task = worker.state.tasks.get(worker.get_current_task())
    return task is None or task.state != "cancelled"


def _worker() -> Any:
    if "distributed" not in sys.modules:
        return None
    from distributed import get_worker

    try:
        return get_worker()
    except ValueError:  # no task's thread
        return None
