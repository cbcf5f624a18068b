"""A whole slide of synthetic cells, as a pyramidal BigTIFF of any size."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

import imagecodecs
import numpy as np
import tifffile
from tqdm import tqdm

from bundle.common.atomic import check_writable, whole_file
from bundle.common.errors import InputError
from bundle.common.values import is_number, shown
from bundle.images.slides import TIFF
from bundle.images.stained_slides.pyramid import halved
from bundle.preparation.phantom.cell_dataset import COARSEST_UM, DESCRIPTION
from bundle.preparation.phantom.section_of_cells import STAINS, TILE, SectionOfCells

FINEST_UM = 0.1  # a field of the library then has a margin of a quarter of its tile
MOST_SIDE = 200_000  # px, more than any scanner's
QUALITY, LEVEL = 90, 3  # of JPEG, of deflate
COMPRESSIONS = ("jpeg", "deflate")


def make_cell_slide(
    output: str,
    height: int = 30000,
    width: int = 40000,
    tissue: float = 0.2,
    pixel_um: float = 0.5,
    stain: str = "he",
    seed: int = 0,
    compression: str = "jpeg",
) -> Path:
    """Make a slide of synthetic cells: tissue of an irregular outline on white glass, with slight camera noise.

    The file is a BigTIFF in tiles of 512 px; its coarser levels, each half the one before, are further pages. It is
    written tile by tile: memory grows with the width alone.

    Args:
        output: the file, ``.tif``.
        height: rows, px.
        width: columns, px.
        tissue: share of the slide that is tissue, more than 0 and less than 1.
        pixel_um: side of a pixel, µm; nuclei are 6 to 9 µm wide.
        stain: ``he``, ``ihc`` (DAB on membranes) or ``ki67`` (DAB in nuclei).
        seed: the same seed gives the same bytes, another one another slide.
        compression: ``jpeg`` or, without loss, ``deflate``.

    Returns:
        The file.

    Raises:
        InputError: with one line for each argument that makes no sense, or if ``output`` is there.
    """
    path = Path(str(output))
    faults = _faults(path, height, width, tissue, pixel_um, stain, seed, compression)
    if faults:
        raise InputError("\n".join(faults))
    check_writable(path.parent, "the folder of output")
    section = SectionOfCells((height, width), tissue, pixel_um, stain, seed)
    about = {"stain": STAINS[stain], "pixel_um": pixel_um, "tissue": tissue, "seed": seed}
    with whole_file(path) as partial, tempfile.TemporaryFile(dir=path.parent) as spare:
        _write(partial, section, pixel_um, f"{DESCRIPTION} {json.dumps(about)}", ENCODERS[compression], spare)
    return path


def _faults(
    path: Path, height: Any, width: Any, tissue: Any, pixel_um: Any, stain: Any, seed: Any, compression: Any
) -> list[str]:
    faults = []
    for name, value, least, most in (
        ("height", height, 1, MOST_SIDE),
        ("width", width, 1, MOST_SIDE),
        ("seed", seed, 0, 2**63),
    ):
        if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
            faults.append(f"{name} is {shown(value)}; give a whole number from {least} to {most}.")
    if not is_number(tissue) or not 0 < tissue < 1:
        faults.append(f"tissue is {shown(tissue)}; give the share of the slide, more than 0 and less than 1.")
    if not is_number(pixel_um) or not FINEST_UM <= pixel_um <= COARSEST_UM:
        faults.append(f"pixel_um is {shown(pixel_um)}; give µm, from {FINEST_UM:g} to {COARSEST_UM:g}.")
    for name, value, known in (("stain", stain, STAINS), ("compression", compression, COMPRESSIONS)):
        if value not in list(known):
            faults.append(f"{name} is {shown(value)}; it is one of {', '.join(known)}.")
    if path.suffix.lower() not in TIFF:
        faults.append(f"output {path} is no TIFF by its name; let it end in .tif.")
    elif path.exists():
        faults.append(f"output {path} is there already; name a new file, or remove that one first.")
    return faults


Encoder = Callable[[np.ndarray], bytes]


def _jpeg(tile: np.ndarray) -> bytes:
    options: dict[str, Any] = {"colorspace": "rgb", "outcolorspace": "ycbcr", "subsampling": "420"}
    return bytes(imagecodecs.jpeg8_encode(tile, level=QUALITY, **options))


def _deflate(tile: np.ndarray) -> bytes:
    return bytes(imagecodecs.deflate_encode(tile.tobytes(), level=LEVEL))


ENCODERS: dict[str, tuple[Encoder, dict[str, Any]]] = {  # and how the file names what they make
    "jpeg": (_jpeg, {"compression": "jpeg", "photometric": "ycbcr", "subsampling": (2, 2)}),
    "deflate": (_deflate, {"compression": "adobe_deflate", "photometric": "rgb"}),
}


class _Coarser:
    """A coarser level, made of the finer one's rows as these come; its tiles go to a spare file until their turn."""

    def __init__(self, shape: tuple[int, int], encode: Encoder, spare: IO[bytes]) -> None:
        self.shape, self._encode, self._spare = shape, encode, spare
        self._places: list[tuple[int, int]] = []  # start and length of each tile in the spare file
        self._rows = np.empty((TILE, shape[1], 3), np.uint8)
        self._filled = 0
        self.next: _Coarser | None = None
        if max(shape) > TILE:
            self.next = _Coarser(_half(shape), encode, spare)

    def add(self, finer: np.ndarray) -> None:
        """Take rows of the finer level, an even number but for the last."""
        rows = halved(finer)
        self._rows[self._filled : self._filled + len(rows)] = rows
        self._filled += len(rows)
        if self._filled == TILE:
            self._give()

    def end(self) -> None:
        """There are no more rows."""
        if self._filled:
            self._give()
        if self.next:
            self.next.end()

    def tiles(self) -> Iterator[bytes]:
        """All tiles, encoded, in order."""
        for start, length in self._places:
            self._spare.seek(start)
            yield self._spare.read(length)

    def _give(self) -> None:
        band = self._rows[: self._filled]
        for left in range(0, self.shape[1], TILE):
            tile = np.zeros((TILE, TILE, 3), np.uint8)
            part = band[:, left : left + TILE]
            tile[: part.shape[0], : part.shape[1]] = part
            content = self._encode(_edge_repeated(tile, part.shape[:2]))
            self._places.append((self._spare.seek(0, 2), len(content)))
            self._spare.write(content)
        if self.next:
            self.next.add(band)
        self._filled = 0


