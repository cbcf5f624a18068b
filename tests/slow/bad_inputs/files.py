"""Files that are not what they seem, for kinds to write where a good one stood."""

from __future__ import annotations

import os
import pickle
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import tifffile
from PIL import Image

Spoiler = Callable[[Path], None]


def _png(width: int, height: int, depth: int, colour: int, rows: bytes) -> bytes:
    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    head = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def bomb(path: Path) -> None:
    """Small, and claims 100,000 × 100,000 px."""
    path.write_bytes(_png(100_000, 100_000, 8, 0, b"\0" * 1000))


def no_rows(path: Path) -> None:
    """A head, and nothing to see."""
    path.write_bytes(_png(64, 72, 8, 0, b""))


def no_size(path: Path) -> None:
    """0 × 0 px."""
    path.write_bytes(_png(0, 0, 8, 0, b""))


def empty(path: Path) -> None:
    """0 bytes."""
    path.write_bytes(b"")


def half(path: Path) -> None:
    """Cut in the middle, as a copy that stopped."""
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


def flipped(path: Path) -> None:
    """One bit in the middle, as of a bad disk."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content))


def text(path: Path) -> None:
    """An error page, saved under the name."""
    path.write_text("<html><body>404 not found</body></html>\n" * 20)


def pipe(path: Path) -> None:
    """Reading waits for ever."""
    path.unlink()
    os.mkfifo(path)


def endless(path: Path) -> None:
    """Reading never ends."""
    path.unlink()
    path.symlink_to("/dev/zero")


def loop(path: Path) -> None:
    """A link to itself."""
    path.unlink()
    path.symlink_to(path.name)


def dangling(path: Path) -> None:
    """A link to what is gone."""
    path.unlink()
    path.symlink_to("gone")


def folder(path: Path) -> None:
    """A folder of that name."""
    path.unlink()
    path.mkdir()


def code(path: Path) -> None:
    """A pickle that would run a command."""

    class Run:
        def __reduce__(self):  # noqa: ANN204
            return os.system, (f"touch {path.parent}/ran",)

    path.write_bytes(pickle.dumps(Run()))


def ring(path: Path) -> None:
    """A TIFF whose first page is followed by itself."""
    tifffile.imwrite(path, np.arange(64 * 72, dtype=np.uint16).reshape(64, 72) * 14, photometric="minisblack")
    content = bytearray(path.read_bytes())
    first = struct.unpack_from("<I", content, 4)[0]
    tags = struct.unpack_from("<H", content, first)[0]
    struct.pack_into("<I", content, first + 2 + 12 * tags, first)
    path.write_bytes(bytes(content))


def beyond(path: Path) -> None:
    """A TIFF whose pixels lie beyond its end."""
    tifffile.imwrite(path, np.zeros((64, 72), np.uint8), photometric="minisblack")
    content = path.read_bytes()
    path.write_bytes(content[: len(content) - 3000])


def pixels(array: np.ndarray, **options: object) -> Spoiler:
    """A PNG or TIFF of these pixels."""

    def write(path: Path) -> None:
        if path.suffix == ".png":
            Image.fromarray(array).save(path, **options)
        else:
            tifffile.imwrite(path, array, **options)

    return write
