"""A stained slide as one pyramidal BigTIFF of tiles, in the two ways in which readers look for coarser levels.

OME-TIFF has them as SubIFDs. OpenSlide does not look there, and where OME metadata are, tifffile and tiffslide look
nowhere else; so the flat pyramid, for these, is a plain TIFF.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator
from pathlib import Path

import imagecodecs
import numpy as np
import tifffile

from bundle.common.atomic import whole_file
from bundle.common.errors import InputError
from bundle.images.stained_slides.formats import Packing, SlideFormat, register
from bundle.images.stained_slides.ome_xml import note_of, ome_xml, stamp_text
from bundle.images.stained_slides.pyramid import TILE, Pyramid, of_one_colour
from bundle.images.stained_slides.spec import SlideSpec

DEFLATE_LEVEL = 3  # on smooth random colours: level 1 takes four fifths of the time for the same bytes, 6 the same
REDUCED = 1  # NewSubfileType of a coarser level
SOFTWARE = "virtual-staining"
STAMP = "virtual_staining: "  # before the stamp in a description


def jpeg_tile(tile: np.ndarray, quality: int) -> bytes:
    """A tile of a picture as baseline JPEG, its colours halved along rows (4:2:2).

    At full resolution (4:4:4) Bio-Formats 7.3.1 turns colours of a TIFF twice, and DICOM's slides do not allow it; on
    smooth random colours at quality 90 the mean error is 2.4 grey levels then, 3.9 so, and 5.4 halved both ways.

    Args:
        tile: (h, w, 3), uint8.
        quality: 1 to 100.
    """
    packed = imagecodecs.jpeg8_encode(tile, level=quality, colorspace="RGB", outcolorspace="YCBCR", subsampling="422")
    return bytes(packed)


def filled(tile: np.ndarray) -> np.ndarray:
    """A tile cut by the level's end, (h, w, …), continued to a whole one by its last row and column."""
    missing = [(0, TILE - size) for size in tile.shape[:2]] + [(0, 0)] * (tile.ndim - 2)
    return np.pad(tile, missing, mode="edge") if any(after for _, after in missing) else tile


def deflated_tile(tile: np.ndarray) -> bytes:
    """A tile packed without loss; whole numbers as differences along a row (predictor 2)."""
    if tile.dtype.kind != "f":
        tile = imagecodecs.delta_encode(tile, axis=1)
    return bytes(imagecodecs.deflate_encode(np.ascontiguousarray(tile).tobytes(), level=DEFLATE_LEVEL))


def tiles_once(tiles: Iterator[np.ndarray], pack: Callable[[np.ndarray], bytes]) -> Iterator[bytes]:
    """Pack whole tiles; empty ones of one colour, of which a slide has most, once.

    Args:
        tiles: (TILE, TILE, …) each.
        pack: packs one.
    """
    known: dict[bytes, bytes] = {}
    for tile in tiles:
        key = of_one_colour(tile)
        if not key:
            yield pack(tile)
            continue
        if key not in known:
            known.clear()
            known[key] = pack(tile)
        yield known[key]


class PyramidalTiff(SlideFormat):
    """A BigTIFF; a kind says where its coarser levels are, and what it says of itself."""

    nested: bool  # levels are SubIFDs of the finest; else they are further images of the file

    @abstractmethod
    def described(self, spec: SlideSpec) -> bytes:
        """Its first ImageDescription."""

    def write(self, path: Path, pyramid: Pyramid, packing: Packing, report: Callable[[], None]) -> None:
        """Write it tile by tile."""
        spec = pyramid.spec
        jpeg = packing.compression == "jpeg" and spec.rgb and spec.kind == np.uint8
        with whole_file(path) as partial, tifffile.TiffWriter(partial, bigtiff=True, byteorder="<") as file:
            for level, shape in enumerate(spec.levels):
                pixels_per_cm = 1e4 / (spec.pixel_um * 2**level)
                file.write(
                    _packed(pyramid, level, packing.quality if jpeg else None, report),
                    shape=(*shape, 3) if spec.rgb else (spec.channels, *shape),
                    dtype=spec.kind,
                    photometric="ycbcr" if jpeg else "rgb" if spec.rgb else "minisblack",
                    planarconfig="contig" if spec.rgb else None,
                    tile=(TILE, TILE),
                    compression="jpeg" if jpeg else "adobe_deflate",
                    predictor=not jpeg and spec.kind.kind != "f",
                    subsampling=(2, 1) if jpeg else None,
                    subifds=len(spec.levels) - 1 if self.nested and level == 0 else None,
                    subfiletype=REDUCED if level else 0,
                    resolution=(pixels_per_cm, pixels_per_cm),
                    resolutionunit="centimeter",
                    description=self.described(spec) if level == 0 else None,
                    software=SOFTWARE,
                    metadata=None,
                )


def _packed(pyramid: Pyramid, level: int, quality: int | None, report: Callable[[], None]) -> Iterator[bytes]:
    """The tiles of a level, plane after plane; ``report`` is called once for all planes of a tile."""
    spec = pyramid.spec
    channels = [slice(None)] if spec.rgb else list(range(spec.channels))

    def tiles() -> Iterator[np.ndarray]:
        boxes = ((channel, box) for channel in channels for box in pyramid.tiles(level))
        for done, (channel, box) in enumerate(boxes, 1):
            tile = filled(pyramid.read(level, *box)[..., channel])
            if done % len(channels) == 0:
                report()  # before it is given out: nobody asks for what comes after the last one
            yield tile

    return tiles_once(tiles(), deflated_tile if quality is None else lambda tile: jpeg_tile(tile, quality))


class OmeTiff(PyramidalTiff):
    """With OME metadata, for any slide."""

    name, suffix, title, nested = "ome-tiff", ".ome.tif", "OME-TIFF", True

    def described(self, spec: SlideSpec) -> bytes:
        """The metadata."""
        return ome_xml(spec)


class FlatTiff(PyramidalTiff):
    """Without, for slides of one plane."""

    name, suffix, title, nested = "tiff-flat", ".tif", "TIFF, flat pyramid", False

    def check(self, spec: SlideSpec, packing: Packing) -> None:
        """Refuse channels: OpenSlide would take each for a level."""
        if spec.channels > 1 and not spec.rgb:
            raise InputError(
                f"output_format {self.name} holds a colour picture or one channel, not {spec.channels} channels; take "
                "ome-tiff or ome-zarr."
            )

    def described(self, spec: SlideSpec) -> bytes:
        """What it is in words, and the stamp in a line of its own."""
        return f"{note_of(spec)}\n{STAMP}{stamp_text(spec)}".encode()


register(OmeTiff())
register(FlatTiff())
