"""Headers of NIfTI, NRRD and MetaImage volumes, and some of their slices without the rest."""

from __future__ import annotations

import gzip
import math
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bundle.common.errors import InputError
from bundle.common.places import contents, is_remote, opened
from bundle.images.pixel_size import um_per
from bundle.images.slides import NIFTI
from bundle.images.volumes.reader import Slices, Stored, reads

RAS_TO_LPS = np.diag([-1.0, -1.0, 1.0])
CHUNK = 1 << 20  # bytes that are inflated at a time
STREAM = 1 << 22  # bytes of a remote file that are fetched together
NIFTI_2 = 540  # bytes of its header
NRRD_SPACES = {  # those that ITK turns to its own; any other it takes as it is
    "right-anterior-superior": np.diag([-1.0, -1.0, 1.0]),
    "left-anterior-superior": np.diag([1.0, -1.0, 1.0]),
}
NRRD_PLACES = ("domain", "space", "???", "none")  # kinds of axes along which a scan may lie
NRRD_SKIPS = ("line skip", "lineskip", "byte skip", "byteskip")
NRRD_TYPES = {
    name: code
    for code, names in {
        "i1": "signed char, int8, int8_t",
        "u1": "uchar, unsigned char, uint8, uint8_t",
        "i2": "short, short int, signed short, signed short int, int16, int16_t",
        "u2": "ushort, unsigned short, unsigned short int, uint16, uint16_t",
        "i4": "int, signed int, int32, int32_t",
        "u4": "uint, unsigned int, uint32, uint32_t",
        "i8": "longlong, long long, long long int, signed long long, signed long long int, int64, int64_t",
        "u8": "ulonglong, unsigned long long, unsigned long long int, uint64, uint64_t",
        "f4": "float",
        "f8": "double",
    }.items()
    for name in names.split(", ")
}
META_TYPES = {"CHAR": "i1", "UCHAR": "u1", "SHORT": "i2", "USHORT": "u2", "INT": "i4", "UINT": "u4"}
META_TYPES |= {"LONG": "i4", "ULONG": "u4", "LONG_LONG": "i8", "ULONG_LONG": "u8", "FLOAT": "f4", "DOUBLE": "f8"}


def three_axes(path: Path | str, shape: Sequence[int], kept: Sequence[int] = (0, 1, 2)) -> tuple[int, int, int]:
    """The three spatial sizes of a shape; the others must be 1.

    Args:
        path: the scan, for the message.
        shape: every axis.
        kept: which of them are spatial.

    Raises:
        InputError: if there are not three, or another is longer than 1.
    """
    others = [size for axis, size in enumerate(shape) if axis not in kept]
    if len(kept) != 3 or len(shape) < 3 or any(size != 1 for size in others):
        sizes = "×".join(map(str, shape))
        raise InputError(f"{path} has {len(shape)} axes, {sizes}; a scan is one grey volume of 3 axes, so extract it.")
    return shape[kept[0]], shape[kept[1]], shape[kept[2]]


def raw_slices(path: Path, offset: int, shape: tuple[int, int, int], dtype: np.dtype) -> Slices:
    """Slices that lie uncompressed, one after another, from a byte of a file on."""
    area = shape[1] * shape[2]

    def read(start: int, stop: int) -> np.ndarray:
        first = offset + start * area * dtype.itemsize
        if is_remote(path):
            (content,) = contents([path], first, (stop - start) * area * dtype.itemsize)
            return np.frombuffer(content, dtype).reshape(-1, *shape[1:])
        pixels = np.fromfile(path, dtype, (stop - start) * area, offset=first)
        if len(pixels) < (stop - start) * area:
            raise EOFError(f"{len(pixels) // area} of {stop - start} slices are there")
        return pixels.reshape(-1, *shape[1:])

    return read


