"""3D scans in HDF5 and NeXus files, one dataset of them, read a few slices at a time."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bundle.common.errors import InputError
from bundle.common.places import is_remote, opened, place
from bundle.images.calibration import Line, cf_line
from bundle.images.pixel_size import um_per
from bundle.images.slides import reading
from bundle.images.volumes.reader import Stored, reads
from bundle.images.volumes.readers.headers import three_axes

HDF5 = (".h5", ".hdf5", ".hdf", ".nxs", ".nx5", ".nexus")
LISTED = 12  # datasets that a message names
EVEN = 0.1  # of a step by which a place on an axis may miss a straight line: positions are kept in 32 bits
OTHER = {"rotation", "angle", "theta", "time", "frame", "energy", "projection", "wavelength", "channel", "c", "t"}
BLOCK = 1 << 18  # bytes that are fetched together of a remote file; a larger chunk of voxels is one request
NESTED = 8  # virtual datasets of virtual datasets that are followed


def split_dataset(path: Path) -> tuple[Path, str]:
    """Part ``FILE:/path/in/file`` into the file and the dataset, which is empty if none is given.

    A colon elsewhere, as after a drive or in a folder's name, is left alone, and a file that is there is a file.
    """
    text = str(path)
    places = [at for at, each in enumerate(text) if each == ":" and text[:at].lower().endswith(HDF5)]
    if not places or (not is_remote(path) and path.exists()):
        return path, ""
    at = places[-1]
    if len(places) > 1 or not is_remote(path):
        at = next((at for at in reversed(places) if place(text[:at]).is_file()), at)
    return place(text[:at]), text[at + 1 :]


def _open(path: Path) -> Any:
    import h5py
    import hdf5plugin  # noqa: F401  gives HDF5 the codecs that synchrotrons pack with: Blosc, LZ4, bitshuffle, Zstandard

    if is_remote(path):
        return h5py.File(opened(path, BLOCK), "r")
    # a file system without locks is no reason to fail
    return h5py.File(path, "r", locking="best-effort")


@reads(*HDF5)
def read_hdf5(path: Path) -> Stored:
    """A dataset of an HDF5 or NeXus file; the voxel size is that of its NeXus axes or its ``element_size_um``.

    Args:
        path: ``FILE:/path/in/file``; a file alone if NeXus names the dataset to show, or one alone is 3D.

    Raises:
        InputError: if there is no such dataset, several could be meant, or data that it refers to are missing.
    """
    path, name = split_dataset(path)
    with _open(path) as file:
        name = name or _default(path, file)
        dataset = _dataset(path, file, name)
        long = [axis for axis, size in enumerate(dataset.shape) if size > 1]
        kept = spatial_axes(f"{path}:{name}", axis_names(file, name, dataset), [0, 1, 2] if dataset.ndim == 3 else long)
        shape = three_axes(f"{path}:{name}", dataset.shape, kept)
        _check_data(path, dataset)
        spacing_um, origin_mm, direction = _grid(file, name, dataset, kept)
        chunks = dataset.chunks or (1,) * dataset.ndim
        read = Hdf5Slices(path, name, kept, dataset.ndim, shape)
        stored = Stored(shape, dataset.dtype, read, spacing_um, origin_mm, direction, chunks[kept[0]])
        return stored.calibrated(_line(f"{path}:{name}", file, dataset))


def _line(what: str, file: Any, dataset: Any) -> Line | None:
    """The line from stored to real values, of the CF conventions; NeXus' own fields for it are refused.

    NeXus gives the order of factor and offset in two ways.
    """
    group, _, own = dataset.name.rpartition("/")
    for name in (f"{own}_scaling_factor", f"{own}_offset", "scaling_factor", "offset"):
        if isinstance(file.get(f"{group}/{name}"), type(dataset)):
            raise InputError(f"{what} is packed, {group}/{name} says how; store real values.")
    return cf_line(what, dataset.attrs)


class Hdf5Slices:
    """Slices of a dataset, through a file handle that each process opens for itself: HDF5's do not outlive a fork.

    Args:
        path: the file.
        name: the dataset.
        kept: which of its axes are z, y and x.
        axes: how many it has; the others are of size 1.
        shape: (Z, Y, X).
    """

    def __init__(self, path: Path, name: str, kept: list[int], axes: int, shape: tuple[int, int, int]) -> None:
        self.path, self.name, self.axes, self.shape = path, name, axes, shape
        self.order = [*kept, *(axis for axis in range(axes) if axis not in kept)]
        self.process = -1
        self.dataset: Any = None

    def __call__(self, start: int, stop: int) -> np.ndarray:
        """Read slices start to stop."""
        if self.process != os.getpid():
            self.dataset, self.process = _open(self.path)[self.name], os.getpid()
        index = [slice(None)] * self.axes
        index[self.order[0]] = slice(start, stop)
        return np.asarray(self.dataset[tuple(index)]).transpose(self.order).reshape(stop - start, *self.shape[1:])


def _text(value: Any) -> list[str]:
    """The strings of an attribute, of which there may be one or several, of either kind."""
    values = np.atleast_1d(value).tolist() if value is not None else []
    return [each.decode("utf-8", "replace") if isinstance(each, bytes) else str(each) for each in values]


def _is_volume(item: Any) -> bool:
    """Whether it is a dataset of three axes longer than 1 of numbers."""
    import h5py

    return isinstance(item, h5py.Dataset) and item.dtype.kind in "buif" and sum(size > 1 for size in item.shape) == 3


def _default(path: Path, file: Any) -> str:
    """The dataset that NeXus says to show, if it is 3D, else the only one that is.

    Raises:
        InputError: if there is no such, or several.
    """
    shown = _nexus_default(file)
    if shown and _is_volume(file.get(shown)):
        return shown
    found: list[str] = []
    file.visititems(lambda name, item: found.append(name) if _is_volume(item) else None)
    if len(found) == 1:
        return f"/{found[0]}"
    if not found:
        raise InputError(f"{path} holds no dataset of 3 axes; if one is behind a link, give it as {path}:/path/in/file")
    listed = ", ".join(
        f"{path}:/{name} ({'×'.join(map(str, file[name].shape))} {file[name].dtype})" for name in found[:LISTED]
    )
    more = f" and {len(found) - LISTED} more" if len(found) > LISTED else ""
    raise InputError(
        f"{path} holds {len(found)} datasets of 3 axes and does not say which to take; give one: {listed}{more}"
    )


def _nexus_default(file: Any) -> str:
    """Path of the signal to which ``@default`` leads, or the only entry's only data; empty if nothing is said.

    NeXus allows any entry to be taken where none is the default; here it must be the only one.
    """
    import h5py

    group, place = file, ""
    for _ in range(NESTED):
        signal = _text(group.attrs.get("signal"))
        if signal:
            return f"{place}/{signal[0]}"
        step = _text(group.attrs.get("default"))
        if not step:
            groups = {name: item for name, item in group.items() if isinstance(item, h5py.Group)}
            kinds = {name: _text(item.attrs.get("NX_class")) for name, item in groups.items()}
            step = [name for name, kind in kinds.items() if kind in (["NXentry"], ["NXdata"])]
        if len(step) != 1 or not isinstance(group.get(step[0]), h5py.Group):
            # before 2014 the dataset itself was marked
            marked = [name for name, item in group.items() if _text(getattr(item, "attrs", {}).get("signal")) == ["1"]]
            return f"{place}/{marked[0]}" if len(marked) == 1 else ""
        group, place = group[step[0]], f"{place}/{step[0].strip('/')}"
    return ""


def _dataset(path: Path, file: Any, name: str) -> Any:
    import h5py

    if name not in file and file.get(name, getlink=True) is None:
        raise InputError(f"{path} has no dataset {name}; without one, what is in the file is listed.")
    with reading(f"{path}:{name}"):
        item = file[name]
    if not isinstance(item, h5py.Dataset):
        raise InputError(f"{path}:{name} is a group; give the dataset within it.")
    return item


def _check_data(path: Path, dataset: Any, depth: int = 0) -> None:
    """Raise an error if a dataset's voxels are not there: HDF5 would read what it is filled up with.

    Raises:
        InputError: naming the file that is missing or too short.
    """
    what = f"{path}:{dataset.name}"
    if is_remote(path) and (dataset.is_virtual or dataset.external):
        raise InputError(f"{what} is put together from other files, which is read from a disk only; copy it there.")
    if dataset.is_virtual:
        _check_sources(path, dataset, depth)
    elif dataset.external:
        for name, offset, size in dataset.external:
            file = Path(name.decode() if isinstance(name, bytes) else name)
            needed = min(size, dataset.nbytes)
            if not file.is_file() or file.stat().st_size < offset + needed:
                raise InputError(f"{what} keeps its voxels in {file}, which is missing or too short; put it there.")
    elif dataset.id.get_storage_size() == 0:
        raise InputError(f"{what} has no voxels: nothing was written to it.")


def _check_sources(path: Path, dataset: Any, depth: int) -> None:
    """Check the files of which a virtual dataset is put together."""
    what = f"{path}:{dataset.name}"
    mapped = 0
    for source in dataset.virtual_sources():
        if "%" in source.file_name.replace("%%", ""):
            raise InputError(f"{what} names its files by a pattern, {source.file_name}; copy it into one dataset.")
        mapped += source.vspace.get_select_npoints()
        for file in [path] if source.file_name == "." else _places(path, source.file_name):
            if file.is_file():
                break
        else:
            raise InputError(f"{what} takes voxels from {source.file_name}, which does not exist; put it there.")
        with reading(f"{what} takes voxels from {file}, which"), _open(file) as opened:
            found = opened[source.dset_name]
            if not _holds(found, source):
                raise ValueError(f"{source.dset_name} is {found.shape}, smaller than what is taken from it")
            if depth < NESTED:
                _check_data(file, found, depth + 1)
    if mapped < dataset.size:
        raise InputError(f"{what} takes {dataset.size - mapped} of its {dataset.size} voxels from no file.")


def _holds(found: Any, source: Any) -> bool:
    """Whether a dataset is as large as what a virtual one takes from it."""
    import h5py

    if source.src_space.get_select_type() == h5py.h5s.SEL_ALL:  # of which the size is not kept
        return bool(found.size >= source.vspace.get_select_npoints())
    _, last = source.src_space.get_select_bounds()
    return len(last) == found.ndim and all(place < size for place, size in zip(last, found.shape, strict=True))


def _places(path: Path, name: str) -> Iterator[Path]:
    """Where HDF5 looks for a file that a virtual dataset names."""
    given = Path(name)
    yield from (given, path.parent / given.name) if given.is_absolute() else (path.parent / given, given)


def _grid(
    file: Any, name: str, dataset: Any, kept: list[int]
) -> tuple[tuple[float | None, float, float] | None, list[float], np.ndarray]:
    """Spacing (z, y, x) in µm, origin (x, y, z) in mm and direction that a dataset states."""
    size_um = dataset.attrs.get("element_size_um")  # of ilastik and the HDF5 plug-in of Fiji: z, y, x
    if size_um is not None and np.size(size_um) == 3:
        z, y, x = np.asarray(size_um, float).ravel().tolist()
        return (z, y, x), [0.0] * 3, np.eye(3)
    axes = [_axis_um(file, name, dataset, axis) for axis in kept]
    zs, ys, xs = axes
    if ys is None or xs is None:
        return None, [0.0] * 3, np.eye(3)
    spacing_um = (abs(zs[1]) if zs else None, abs(ys[1]), abs(xs[1]))
    origin_mm = [each[0] / 1000.0 if each else 0.0 for each in axes[::-1]]
    return spacing_um, origin_mm, np.diag([np.sign(each[1]) if each else 1.0 for each in axes[::-1]])


def _axis_um(file: Any, name: str, dataset: Any, axis: int) -> tuple[float, float] | None:
    """The first place and the step in µm of the field that is named for an axis; None without an even one."""
    import h5py

    field = file[name.rpartition("/")[0] or "/"].get(axis_names(file, name, dataset)[axis] or "-")
    if not isinstance(field, h5py.Dataset) or field.ndim != 1 or field.dtype.kind not in "uif":
        return None
    unit_um = um_per(next(iter(_text(field.attrs.get("units"))), None))
    edges = len(field) - dataset.shape[axis]  # 1 where it gives the faces of the voxels
    if unit_um is None or edges not in (0, 1) or len(field) < 2:
        return None
    places = np.asarray(field[()], float) * unit_um
    step = (places[-1] - places[0]) / (len(places) - 1)
    uneven = np.abs(places - places[0] - step * np.arange(len(places))).max()
    return None if not uneven <= EVEN * abs(step) else (float(places[0] + edges * step / 2), float(step))


def axis_names(file: Any, name: str, dataset: Any) -> list[str]:
    """What each axis of a dataset is called by NeXus, by HDF5's dimension scales and labels, or by ilastik; or nothing.

    Args:
        file: open.
        name: of the dataset.
        dataset: it.
    """
    group = file[name.rpartition("/")[0] or "/"]
    names = _text(group.attrs.get("axes"))
    if not names:  # before 2014
        names = [
            each for part in _text(dataset.attrs.get("axes")) for each in part.strip("[]").replace(",", ":").split(":")
        ]
    found = [(scale[0].name or "").rpartition("/")[2] if len(scale) else scale.label for scale in dataset.dims]
    for at, each in enumerate(names):
        indices = np.atleast_1d(group.attrs.get(f"{each}_indices", at)).tolist()
        if len(indices) == 1 and 0 <= indices[0] < len(found):
            found[indices[0]] = each
    tags = next(iter(_text(dataset.attrs.get("axistags"))), "")
    if tags and not any(found):
        keys = re.findall(r'"key"\s*:\s*"(\w+)"', tags)
        found = keys if len(keys) == dataset.ndim else found
    return found


def spatial_axes(what: str, names: Sequence[str], kept: Sequence[int]) -> list[int]:
    """Which axes are z, y and x, by their names; in this order where they have none.

    Args:
        what: the dataset, for messages.
        names: of every axis, empty without one.
        kept: the three that are longer than 1, or all.

    Raises:
        InputError: if a name is of something else than a length, or they contradict each other.
    """
    words = {axis: {word.lower() for word in re.findall(r"[A-Z]?[a-z]+|[A-Z]+", names[axis])} for axis in kept}
    told = ", ".join(names[axis] or "?" for axis in kept)
    other = [names[axis] for axis in kept if words[axis] & OTHER]
    if other:
        raise InputError(f"{what} has axes {told}; {other[0]} is no length, so this is no reconstructed scan.")
    letters = [sorted(words[axis] & set("zyx")) for axis in kept]
    named = [each[0] for each in letters if len(each) == 1]
    if len(set(named)) == len(named) and not any(len(each) > 1 for each in letters):
        if len(named) == 3:
            return [kept[letters.index([letter])] for letter in "zyx"]
        if all(not each or each == [letter] for each, letter in zip(letters, "zyx", strict=False)):
            return list(kept)  # those that are named are where they would be anyway
    raise InputError(f"{what} has axes {told}; which is z, y and x is not clear, so name all three.")
