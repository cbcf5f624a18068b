"""What a PNG says of its pixels, and those pixels; writing one."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from mmap import mmap

import imagecodecs
import numpy as np
from PIL import Image

from bundle.common.errors import InputError
from bundle.images.turning import ORIENTATIONS, UPRIGHT

SIGNATURE = b"\x89PNG\r\n\x1a\n"
GREY, PALETTE = 0, 3  # colour types
COLOURS = {GREY: 1, 2: 3, PALETTE: 3, 4: 1, 6: 3}
ORIENTATION = 274  # EXIF's tag
HEADER = 33  # bytes of the signature and the first chunk, after which a size may be stated


@dataclass(frozen=True)
class Header:
    """What it says of its pixels.

    Attributes:
        shape: (rows, columns) as stored.
        bits: of a sample, or of an index.
        colour: colour type.
        channels: how many it has, alpha not counted; a palette of greys has one.
        pixel_um: (row, column) spacing in µm; None if not stated in metres.
        orientation: 1 to 8, as EXIF has it.
    """

    shape: tuple[int, int]
    bits: int
    colour: int
    channels: int
    pixel_um: tuple[float, float] | None
    orientation: int


def header_of(content: bytes | mmap) -> Header:
    """Read what a PNG says of itself; PIL opens no large one.

    Args:
        content: the file.

    Raises:
        ValueError: if it is no PNG, or its orientation is none.
    """
    if content[:8] != SIGNATURE or content[12:16] != b"IHDR":
        raise ValueError("it is no PNG")
    width, height, bits, colour = struct.unpack(">IIBB", content[16:26])
    pixel_um, orientation, channels = None, UPRIGHT, COLOURS[colour]
    for kind, chunk in _chunks(content):
        if kind == b"pHYs":
            x, y, metres = struct.unpack(">IIB", chunk)
            pixel_um = (1e6 / y, 1e6 / x) if metres == 1 and x and y else None
        elif kind == b"eXIf":
            orientation = _orientation(chunk)
        elif kind == b"PLTE":
            table = np.frombuffer(chunk, np.uint8).reshape(-1, 3)
            channels = 1 if colour == PALETTE and (table == table[:, :1]).all() else channels
    if orientation > 4 and pixel_um:
        pixel_um = pixel_um[::-1]
    return Header((height, width), bits, colour, channels, pixel_um, orientation)


def _chunks(content: bytes | mmap) -> Iterator[tuple[bytes, bytes]]:
    """Kind and content of each chunk but the pixels'; eXIf may come after those."""
    at = 8
    while at + 8 <= len(content):
        length, kind = struct.unpack(">I4s", content[at : at + 8])
        if kind != b"IDAT":
            yield kind, content[at + 8 : at + 8 + length]
        at += length + 12


def _orientation(exif: bytes) -> int:
    read = Image.Exif()
    read.load(exif)
    value = read.get(ORIENTATION, UPRIGHT)
    if value not in ORIENTATIONS:
        raise ValueError(f"its EXIF Orientation is {value!r}, and none of 1 to 8; save it again, upright")
    return int(value)


def decoded(content: bytes, header: Header) -> np.ndarray:
    """The grey levels or colours, as stored: not turned.

    Args:
        content: the file.
        header: its own.

    Returns:
        (rows, columns, C), uint8 or uint16; an alpha that hides nothing is left out, another is the last channel.
    """
    pixels = imagecodecs.png_decode(content)  # PIL cuts 16-bit colour to 8
    pixels = pixels[..., None] if pixels.ndim == 2 else pixels
    has_alpha = pixels.shape[-1] in (2, 4)
    if has_alpha and (pixels[..., -1] == np.iinfo(pixels.dtype).max).all():
        pixels, has_alpha = pixels[..., :-1], False
    if header.colour == PALETTE and header.channels == 1:
        pixels = np.concatenate([pixels[..., :1], pixels[..., 3:]], -1)
    return pixels


def indices(content: bytes, header: Header) -> np.ndarray | None:
    """The numbers as stored, of a palette or of grey.

    Returns:
        (rows, columns), uint8 or uint16; None if it is in colour, or has transparency.
    """
    if header.colour == PALETTE:
        with Image.open(io.BytesIO(content)) as image:
            return np.asarray(image)
    if header.colour != GREY:
        return None
    pixels = decoded(content, header)[..., 0]
    return pixels // (255 // (2**header.bits - 1)) if header.bits < 8 else pixels  # decoding made them 0 to 255


def encoded(pixels: np.ndarray, pixel_um: float | None = None) -> bytes:
    """A PNG of pixels, the same bytes each time.

    Runs of what Paeth's filter leaves: of sections, scans and masks as small as zlib's search makes them at level 1
    (0.5 to 1.04 of it), in a third of the time (docs/performance.md).

    Args:
        pixels: (rows, columns) or (rows, columns, 3), uint8 or uint16, in any order of bytes and with any strides.
        pixel_um: pixel size in µm; none is stated for None.

    Raises:
        InputError: if a PNG cannot state such a pixel size.
    """
    density = 0 if pixel_um is None else round(1e6 / pixel_um)  # pixels in a metre
    if density >= 2**31:
        raise InputError(f"pixels are of {pixel_um:g} µm, and a PNG states none so small; write a .tif.")
    plain = pixels.astype(pixels.dtype.newbyteorder("="), order="C", copy=False)
    kind = imagecodecs.PNG
    options = {"level": kind.COMPRESSION.SPEED, "strategy": kind.STRATEGY.RLE, "filter": kind.FILTER.PAETH}
    room = 9 * (plain.nbytes + len(plain)) // 8 + 4096  # imagecodecs leaves none for the filter's byte of narrow rows
    content = bytes(imagecodecs.png_encode(plain, out=room, **options))
    if not density:
        return content
    chunk = b"pHYs" + struct.pack(">IIB", density, density, 1)
    stated = struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk))
    return content[:HEADER] + stated + content[HEADER:]
