"""``python -m …`` in a fork of one process that has imported MONAI already, which else takes 10 s of every run.

The fork has its own memory, folder, environment and output, as a process of its own; only the imports are shared.
"""

from __future__ import annotations

import atexit
import multiprocessing
import os
import runpy
import subprocess
import sys
import tempfile
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from unittest.mock import patch

CPU = {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
SHARED = ["monai.bundle", "torchvision", "torch.utils.tensorboard"]
context: Any = multiprocessing.get_context("forkserver")
context.set_forkserver_preload(SHARED)


def run_module(words: Sequence[str], cwd: Path, timeout: float = 600) -> subprocess.CompletedProcess:
    """Run ``python -m`` and words on one thread of the CPU; gives what :func:`subprocess.run` does, with its text."""
    environment = {**os.environ, **CPU}
    with tempfile.TemporaryDirectory() as folder:
        out, err = Path(folder, "out"), Path(folder, "err")
        child = context.Process(target=_child, args=(list(words), str(cwd), environment, str(out), str(err)))
        with patch.dict(os.environ, CPU):  # that of the process with the imports, which the first child starts
            child.start()
        child.join(timeout)
        if child.exitcode is None:
            child.kill()
            child.join()
            raise subprocess.TimeoutExpired(list(words), timeout, out.read_bytes(), err.read_bytes())
        said = [path.read_text(encoding="utf-8") if path.exists() else "" for path in (out, err)]
        return subprocess.CompletedProcess(list(words), child.exitcode, *said)


def _child(words: list[str], cwd: str, environment: dict[str, str], out: str, err: str) -> None:
    """Become a process as ``python -m`` would start it."""
    for number, path in ((1, out), (2, err)):
        with Path(path).open("wb") as stream:
            os.dup2(stream.fileno(), number)
    sys.stdout, sys.stderr = (os.fdopen(number, "w", buffering=1, closefd=False) for number in (1, 2))
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(cwd)
    sys.path[:] = [cwd, *(path for path in sys.path if path not in ("", cwd))]
    sys.argv = list(words)
    try:
        runpy.run_module(words[0], run_name="__main__", alter_sys=True)
    except SystemExit:
        raise
    except BaseException:
        sys.excepthook(*sys.exc_info())
        sys.exit(1)
    finally:
        threading._shutdown()
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
