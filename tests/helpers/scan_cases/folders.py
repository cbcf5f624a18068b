"""Scans as folders of slices."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from PIL import Image

from tests.helpers.scan_cases.case import GREY, VOXELS, Case, case, truth
from tests.helpers.scan_cases.stacks import oriented


def slices(
    *names: str, planes: np.ndarray = VOXELS, others: dict[str, np.ndarray | None] | None = None, **options: Any
) -> Callable[[Path], Path]:
    """A folder of slices; ``others`` are added, None as a file that is no image."""

    def write(folder: Path) -> Path:
        for name, plane in zip(names or [f"s_{number}.tif" for number in range(len(planes))], planes, strict=True):
            tifffile.imwrite(folder / name, plane, **{**GREY, **options})
        for name, plane in (others or {}).items():
            if plane is None:
                (folder / name).write_bytes(b"x")
            else:
                tifffile.imwrite(folder / name, plane, **GREY)
        return folder

    return write


def pngs(mode: str) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        for number, plane in enumerate(VOXELS.astype(np.uint8)):
            Image.fromarray(plane).convert(mode).save(folder / f"s_{number}.png")
        return folder

    return write


def four_bits(folder: Path) -> Path:
    """Greys of 4 bits; Pillow writes none, so the header is made by hand."""
    import struct
    import zlib

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    for number in range(3):
        greys = (np.arange(20 * 24).reshape(20, 24) + number) % 16
        rows = b"".join(b"\0" + bytes((row[::2] << 4 | row[1::2]).astype(np.uint8)) for row in greys)
        parts = [chunk(b"IHDR", struct.pack(">IIBBBBB", 24, 20, 4, 0, 0, 0, 0)), chunk(b"IDAT", zlib.compress(rows))]
        (folder / f"s_{number}.png").write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(parts) + chunk(b"IEND", b""))
    return folder


def by_pillow(folder: Path) -> np.ndarray:
    return np.stack([np.asarray(Image.open(path)) for path in sorted(folder.glob("*.png"))])


def one_calibrated(folder: Path) -> Path:
    slices()(folder)
    tifffile.imwrite(folder / "s_2.tif", VOXELS[2], imagej=True, metadata={"cf": 0, "c0": -5.0, "c1": 1.0})
    return folder


KEPT = {"._s_1.tif": None, ".DS_Store": None, "Thumbs.db": None, "scan.log": None}
case(
    "folder",
    "numbers with or without zeros in front",
    Case(slices(*(f"s_{number}.tif" for number in range(7, 13))), truth),
    Case(slices(*(f"s_{number:04d}.tif" for number in range(7, 13))), truth),
)
case("folder", "hidden files, `Thumbs.db`, logs", Case(slices(others=KEPT), truth))
case("folder", "decimals of one length", Case(slices(*(f"z{number / 2:.1f}mm.tif" for number in range(6))), truth))
case("folder", "decimals of several lengths", Case(slices(*(f"z{number / 4:g}.tif" for number in range(6)))))
case("folder", "a number left out", Case(slices(*(f"s_{number}.tif" for number in (0, 1, 2, 4, 5, 6)))))
case("folder", "two sequences", Case(slices(others={f"seg_{number}.tif": VOXELS[number] for number in range(6)})))
case(
    "folder",
    "slices of two channels, numbered",
    Case(slices(*(f"z{number}_c{channel}.tif" for number in range(3) for channel in range(2)))),
)
case("folder", "a preview picture", Case(slices(others={"s_spr.tif": VOXELS[0]})))
case(
    "folder",
    "a copy, `(1)`",
    Case(slices(others={"s_3 (1).tif": VOXELS[3]})),
    Case(slices(others={"s_3 - Copy.tif": VOXELS[3]})),
    Case(slices(others={"Copy of s_3.tif": VOXELS[3]})),
)
case("folder", "a number twice, as 1 and 01", Case(slices(others={"s_01.tif": VOXELS[3]})))
case("folder", "another size", Case(slices(others={"s_6.tif": VOXELS[0, :-2]})))
case("folder", "another type", Case(slices(others={"s_6.tif": VOXELS[0].astype(np.uint8)})))
case("folder", "WhiteIsZero", Case(slices(photometric="miniswhite")))
case("folder", "orientation 2 to 8", *(Case(slices(**oriented(way))) for way in range(2, 9)))
case("folder", "a file of several pages", Case(slices(others={"s_6.tif": VOXELS[:2]})))
case("folder", "ImageJ calibration of one slice alone", Case(one_calibrated))
case("folder", "PNG, colour or palette", *(Case(pngs(mode)) for mode in ("RGB", "RGBA", "P", "LA")))
case("folder", "PNG, grey of 4 bits", Case(four_bits, by_pillow))