class InflatedSlices:
    """Slices of one gzip or zlib stream: quick forwards, from the beginning again backwards.

    Args:
        path: the file.
        offset: byte where the stream begins.
        shape: (Z, Y, X).
        dtype: type of a voxel.
    """

    def __init__(self, path: Path, offset: int, shape: tuple[int, int, int], dtype: np.dtype) -> None:
        self.path, self.offset, self.shape, self.dtype = path, offset, shape, dtype
        self.area = shape[1] * shape[2] * dtype.itemsize
        self.slice = 0
        self.stream = self._inflate()

    def _inflate(self) -> Iterator[bytearray]:
        """Yield the content slice by slice."""
        inflater = zlib.decompressobj(zlib.MAX_WBITS | 32)  # 32: gzip or zlib, whichever the header says
        content = bytearray()
        with self.path.open("rb") as file:
            file.seek(self.offset)
            while not inflater.eof:
                packed = inflater.unconsumed_tail or file.read(CHUNK)
                inflated = inflater.decompress(packed, CHUNK)
                if not packed and not inflated:
                    return
                content += inflated
                while len(content) >= self.area:
                    yield content[: self.area]
                    del content[: self.area]

    def __call__(self, start: int, stop: int) -> np.ndarray:
        """Read slices start to stop."""
        if start < self.slice:
            self.slice, self.stream = 0, self._inflate()
        pixels = np.empty((stop - start, *self.shape[1:]), self.dtype)
        while self.slice < stop:
            content = next(self.stream, None)
            if content is None:
                raise EOFError(f"{self.slice} of {self.shape[0]} slices are there")
            if self.slice >= start:
                pixels[self.slice - start] = np.frombuffer(content, self.dtype).reshape(self.shape[1:])
            self.slice += 1
        if stop == self.shape[0]:
            next(self.stream, None)  # the checksum stands at the end
        return pixels


def oriented(path: Path, axes_mm: np.ndarray) -> tuple[tuple[float, float, float], np.ndarray]:
    """Spacing (z, y, x) in µm and direction of a grid whose steps along x, y and z are columns, in mm.

    Raises:
        InputError: if the steps are not perpendicular, or one is 0.
    """
    length = np.linalg.norm(axes_mm, axis=0)
    direction = axes_mm / np.where(length > 0, length, np.nan)
    if not np.allclose(direction.T @ direction, np.eye(3), atol=1e-3):  # NIfTI keeps quaternions in 32 bits
        raise InputError(f"{path} has axes that are not perpendicular; resample it to a grid that is.")
    z, y, x = (1000.0 * length[::-1]).tolist()
    return (z, y, x), direction


def _nifti(path: Path) -> Any:
    import nibabel  # here and below, as not every scan needs it

    if not is_remote(path):
        return nibabel.load(path, keep_file_open=True)  # else each slab of a .nii.gz is sought from the start
    file: Any = opened(path, STREAM)
    if path.name.lower().endswith(".gz"):
        file = gzip.GzipFile(fileobj=file)
    start = file.read(NIFTI_2)
    file.seek(0)
    second = nibabel.Nifti2Image.header_class.may_contain_header(start)
    return (nibabel.Nifti2Image if second else nibabel.Nifti1Image).from_stream(file)


@reads(*NIFTI)
def read_nifti(path: Path) -> Stored:
    """NIfTI; ``scl_slope`` is applied. Of qform and sform the one that ITK would take is taken."""
    image = _nifti(path)
    shape = image.shape
    header = image.header
    first = image.dataobj[(..., *([0] * (len(shape) - 2)))] if 0 not in shape else np.empty(0)
    if first.dtype.names or first.dtype.kind == "c":
        raise InputError(f"{path} holds {header.get_value_label('datatype')}; a scan is grey, so convert it.")
    sizes = three_axes(path, shape)[::-1]
    unit_um = um_per(header.get_xyzt_units()[0])
    qform, sform = header.get_qform(coded=True)[0], header.get_sform(coded=True)[0]
    steps = sform if sform is not None and (qform is None or header["sform_code"] == 1) else qform
    known = unit_um is not None
    if steps is None:  # ITK's choice too; nibabel would put the origin in the centre
        known = known and any(header["pixdim"][1:4] != 1)  # nibabel makes 1 of 0
        steps = np.diag([-header["pixdim"][1], -header["pixdim"][2], header["pixdim"][3], 1.0])
    steps = RAS_TO_LPS @ steps[:3] * (unit_um or 1000.0) / 1000.0
    spacing_um, direction = oriented(path, steps[:, :3])

    def read(start: int, stop: int) -> np.ndarray:
        pixels = image.dataobj[(slice(None), slice(None), slice(start, stop), *([0] * (len(shape) - 3)))].T
        if stop == sizes[0]:
            with image.dataobj._get_fileobj() as file:
                file.read(1)  # the checksum of a .nii.gz stands at the end
        return pixels

    stated = spacing_um if known else None
    return Stored(sizes, first.dtype, read, stated, steps[:, 3].tolist(), direction, if_mm_um=spacing_um)


