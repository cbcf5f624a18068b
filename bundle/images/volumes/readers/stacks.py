"""3D scans kept as folders of slices, read a few slices at a time."""

from __future__ import annotations

import io
import itertools
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path

import imagecodecs
import numpy as np
import tifffile

from bundle.common.errors import InputError
from bundle.common.places import contents, is_remote
from bundle.images import png
from bundle.images.calibration import Line
from bundle.images.pixel_size import tiff_voxel_um
from bundle.images.slides import TIFF, reading
from bundle.images.tiff import line_of, ome_files
from bundle.images.volumes.reader import Stored
from bundle.images.volumes.readers.tiff import grey_fault, kind_of, open_tiff, read_tiff_stack

NUMBER = re.compile(r"(\d+(?:\.\d+)?)")  # 0.5 is one number, of a height
SHOWN = 5  # files that a message names


def natural(path: Path) -> list[tuple[int, str]]:
    """Sort key by which ``slice_9`` comes before ``slice_10``."""
    parts = re.split(r"(\d+)", path.name.lower())
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in parts]


@dataclass(frozen=True)
class Slice:
    """What one slice's file says in its header.

    Attributes:
        shape: of its image; (H, W) of a grey one.
        dtype: of its pixels.
        line: from stored to real values.
        pixel_um: (row, column), if it is stated.
        fault: why it is no slice, if it is none.
    """

    shape: tuple[int, ...]
    dtype: np.dtype
    line: Line | None
    pixel_um: tuple[float, float] | None
    fault: str | None


def _tiff_slice(path: Path) -> Slice:
    with open_tiff(path) as file:
        pages, first = len(file.pages), file.pages.first
        shape = ((pages,) if pages > 1 else ()) + first.shape
        voxel_um = tiff_voxel_um(file)
        pixel_um = voxel_um and (voxel_um[1], voxel_um[2])
        return Slice(shape, np.dtype(first.dtype), line_of(path, file), pixel_um, grey_fault(first))


def _png_slice(path: Path) -> Slice:
    content = path.read_bytes()
    header = png.header_of(content)
    shape = (*header.shape, *([3] if header.colour else []))
    dtype = np.dtype(np.uint16 if header.bits == 16 else np.uint8)
    return Slice(shape, dtype, None, header.pixel_um, None)


def _read_slice(path: Path, content: bytes | None) -> np.ndarray:
    """The pixels of a slice, of which the file's bytes are given if they are at hand."""
    if path.suffix.lower() not in TIFF:
        return imagecodecs.png_decode(path.read_bytes() if content is None else content)
    with tifffile.TiffFile(path if content is None else io.BytesIO(content)) as file:
        return file.pages.first.asarray()


def _pattern(path: Path) -> str:
    """A file's name with # for its numbers, lower case."""
    return NUMBER.sub("#", path.stem).lower() + path.suffix.lower()


def _named(files: Sequence[Path]) -> str:
    """The first names of a list."""
    more = f" and {len(files) - SHOWN} more" if len(files) > SHOWN else ""
    return ", ".join(each.name for each in files[:SHOWN]) + more


def _check_one_sequence(files: Sequence[Path]) -> None:
    """Raise an error if the names are not those of one sequence.

    Names that have no pattern in common, as ``a.tif`` and ``b.tif``, are taken as they are.
    """
    kinds: dict[str, list[Path]] = {}
    for each in files:
        kinds.setdefault(_pattern(each), []).append(each)
    by_size = sorted(kinds.values(), key=len, reverse=True)
    if len(by_size) == 1 or len(by_size[0]) == 1:
        return
    folder, main, others = files[0].parent, by_size[0], [each for kind in by_size[1:] for each in kind]
    if len(by_size[1]) * 2 > len(main):
        told = "; ".join(f"{len(kind)} like {kind[0].name}" for kind in by_size[:SHOWN])
        raise InputError(
            f"{folder} holds several sequences ({told}); a scan is one, so put it into a folder of its own."
        )
    raise InputError(
        f"{folder} holds {len(main)} slices like {main[0].name}, and {_named(others)}; move away what is none of them."
    )


