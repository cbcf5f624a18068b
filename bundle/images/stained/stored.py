"""Stained volumes written slab by slab by any number of processes, and read box by box.

A format is a module of this package that registers a :class:`~bundle.images.stained.formats.Format`. None is ever
whole in memory, and a volume is none of its format before :func:`finish`: no viewer opens what was left unfinished.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from bundle.common.discovery import import_modules
from bundle.common.errors import InputError
from bundle.common.places import is_remote, place, remove
from bundle.images.slides import reading
from bundle.images.stained.formats import DEPTH, FORMATS, Stain
from bundle.images.stained.spec import StainSpec

import_modules("bundle.images.stained")  # each format's registers it


def file_name(file_format: str) -> str:
    """The name of a result in a format."""
    return FORMATS[file_format].file_name


def create(path: Path, file_format: str, spec: StainSpec) -> None:
    """Make room for a volume, in place of what is there; one process does it before any writes a slab.

    Raises:
        InputError: if the format cannot hold it.
    """
    if spec.channels not in (3, 4):
        raise ValueError(f"{spec.channels} channels; a stain has 3 (RGB) or 4 (RGBA)")
    FORMATS[file_format].check(spec)
    remove(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    FORMATS[file_format].create(path, spec)


def write_slab(path: Path, file_format: str, spec: StainSpec, start: int, slab: np.ndarray) -> None:
    """Write slices from ``start`` on, in any order and from any process; writing anew repairs what was cut short.

    Args:
        path: as given to :func:`create`.
        file_format: one of ``FORMATS``.
        spec: as given to :func:`create`.
        start: the first slice, a multiple of ``DEPTH``.
        slab: (D, Y, X, C), uint8, of ``DEPTH`` slices or those up to the last.

    Raises:
        OSError: if the disk is full or fails; the slab is to be written again then.
    """
    expected = (min(DEPTH, spec.shape[0] - start), *spec.shape[1:], spec.channels)
    if start % DEPTH or slab.shape != expected or slab.dtype != np.uint8:
        raise ValueError(f"slab {slab.shape} of {slab.dtype} at slice {start}; it is {expected} of uint8")
    FORMATS[file_format].write_slab(path, spec, start, slab)


def finish(path: Path, file_format: str, spec: StainSpec) -> None:
    """Make a volume readable when all its slabs are written; once is enough, again does no harm."""
    FORMATS[file_format].finish(path, spec)


def open_stain(path: Path | str) -> Stain:
    """Open a finished volume that this program has written.

    Args:
        path: its file or folder, or its URL.

    Raises:
        InputError: if it is missing, truncated, corrupt, not finished, or not one that this program has written.
    """
    path = place(path)
    if not path.exists():
        raise InputError(f"{path} does not exist.")
    names = [FORMATS[name].file_name for name in sorted(FORMATS)]
    within = [path / name for name in names if (path / name).exists()]
    if within:
        raise InputError(f"{path} is a folder with a stained volume; name the volume itself, {within[0]}.")
    found = next((each for each in FORMATS.values() if each.holds(path)), None)
    if found is None:
        raise InputError(f"{path} is no stained volume; this program writes {', '.join(names)}.")
    if is_remote(path) and not FORMATS[found.name].remote:
        raise InputError(f"{path} is {found.title}, which is read from a disk only; copy it there.")
    with reading(str(path)):
        return found.open(path)