def _unit_um(spacing: Sequence[float], unit: str | None) -> float | None:
    """µm per unit of a header's lengths; None if its spacing is what writers put that know none."""
    if unit not in (None, "", "?"):
        return um_per(unit)
    return None if all(step == 1 for step in spacing) else 1000.0


def _data(path: Path, name: str, packed: bool, offset: int, shape: tuple[int, int, int], dtype: np.dtype) -> Slices:
    """The slices of a header: those that follow it at ``offset``, or of the file beside it that it names.

    Raises:
        InputError: if it names none, or several.
    """
    if not name:
        data = path
    elif name.upper().startswith("LIST") or "%" in name:
        raise InputError(f"{path} keeps its slices in several files; give the folder of slices, or write one file.")
    else:
        data = path.parent / name
    if name and data.resolve() == path.resolve():
        raise InputError(f"{path} names itself as its data file; name the file that holds the voxels, or LOCAL.")
    if not data.is_file():
        raise InputError(f"{path} needs its data file {data}, which does not exist; put it there.")
    if packed:
        return InflatedSlices(data, offset, shape, dtype)
    missing = offset + math.prod(shape) * dtype.itemsize - data.stat().st_size
    if missing > 0:
        raise InputError(f"{data} cannot be read, it may be truncated: the last {missing} bytes are not there.")
    return raw_slices(data, offset, shape, dtype)


@reads(".nrrd", ".nhdr")
def read_nrrd(path: Path) -> Stored:
    """NRRD, attached or detached, raw or gzip; its lengths are mm, as ITK holds, unless it states another unit."""
    import nrrd

    with path.open("rb") as file:
        header = nrrd.read_header(file)
        offset = file.tell()
    sizes = [int(size) for size in header["sizes"]]
    steps = np.full((len(sizes), 3), np.nan)
    steps[:3] = np.diag([*header.get("spacings", ()), 1.0, 1.0, 1.0][:3])[: len(sizes)]
    steps = np.asarray(header.get("space directions", steps), float)
    spatial = [axis for axis, step in enumerate(steps) if np.isfinite(step).all()]
    kinds = [kind for axis, kind in enumerate(header.get("kinds", [])) if axis in spatial and kind not in NRRD_PLACES]
    if kinds:
        raise InputError(f"{path} has an axis of kind {kinds[0]} among those of space; write the volume alone.")
    shape = three_axes(path, sizes[::-1], [len(sizes) - 1 - axis for axis in reversed(spatial)])
    units = header.get("space units", header.get("units", []))
    if len({um_per(each) or each for each in units}) > 1:
        raise InputError(f"{path} has axes of several units ({', '.join(units)}); write all of them in one.")
    unit = next(iter(units), None)
    unit_um = _unit_um(np.linalg.norm(steps[spatial], axis=1), unit)
    to_mm = NRRD_SPACES.get(header.get("space", "").lower(), np.eye(3)) * (unit_um or 1000.0) / 1000.0
    spacing_um, direction = oriented(path, to_mm @ steps[spatial].T)
    origin_mm = to_mm @ _nrrd_origin(path, header, steps[spatial], spatial)
    encoding = header["encoding"].lower()
    if encoding not in ("raw", "gzip", "gz") or any(header.get(key) for key in NRRD_SKIPS):
        raise InputError(f"{path} is encoded as {encoding}, or skips lines; write it as raw or gzip without skips.")
    name = header.get("data file", header.get("datafile", ""))
    dtype = np.dtype(NRRD_TYPES[header["type"]]).newbyteorder(">" if header.get("endian") == "big" else "<")
    read = _data(path, name, encoding != "raw", 0 if name else offset, shape, dtype)
    stated = spacing_um if unit_um else None
    return Stored(shape, dtype, read, stated, origin_mm.tolist(), direction, if_mm_um=spacing_um)