def _check_numbers(files: Sequence[Path]) -> None:
    """Raise an error if the names count, but not to one order, not evenly, or leave some out."""
    rows = [[Decimal(number) for number in NUMBER.findall(each.stem)] for each in files]
    if len({_pattern(each) for each in files}) > 1 or not rows[0]:
        return
    columns = [column for column in zip(*rows, strict=True) if len(set(column)) > 1]
    unique = [column for column in columns if len(set(column)) == len(files)]
    folder = files[0].parent
    if not unique:
        told = "the same number several times" if len(columns) < 2 else "by several numbers"
        raise InputError(
            f"{folder} counts {told} ({_named(files)}); a scan is one sequence of slices, so leave only it."
        )
    for column in unique:
        for first, second in itertools.pairwise(range(len(files))):
            if column[first] > column[second]:
                raise InputError(
                    f"{folder} counts in no one order ({files[first].name}, {files[second].name}); name the slices by "
                    "one number of even length."
                )
    if len(columns) == 1:
        _check_gaps(files, columns[0])


def _check_gaps(files: Sequence[Path], numbers: Sequence[Decimal]) -> None:
    steps = [second - first for first, second in itertools.pairwise(numbers)]
    step = min(steps)
    if max(steps) == step:
        return
    gap = next(at for at, each in enumerate(steps) if each != step)
    missing = sum(int(each // step) - 1 for each in steps)
    between = f"between {files[gap].name} and {files[gap + 1].name}"
    raise InputError(
        f"{files[0].parent} lacks slice {numbers[gap] + step}, {between} ({missing} missing in all); put it there, or"
        " number the files without gaps if the scan is whole."
    )


def read_folder(path: Path) -> Stored:
    """A folder of single-slice TIFFs, or PNGs if it has none, in the natural order of their names.

    The files of one OME-TIFF are read as that says.

    Raises:
        InputError: if the names are not those of one sequence, or a file is no plain grey slice like the others.
    """
    files = sorted((each for each in path.iterdir() if not each.name.startswith(".")), key=natural)
    tiffs = [each for each in files if each.suffix.lower() in TIFF]
    files = tiffs or [each for each in files if each.suffix.lower() == ".png"]
    if not files:
        raise InputError(f"{path} holds no slices; a scan's folder has .tif, .png or DICOM files, or is an OME-Zarr.")
    for each in files:
        if not each.is_file():
            raise InputError(f"{each} is no file, or a link to none; a scan's folder has its slices alone.")
    if tiffs and (several := _one_ome(files)):
        return several
    _check_one_sequence(files)
    _check_numbers(files)
    found = []
    for each in files:
        with reading(str(each)):
            found.append((_tiff_slice if tiffs else _png_slice)(each))
        if found[-1].fault:
            raise InputError(f"{each} {found[-1].fault}.")
        if found[-1].shape != found[0].shape or found[-1].dtype != found[0].dtype or len(found[-1].shape) != 2:
            odd, first = (kind_of(one.shape, one.dtype) for one in (found[-1], found[0]))
            raise InputError(f"{each} is {odd}, {files[0].name} {first}; all must be grey, of one size and type.")
        if found[-1].line != found[0].line:
            raise InputError(f"{each} and {files[0].name} are calibrated differently in ImageJ; save real values.")
    (height, width), dtype = found[0].shape, found[0].dtype

    def read(start: int, stop: int) -> np.ndarray:
        pixels = np.empty((stop - start, height, width), dtype)
        fetched: Iterable[bytes | None] = contents(files[start:stop]) if is_remote(path) else itertools.repeat(None)
        for number, content in zip(range(start, stop), fetched, strict=False):
            with reading(str(files[number])):
                pixels[number - start] = _read_slice(files[number], content)
        return pixels

    pixel_um = found[0].pixel_um  # a slice cannot know the distance to the next
    stored = Stored((len(files), height, width), dtype, read, pixel_um and (None, *pixel_um))
    return stored.calibrated(found[0].line)


def _one_ome(files: Sequence[Path]) -> Stored | None:
    """The scan of which all files are parts, if they are those of one OME-TIFF; None if each is for itself.

    Raises:
        InputError: if some of them are not.
    """
    with reading(str(files[0])), open_tiff(files[0]) as first:
        parts = ome_files(files[0], first)
    if not parts:
        return None
    others = [each for each in files if each not in parts]
    if others:
        folder = files[0].parent
        raise InputError(f"{folder} holds an OME-TIFF of {len(parts)} files, and {_named(others)}; move these away.")
    return read_tiff_stack(files[0])
