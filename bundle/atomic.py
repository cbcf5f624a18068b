"""Files and folders that appear whole or not at all."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bundle.errors import InputError

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


def check_writable(output_dir: str | Path) -> None:
    """Make a folder and see that a file can be made in it.

    Raises:
        InputError: if not.
    """
    folder = Path(output_dir)
    probe = folder / f".{os.getpid()}.probe"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise InputError(f"output_dir {folder} cannot be written ({error.strerror}); choose another folder.") from error


def write_json(path: Path, content: Any) -> None:
    """Write JSON in the house's style, whole or not at all."""
    with whole_file(path) as partial:
        partial.write_text(json.dumps(content, indent=4, ensure_ascii=False, default=str) + "\n", encoding="utf-8")
