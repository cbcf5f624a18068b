"""Files and folders that appear whole or not at all."""

from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from bundle.common.errors import InputError
from bundle.common.places import is_remote, place, remote, see_local, shown

PARTIAL = ".*.partial*"  # what a process killed in the middle of writing leaves behind


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Give a temporary path beside ``path`` to write to, and move it there when the block ends well.

    A reader, or a run killed at any moment, sees the old file or the new one, never part of one.

    Args:
        path: the file to make or to replace; its folder is made. A remote one is written on this machine, and uploaded.

    Yields:
        The path to write, with the same suffix. It is removed if the block raises.
    """
    if is_remote(path):
        with tempfile.TemporaryDirectory() as folder:
            written = Path(folder) / path.name
            yield written
            remote(path).upload(written)
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = _partial(path)
    try:
        yield partial
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def _partial(path: Path) -> Path:
    return path.with_name(f".{path.stem}.{os.getpid()}.partial{path.suffix}")


def keep_as(path: Path, earlier: Path) -> None:
    """Let ``earlier`` be the file that is ``path`` now, which a new one is about to replace.

    At every instant one of the two names has a whole file. Where the file system has hard links ``path``
    stays; where it has none, ``path`` is missing until it is written anew.
    """
    link = _partial(earlier)
    link.unlink(missing_ok=True)
    try:
        os.link(path, link)
    except OSError:
        os.replace(path, earlier)
        return
    os.replace(link, earlier)
    link.unlink(missing_ok=True)  # to rename one name of a file to another name of it does nothing


def settle(folder: Path) -> None:
    """Wait until the names in a folder are on the disk, for a power cut; nothing where that cannot be asked."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


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


def write_array(path: Path, values: np.ndarray) -> None:
    """Write an array as ``.npy``, whole or not at all."""
    with whole_file(path) as partial, partial.open("wb") as file:
        np.save(file, values)


def read_array(path: Path) -> np.ndarray:
    """What :func:`write_array` wrote."""
    found: np.ndarray = np.load(io.BytesIO(path.read_bytes()))
    return found


def check_writable(output_dir: str | Path, option: str = "output_dir") -> None:
    """Make a folder and see that a file can be made in it.

    Args:
        output_dir: the folder; one in a store as :func:`~bundle.common.places.place` gives it.
        option: what names it, for the message.

    Raises:
        InputError: if not.
    """
    see_local(output_dir, option)
    folder = place(output_dir)
    if is_remote(folder) and {"", ".", ".."}.intersection(str(folder).rstrip("/").split("/")[3:]):
        way = "stores take such names for others than readers do, so leave them out"
        raise InputError(f"{option} {shown(folder)} has an empty name, a . or a .. between its slashes; {way}.")
    if is_remote(folder):  # what goes wrong there is told in a line of its own
        (folder / f".{os.getpid()}.probe").write_bytes(b"")
        (folder / f".{os.getpid()}.probe").unlink(missing_ok=True)
        return
    probe = folder / f".{os.getpid()}.probe"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise InputError(f"{option} {folder} cannot be written ({error.strerror}); choose another folder.") from error


def write_json(path: Path, content: Any) -> None:
    """Write JSON in the house's style, whole or not at all.

    What UTF-8 cannot hold, the stray bytes of a file's name, is written as JSON's own escapes.
    """
    text = json.dumps(content, indent=4, ensure_ascii=False, default=str) + "\n"
    with whole_file(path) as partial:
        partial.write_text(text, encoding="utf-8", errors="backslashreplace")
