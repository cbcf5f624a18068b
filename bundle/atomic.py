"""Files and folders that appear whole or not at all."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PARTIAL = ".*.partial*"  # what a process killed in the middle of writing leaves behind


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Give a temporary path beside ``path`` to write to, and move it there when the block ends well.

    A reader, or a run killed at any moment, sees the old file or the new one, never part of one.

    Args:
        path: the file to make or to replace; its folder is made.

    Yields:
        The path to write, with the same suffix. It is removed if the block raises.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.stem}.{os.getpid()}.partial{path.suffix}")
    try:
        yield partial
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


@contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """The same for a folder: an earlier ``path`` is replaced when the block ends well.

    Two renames, so a kill between them can leave the folder missing, but never mixed.
    """
    partial = path.with_name(f".{path.name}.partial")
    old = path.with_name(f".{path.name}.old")
    for folder in (partial, old):
        shutil.rmtree(folder, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        yield partial
        if path.exists():
            os.rename(path, old)
        os.rename(partial, path)
    finally:
        for folder in (partial, old):
            shutil.rmtree(folder, ignore_errors=True)
