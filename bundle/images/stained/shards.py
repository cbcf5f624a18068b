"""Shards of Zarr 3: many chunks in one file, and behind them an index of where each lies.

The index is of 64-bit numbers, offset and length of each chunk in turn, little-endian, with its CRC-32C; so the codec
``sharding_indexed`` has it. A shard is written chunk after chunk, and is never whole in memory.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import IO

from bundle.common.atomic import PARTIAL, whole_file
from bundle.common.places import is_remote
from bundle.images.slides import reading

EMPTY = 2**64 - 1  # offset and length of a chunk that is left out
CHECKSUM = 4  # bytes


def _table() -> list[int]:
    """What each byte makes of a CRC-32C, Castagnoli's polynomial with its bits reversed."""
    table = []
    for value in range(256):
        for _ in range(8):
            value = value >> 1 ^ (0x82F63B78 if value & 1 else 0)  # noqa: PLW2901
        table.append(value)
    return table


TABLE = _table()


def crc32c(content: bytes) -> int:
    """CRC-32C as RFC 3720 has it: of an index of 16 kB in 1 ms, for which no library is worth its installation."""
    crc, table = 0xFFFFFFFF, TABLE
    for byte in content:
        crc = table[(crc ^ byte) & 0xFF] ^ crc >> 8
    return crc ^ 0xFFFFFFFF


def write_shard(path: Path, chunks: Iterable[bytes | None]) -> None:
    """Write a shard, which appears whole or not at all.

    Args:
        path: the file.
        chunks: all of its chunks, packed, in C order; None for one that lies outside the array.
    """
    with whole_file(path) as partial, partial.open("wb") as file:
        places, at = [], 0
        for chunk in chunks:
            if chunk is None:
                places += [EMPTY, EMPTY]
                continue
            places += [at, len(chunk)]
            at += file.write(chunk)
        index = struct.pack(f"<{len(places)}Q", *places)
        file.write(index + struct.pack("<I", crc32c(index)))


def remove_rests(path: Path) -> None:
    """Remove what writers of shards that were killed have left anywhere in a folder; in an object store nothing is."""
    for rest in () if is_remote(path) else path.rglob(PARTIAL):
        rest.unlink(missing_ok=True)


def read_chunks(path: Path, count: int, wanted: Sequence[int]) -> Iterator[bytes]:
    """Read some chunks of a shard, and no others.

    Args:
        path: the file.
        count: of all its chunks.
        wanted: numbers of those to read, in any order.

    Yields:
        Each, packed.

    Raises:
        InputError: if the shard is missing, cut short or damaged, or such a chunk is not in it.
    """
    with reading(str(path)), path.open("rb") as file:
        end, places = _index(file, count)
        for number in wanted:
            offset, length = places[2 * number : 2 * number + 2]
            if offset == EMPTY:
                raise ValueError(f"chunk {number} of {count} is not in it")
            if offset + length > end:
                raise ValueError(f"chunk {number} of {count} is to lie at {offset} to {offset + length} of {end} bytes")
            yield read_range(file, offset, length)


def _index(file: IO[bytes], count: int) -> tuple[int, tuple[int, ...]]:
    """Where the index of a shard begins, and what is in it."""
    size = 16 * count
    begin = file.seek(0, 2) - size - CHECKSUM
    if begin < 0:
        raise ValueError(f"it has {begin + size + CHECKSUM} bytes; the index alone has {size + CHECKSUM}")
    content = read_range(file, begin, size + CHECKSUM)
    index, stated = content[:size], struct.unpack("<I", content[size:])[0]
    if crc32c(index) != stated:
        raise ValueError("its index does not fit its checksum; stain it again")
    return begin, struct.unpack(f"<{2 * count}Q", index)


def read_range(file: IO[bytes], start: int, length: int) -> bytes:
    """Read bytes from ``start`` on."""
    file.seek(start)
    content = file.read(length)
    if len(content) != length:
        raise ValueError(f"it ends {length - len(content)} bytes early")
    return content