def _nrrd_origin(path: Path, header: Mapping[str, Any], steps: np.ndarray, spatial: Sequence[int]) -> np.ndarray:
    """Where the first voxel's centre lies, in the header's unit: ``space origin``, else of ``axis mins``, as in ITK."""
    lowest = header.get("axis mins", header.get("axismins"))
    if "space origin" in header or "space directions" in header or lowest is None:
        return np.asarray(header.get("space origin", np.zeros(3)), float)
    if "spacings" not in header:
        raise InputError(f"{path} has axis mins but no spacings; write spacings, or space directions and origin.")
    centers = header.get("centerings", header.get("centers", []))
    inner = [0.0 if centers[axis : axis + 1] == ["node"] else 0.5 for axis in spatial]  # cell is what ITK takes
    mins = np.asarray(lowest, float)[list(spatial)]
    return mins + np.asarray(inner) * np.diag(steps) if np.isfinite(mins).all() else np.zeros(3)


def _meta_header(path: Path) -> tuple[dict[str, str], int]:
    """The keys of a MetaImage header, and the byte after it."""
    header: dict[str, str] = {}
    with path.open("rb") as file:
        while "ElementDataFile" not in header:
            key, equals, value = file.readline(CHUNK).decode("latin-1").partition("=")
            if not equals:
                raise ValueError("its header names no ElementDataFile")
            header[key.strip()] = value.strip()
        return header, file.tell()


@reads(".mha", ".mhd")
def read_meta(path: Path) -> Stored:
    """MetaImage, attached or detached, raw or zlib; its lengths are mm, as ITK holds, unless it states another unit."""
    header, offset = _meta_header(path)

    def numbers(*keys: str) -> list[float]:
        return next(([float(number) for number in header[key].split()] for key in keys if key in header), [])

    def is_set(key: str) -> bool:
        return header.get(key, "")[:1] in ("T", "t", "1")  # as MetaIO holds

    if "BinaryData" in header and not is_set("BinaryData"):
        raise InputError(f"{path} keeps its voxels as text (BinaryData = False); write it as binary.")
    slope, intercept = (numbers(f"ElementToIntensityFunction{name}") for name in ("Slope", "Offset"))
    if slope not in ([], [1.0]) or intercept not in ([], [0.0]):
        raise InputError(f"{path} is packed (ElementToIntensityFunctionSlope, -Offset); store real values.")
    axes, channels = int(header["NDims"]), int(header.get("ElementNumberOfChannels", 1))
    sizes = [int(size) for size in header["DimSize"].split()]
    shape = three_axes(path, (*sizes[::-1], channels), range(axes - 3, axes) if axes >= 3 else ())
    spacing = (numbers("ElementSpacing", "ElementSize") or [1.0] * axes)[:3]
    unit_um = _unit_um(spacing, header.get("DistanceUnits"))
    # each row of the matrix is an axis, so ITK's direction is the transpose
    rows = np.reshape(numbers("TransformMatrix", "Rotation", "Orientation") or np.eye(axes), (axes, axes))[:3, :3]
    to_mm = (unit_um or 1000.0) / 1000.0
    spacing_um, direction = oriented(path, to_mm * rows.T * spacing)
    origin_mm = [to_mm * place for place in (numbers("Offset", "Position", "Origin") or [0.0] * 3)[:3]]
    big = is_set("ElementByteOrderMSB") or is_set("BinaryDataByteOrderMSB")
    dtype = np.dtype(META_TYPES[header["ElementType"].removeprefix("MET_")]).newbyteorder(">" if big else "<")
    name = header["ElementDataFile"]
    name = "" if name.upper() == "LOCAL" else name
    skip = int(header.get("HeaderSize", 0)) if name else offset
    if skip < 0:  # the data are the end of the file
        skip = (path.parent / name).stat().st_size - math.prod(sizes) * dtype.itemsize
    read = _data(path, name, is_set("CompressedData"), skip, shape, dtype)
    stated = spacing_um if unit_um else None
    return Stored(shape, dtype, read, stated, origin_mm, direction, if_mm_um=spacing_um)
