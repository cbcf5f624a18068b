"""A stained slide as DICOM: a folder of VL Whole Slide Microscopy images, one a level."""

from __future__ import annotations

import shutil
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

import imagecodecs
import numpy as np
from pydicom import Dataset

from bundle.common.atomic import whole_folder
from bundle.common.errors import InputError
from bundle.images.dicom.written import begin_file
from bundle.images.stained_slides.dicom_tags import Level, source_of, tags_of
from bundle.images.stained_slides.formats import Packing, SlideFormat, register
from bundle.images.stained_slides.pyramid import TILE, Pyramid
from bundle.images.stained_slides.spec import SlideSpec
from bundle.images.stained_slides.tiff import filled, jpeg_tile, tiles_once

JPEG, JPEG_2000 = "1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.4.90"  # baseline; lossless only
LIMIT = 2**32  # bytes of frames that a basic offset table can point into
ITEM, END = struct.pack("<HH", 0xFFFE, 0xE000), struct.pack("<HHI", 0xFFFE, 0xE0DD, 0)
PIXELS = struct.pack("<HH2sHI", 0x7FE0, 0x0010, b"OB", 0, 0xFFFFFFFF)


def exact_frame(tile: np.ndarray) -> bytes:
    """A tile, (h, w, 3) uint8, as a JPEG 2000 codestream without loss: what OpenSlide, Orthanc and wsidicom all decode.

    Its colours stay RGB: Bio-Formats 7.3.1 makes other colours, by up to 250, of reversible YBR_RCT beside sharp edges.
    """
    return bytes(imagecodecs.jpeg2k_encode(tile, level=0, codecformat="j2k", reversible=True, mct=False, numthreads=1))


class DicomSlide(SlideFormat):
    """Each level is a file, ``level-0.dcm`` the finest, of tiles in rows (``TILED_FULL``)."""

    name, suffix, title = "dicom", ".dicom", "DICOM whole slide"

    def check(self, spec: SlideSpec, packing: Packing) -> None:
        """Refuse what is no colour picture in 8 bits, and a DICOM source that names no study."""
        if not spec.rgb or spec.kind != np.uint8:
            raise InputError(
                f"output_format {self.name} holds a colour picture in 8 bits, not {spec.channels} channel(s) of "
                f"{spec.kind.name}; take ome-tiff or ome-zarr."
            )
        source_of(packing)

    def write(self, path: Path, pyramid: Pyramid, packing: Packing, report: Callable[[], None]) -> None:
        """Write all levels; they appear together."""
        self.check(pyramid.spec, packing)
        with whole_folder(path) as partial:
            for number in range(len(pyramid.spec.levels)):
                frames = partial / "frames"
                sizes = _write_frames(frames, pyramid, number, packing, report)
                level = _level(number, pyramid.spec, packing, sizes)
                new = tags_of(pyramid.spec, packing, level, source_of(packing))  # read anew: pydicom keeps no bytes
                new.Rows = new.Columns = TILE
                new.NumberOfFrames = len(sizes)
                with (partial / f"level-{number}.dcm").open("wb") as file, frames.open("rb") as packed:
                    write_encapsulated(file, new, JPEG if level.ratio else JPEG_2000, packed, sizes, LIMIT)
                frames.unlink()


def _write_frames(path: Path, pyramid: Pyramid, level: int, packing: Packing, report: Callable[[], None]) -> list[int]:
    """Write the packed tiles of a level as items, and give the bytes of each, its padding counted."""

    def tiles() -> Iterator[np.ndarray]:
        for box in pyramid.tiles(level):
            yield filled(pyramid.read(level, *box))
            report()

    pack = exact_frame if packing.compression == "lossless" else lambda tile: jpeg_tile(tile, packing.quality)
    sizes = []
    with path.open("wb") as file:
        for frame in tiles_once(tiles(), pack):
            frame += bytes(len(frame) % 2)
            sizes.append(len(frame))
            file.write(ITEM + struct.pack("<I", len(frame)) + frame)
    return sizes


def _level(number: int, spec: SlideSpec, packing: Packing, sizes: list[int]) -> Level:
    if packing.compression == "lossless":
        return Level(number, "RGB", None)
    return Level(number, "YBR_FULL_422", len(sizes) * TILE * TILE * spec.channels / sum(sizes))


def write_encapsulated(
    file: BinaryIO, dataset: Dataset, syntax: str, frames: BinaryIO, sizes: list[int], limit: int
) -> None:
    """Write an instance of many compressed frames, each in one item.

    Args:
        file: empty.
        dataset: all but the pixels.
        syntax: UID of how these are compressed.
        frames: them, as items, one after the other.
        sizes: bytes of each, without its item's head.
        limit: bytes of them from which on their places are told in an extended offset table (PS3.3 C.7.6.3.1.8).
    """
    steps = [8 + size for size in sizes]
    places = np.concatenate([[0], np.cumsum(steps[:-1], dtype=np.uint64)]).astype(np.uint64)
    table = b""
    if sum(steps) < limit:
        table = places.astype("<u4").tobytes()
    else:
        dataset.ExtendedOffsetTable = places.astype("<u8").tobytes()
        dataset.ExtendedOffsetTableLengths = np.asarray(sizes, "<u8").tobytes()
    begin_file(file, dataset, syntax)
    file.write(PIXELS + ITEM + struct.pack("<I", len(table)) + table)
    shutil.copyfileobj(frames, file, 1 << 20)
    file.write(END)


register(DicomSlide())