def _half(shape: tuple[int, int]) -> tuple[int, int]:
    return (shape[0] + 1) // 2, (shape[1] + 1) // 2


def _edge_repeated(tile: np.ndarray, filled: tuple[int, int]) -> np.ndarray:
    """A tile whose unused part repeats the last rows and columns: a black one would bleed in through JPEG."""
    tile[filled[0] :] = tile[filled[0] - 1]
    tile[:, filled[1] :] = tile[:, filled[1] - 1 : filled[1]]
    return tile


def _finest(section: SectionOfCells, encode: Encoder, coarser: _Coarser | None) -> Iterator[bytes]:
    """The tiles of the finest level, encoded; the coarser ones are made beside."""
    height, width = section.shape
    rows, columns = -(-height // TILE), -(-width // TILE)
    band = np.empty((TILE, columns * TILE, 3), np.uint8)
    with tqdm(total=rows * columns, desc="tiles", unit="tile", dynamic_ncols=True) as bar:
        for row in range(rows):
            for column in range(columns):
                tile = section.tile(row, column)
                band[:, column * TILE : (column + 1) * TILE] = tile
                if coarser and column == columns - 1:  # before the last tile is given, after which none is asked for
                    coarser.add(band[: height - row * TILE, :width])
                    if row == rows - 1:
                        coarser.end()
                bar.update()
                yield encode(tile)


def _write(
    path: Path,
    section: SectionOfCells,
    pixel_um: float,
    description: str,
    encoder: tuple[Encoder, dict[str, Any]],
    spare: IO[bytes],
) -> None:
    encode, told = encoder
    coarser = _Coarser(_half(section.shape), encode, spare) if max(section.shape) > TILE else None
    common = {"tile": (TILE, TILE), "dtype": np.uint8, "metadata": None, "resolutionunit": 3, **told}
    with tifffile.TiffWriter(path, bigtiff=True) as file:
        tiles, shape, level = _finest(section, encode, coarser), section.shape, 0
        options: dict[str, Any] = {"description": description, "software": "virtual-staining"}
        while True:
            per_cm = (1e4 / (pixel_um * 2**level),) * 2
            file.write(tiles, shape=(*shape, 3), resolution=per_cm, **common, **options)
            if coarser is None:
                return
            tiles, shape, level = coarser.tiles(), coarser.shape, level + 1
            coarser, options = coarser.next, {"subfiletype": 1}
