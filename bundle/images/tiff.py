"""What the numbers of a TIFF mean: its tags say, and what they do not prove is refused by name."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import tifffile

from bundle.common.errors import InputError
from bundle.images.calibration import Line, in_real_values, real_dtype
from bundle.images.turning import ORIENTATIONS, UPRIGHT

PHOTOMETRIC, EXTRA = tifffile.PHOTOMETRIC, tifffile.EXTRASAMPLE
GREY = (PHOTOMETRIC.MINISBLACK, PHOTOMETRIC.MINISWHITE)
COLOURS = (PHOTOMETRIC.RGB, PHOTOMETRIC.YCBCR)
ALPHA = (EXTRA.ASSOCALPHA, EXTRA.UNASSALPHA)
PACKED = (1, 5, 8, 32773, 32946, 34925, 50000)  # none, LZW, deflate (two codes), PackBits, LZMA, Zstandard
DECODED = (6, 7)  # JPEG, whose decoder gives RGB
APERIO_YCBCR = 33003  # JPEG 2000 of YCbCr, whatever the photometric tag says
FUNCTIONS = {None: "none", 0: "line", 20: "none"}  # ImageJ's cf: y = c0 + c1 x, and no function
BT601 = (0.299, 0.587, 0.114)


@dataclass(frozen=True)
class Meaning:
    """How the stored samples of a TIFF become grey levels or colours.

    Attributes:
        channels: how many come out, alpha counted.
        dtype: of what comes out.
        rgb: they are red, green, blue.
        alpha: the last one is alpha.
        premultiplied: the colour of a transparent pixel is already weighted by its alpha.
        orientation: how the image is stored, 1 to 8, see :func:`bundle.images.turning.turned`.
        read: (rows, columns, samples) as stored → (rows, columns, channels).
    """

    channels: int
    dtype: np.dtype
    rgb: bool
    alpha: bool
    premultiplied: bool
    orientation: int
    read: Callable[[np.ndarray], np.ndarray]


def meaning_of(path: Path, file: tifffile.TiffFile, series: Any = None) -> Meaning:
    """Read what a TIFF's tags say of its pixels.

    Args:
        path: for messages.
        file: the open file.
        series: one of its images, grey or with channels as axis S or C, or as plain pages; None for the first.

    Raises:
        InputError: if its colour space, orientation, calibration or further samples are none that can be turned into
            grey levels or RGB without a guess, or it is one of several files of which one is missing.
    """
    series = series or file.series[0]
    ome_files(path, file)  # of which none may be missing
    if None in (pages := list(series.pages)):
        raise InputError(f"{path} lacks {pages.count(None)} of the {len(pages)} planes it names; save it again.")
    page: Any = series.keyframe
    if file.is_ome and len(file.pages) > sum(len(each.pages) for each in file.series):
        _check_named(path, file, page)
    samples = next((series.shape[series.axes.index(axis)] for axis in "SCIQ" if axis in series.axes), 1)
    if page.photometric in COLOURS and samples < 3:
        raise InputError(f"{path} says {page.photometric.name} but has {samples} sample(s) a pixel; save it again.")
    convert, colours, dtype = _conversion(path, file, page, series)
    extras = tuple(page.extrasamples) if "S" in series.axes else ()
    alphas = [
        at for at, kind in enumerate(extras, samples - len(extras)) if kind in (EXTRA.ASSOCALPHA, EXTRA.UNASSALPHA)
    ]
    plain = page.photometric in GREY and not alphas  # further samples of grey are channels
    stored = list(range(samples if plain else _first(page)))

    def read(pixels: np.ndarray) -> np.ndarray:
        found = convert(pixels[..., stored] if len(stored) < pixels.shape[-1] else pixels)
        return np.concatenate([found, pixels[..., alphas[:1]].astype(found.dtype)], -1) if alphas else found

    return Meaning(
        channels=(samples if plain else colours) + bool(alphas),
        dtype=np.dtype(dtype),
        rgb=colours == 3,
        alpha=bool(alphas),
        premultiplied=bool(alphas) and page.extrasamples[alphas[0] - samples] == EXTRA.ASSOCALPHA,
        orientation=orientation_of(path, page),
        read=read,
    )


def _first(page: Any) -> int:
    """How many samples are not further ones."""
    return 3 if page.photometric in COLOURS else 1


def orientation_of(path: Path, page: Any) -> int:
    """The orientation tag of a page, 1 without one."""
    value = page.tags["Orientation"].value if "Orientation" in page.tags else UPRIGHT
    if value not in ORIENTATIONS:
        raise InputError(f"{path} has Orientation {value}, which no TIFF has (1 to 8); save it again, upright.")
    return int(value)


Conversion = tuple[Callable[[np.ndarray], np.ndarray], int, np.dtype]


def _conversion(path: Path, file: tifffile.TiffFile, page: Any, series: Any) -> Conversion:
    """How the samples become colours, how many these are, and of which type."""
    kind, dtype = page.photometric, np.dtype(series.dtype)
    if kind == PHOTOMETRIC.PALETTE:
        return _palette(path, page)
    if kind in COLOURS:
        if int(page.compression) == APERIO_YCBCR or (kind == PHOTOMETRIC.YCBCR and _is_ycbcr(path, page)):
            return ycbcr_to_rgb, 3, np.dtype(np.uint8)
        return _widened(page.bitspersample, dtype), 3, dtype
    if kind not in GREY:
        raise InputError(
            f"{path} has the colour space {kind.name} (PhotometricInterpretation {int(kind)}), which this program "
            "does not convert; save it as RGB."
        )
    if kind == PHOTOMETRIC.MINISWHITE:
        return _inverted(path, page, dtype), 1, dtype
    line = line_of(path, file)
    if line is not None and not line.is_nothing:
        return lambda pixels: in_real_values(pixels, line), 1, real_dtype(dtype, line)
    return (_widened(page.bitspersample, dtype) if page.bitspersample < 8 else _same), 1, dtype


def _same(pixels: np.ndarray) -> np.ndarray:
    return pixels


def _widened(bits: int, dtype: np.dtype) -> Callable[[np.ndarray], np.ndarray]:
    """From 2 or 4 bits to 8, from 10 or 12 to 16: white stays white."""
    full = 8 * dtype.itemsize
    if bits in (1, full) or dtype.kind != "u":
        return _same
    factor = (2**full - 1) / (2**bits - 1)
    return lambda pixels: np.rint(pixels * factor).astype(dtype)


def _inverted(path: Path, page: Any, dtype: np.dtype) -> Callable[[np.ndarray], np.ndarray]:
    """WhiteIsZero: the largest value is black."""
    if dtype.kind == "b":
        return np.logical_not
    if dtype.kind != "u":
        raise InputError(
            f"{path} is WhiteIsZero (PhotometricInterpretation 0) of {dtype}, which has no largest value to count "
            "from; save it as BlackIsZero."
        )
    most = dtype.type(2**page.bitspersample - 1)
    widen = _widened(page.bitspersample, dtype) if page.bitspersample < 8 else _same
    return lambda pixels: widen(most - pixels)


def _palette(path: Path, page: Any) -> Conversion:
    """Indices into a colour map; one of greys gives one channel."""
    if page.samplesperpixel > 1:
        raise InputError(f"{path} has a colour map and {page.samplesperpixel} samples a pixel; save it as RGB.")
    table = np.asarray(page.colormap).T  # (entries, 3), 16 bits
    table = (table >> 8 if table.max() > 255 else table).astype(np.uint8)  # some writers store 8 bits, as libtiff knows
    if (table == table[:, :1]).all():
        table = table[:, :1]
    return lambda pixels: table[pixels[..., 0]], table.shape[1], np.dtype(np.uint8)


def _is_ycbcr(path: Path, page: Any) -> bool:
    """Whether what is decoded is still YCbCr, and such as can be converted."""
    compression = int(page.compression)
    if compression in DECODED:
        return False
    tags = {name: tuple(np.ravel(page.tags[name].value)) for name in CHROMA if name in page.tags}
    odd = [f"{name} {value}" for name, value in tags.items() if not np.allclose(_ratios(value), CHROMA[name])]
    if compression not in PACKED:
        odd.append(f"compression {page.compression.name}")
    if np.dtype(page.dtype) != np.uint8:
        odd.append(f"{page.dtype}")
    if odd:
        raise InputError(f"{path} is YCbCr with {', '.join(odd)}, which this program does not convert; save it as RGB.")
    return True


CHROMA: dict[str, Sequence[float]] = {
    "YCbCrCoefficients": BT601,
    "YCbCrSubSampling": (1, 1),
    "ReferenceBlackWhite": (0, 255, 128, 255, 128, 255),
}


def _ratios(value: Sequence[Any]) -> list[float]:
    """Numbers, of which rationals come as numerator and denominator."""
    return [a / b for a, b in zip(value[::2], value[1::2], strict=True)] if len(value) in (6, 12) else list(value)


def ycbcr_to_rgb(pixels: np.ndarray) -> np.ndarray:
    """JFIF's YCbCr, of full range, to RGB.

    Args:
        pixels: (…, 3), uint8.

    Returns:
        (…, 3), uint8, rounded and clipped.
    """
    luma, blue, red = (pixels[..., at].astype(np.float32) for at in range(3))
    blue, red = blue - 128, red - 128
    r, g, b = BT601
    rgb = np.stack(
        [
            luma + 2 * (1 - r) * red,
            luma - (2 * b * (1 - b) * blue + 2 * r * (1 - r) * red) / g,
            luma + 2 * (1 - b) * blue,
        ],
        -1,
    )
    return np.clip(np.rint(rgb), 0, 255).astype(np.uint8)


def line_of(path: Path, file: tifffile.TiffFile) -> Line | None:
    """The line by which ImageJ says to turn stored into real values; None for as they are.

    Raises:
        InputError: if it is another function.
    """
    stated: dict[str, Any] = (file.imagej_metadata if file.is_imagej else None) or {}
    function = stated.get("cf")
    coefficients = {name: stated[name] for name in ("c0", "c1", "c2") if name in stated}
    if FUNCTIONS.get(function) == "line" and set(coefficients) == {"c0", "c1"}:
        return Line(float(stated["c1"]), float(stated["c0"]))
    if coefficients or function not in FUNCTIONS:
        raise InputError(
            f"{path} is calibrated in ImageJ by a function that is no line (cf {function}, {coefficients}); apply it "
            "there and save real values."
        )
    return None


def _check_named(path: Path, file: tifffile.TiffFile, page: Any) -> None:
    """See that an OME-TIFF holds no planes that its metadata leave out; a thumbnail of another size may be there."""
    planes = [each.aspage() for each in file.pages]
    alike = sum(each.shape == page.shape and each.dtype == page.dtype for each in planes)
    named = sum(len(each.pages) for each in file.series)
    if alike > named:
        raise InputError(f"{path} holds {alike} planes, of which its OME metadata name {named}; save it again.")


def ome_files(path: Path, file: tifffile.TiffFile) -> list[Path]:
    """The files over which an OME-TIFF says that it goes, itself among them; none if it is alone.

    Raises:
        InputError: if one lies elsewhere or does not exist, or its metadata are in a file of their own.
    """
    if not file.is_ome:
        return []
    root = ElementTree.fromstring(file.ome_metadata or "<OME/>")
    for node in root.iter():
        if node.tag.endswith("BinaryOnly"):
            raise InputError(f"{path} is part of an OME-TIFF, {node.get('MetadataFile')}; export it as one file.")
    names = {node.get("FileName", path.name): node.text for node in root.iter() if node.tag.endswith("UUID")}
    before = [name for name, each in names.items() if each == root.get("UUID") and not (path.parent / name).is_file()]
    names = {path.name if name in before else name: each for name, each in names.items()}  # it was renamed
    odd = sorted(name for name in names if Path(name).name != name or "\\" in name)
    if odd:
        raise InputError(f"{path} takes slices from {odd[0]}, which is not beside it; put all files into one folder.")
    files = [path.parent / name for name in sorted(names)]
    missing = [each.name for each in files if not each.is_file()]
    if missing:
        raise InputError(
            f"{path} takes slices from {missing[0]}, which is missing ({len(missing)} in all); put it there."
        )
    return files if files not in ([], [path]) else []
