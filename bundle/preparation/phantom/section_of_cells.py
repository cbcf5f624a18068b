"""A section of synthetic cells as large as a slide: a library of fields, laid side by side along the cells' borders."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import map_coordinates

from bundle.images.stain_vectors import mixed
from bundle.preparation.phantom.cell_staining import membranes, stain_cells, stain_hematoxylin_eosin
from bundle.preparation.phantom.cells import MARGIN_UM, grow_cells
from bundle.preparation.phantom.fields import smooth_noise

STAINS = {"he": "hematoxylin and eosin", "ihc": "DAB on membranes, hematoxylin", "ki67": "DAB in nuclei, hematoxylin"}
MARKERS = {"ihc": "membrane", "ki67": "nuclear"}  # where DAB is
LABELLED = (0.05, 0.6)  # share of a field's nuclei that are, where it is in nuclei
TILE = 512  # px a side, of what is composed and of the tiles of the file
FIELDS = 16  # in the library, or as many as there are tiles; each is laid in eight ways
GLASS = 4  # tiles of empty glass, each laid in eight ways too
NOISE = 1.2  # levels of 255, of the camera
WHITE = (243, 242, 240)
FINEST_OUTLINE = 16  # px of the slide for a step of the outline
OUTLINE = 2500  # steps of the outline along the longer side, at most
EDGE_PX = 3.0  # over which tissue goes over into glass
LAYOUT, CELLS, SHAPE, EMPTY, STRENGTH = range(5)  # streams of random numbers


@dataclass(frozen=True)
class Field:
    """A field of the library.

    Attributes:
        picture: (n, n, 3), uint8; a margin around a tile.
        own: (n, n), whether a pixel belongs to a cell whose middle lies in the tile: such cells are laid whole.
        epithelium: share of the tile.
    """

    picture: np.ndarray
    own: np.ndarray
    epithelium: float


def grow_field(seed: int, number: int, pixel_um: float, stain: str) -> Field:
    """A field of other cells than any other's, in a slide's common strength of stain.

    Args:
        seed: of the slide.
        number: of the field.
        pixel_um: side of a pixel, µm.
        stain: one of :data:`STAINS`.
    """
    rng = np.random.default_rng([seed, CELLS, number])
    margin = margin_px(pixel_um)
    cells = grow_cells(rng, TILE + 2 * margin, pixel_um)
    strengths = np.random.default_rng([seed, STRENGTH])  # drawn anew for each field: one slide, one bath
    if stain == "he":
        stains = stain_hematoxylin_eosin(cells, strengths)
    else:
        marker = MARKERS[stain]
        index = rng.uniform(*LABELLED) if marker == "nuclear" else None
        stains = stain_cells(cells, membranes(cells, rng), strengths, marker, index).stains
    white = np.array(WHITE, np.float32)[:, None, None] / 255
    seen = mixed(stains) * white + rng.normal(0, NOISE, stains.shape)
    inner = slice(margin, margin + TILE)
    return Field(
        np.clip(np.rint(seen), 0, 255).astype(np.uint8).transpose(1, 2, 0).copy(),
        _in_tile(cells.territory, margin),
        float((cells.tissue[inner, inner] == 2).mean()),
    )


def margin_px(pixel_um: float) -> int:
    """How far a field reaches beyond its tile."""
    return min(TILE // 2, int(np.ceil(MARGIN_UM / pixel_um)))


def _in_tile(territory: np.ndarray, margin: int) -> np.ndarray:
    """Whether each pixel's cell has its middle in the tile."""
    numbers, flat = np.unique(territory, return_inverse=True)
    counts = np.bincount(flat.ravel())
    inside = np.ones(len(numbers), bool)
    for place in np.indices(territory.shape):
        middle = np.bincount(flat.ravel(), place.ravel()) / counts
        inside &= (middle >= margin) & (middle < territory.shape[0] - margin)
    return inside[flat.reshape(territory.shape)]


def turned(image: np.ndarray, way: int) -> np.ndarray:
    """One of the eight ways to lay a square."""
    image = np.rot90(image, way % 4)
    return image[:, ::-1] if way >= 4 else image


class SectionOfCells:
    """Tissue of an irregular outline on white glass, made tile by tile, in any order.

    Args:
        shape: (rows, columns) of the slide.
        share: of the slide that is tissue.
        pixel_um: side of a pixel, µm.
        stain: one of :data:`STAINS`.
        seed: decides everything else.
    """

    def __init__(self, shape: tuple[int, int], share: float, pixel_um: float, stain: str, seed: int) -> None:
        self.shape = shape
        fields = min(FIELDS, -(-shape[0] // TILE) * -(-shape[1] // TILE))
        grown = [grow_field(seed, number, pixel_um, stain) for number in range(fields)]
        self._fields = sorted(grown, key=lambda field: field.epithelium)
        self._margin = margin_px(pixel_um)
        rng = np.random.default_rng([seed, SHAPE])
        self._step = max(FINEST_OUTLINE, -(-max(shape) // OUTLINE))
        self._outline, self._level = _outline([-(-size // self._step) + 1 for size in shape], share, rng)
        rng = np.random.default_rng([seed, EMPTY])
        noise = rng.normal(0, NOISE, (GLASS, TILE, TILE, 3))
        self._glass = np.clip(np.rint(np.array(WHITE) + noise), 0, 255).astype(np.uint8)
        rng = np.random.default_rng([seed, LAYOUT])
        grid = (-(-shape[0] // TILE) + 2, -(-shape[1] // TILE) + 2)  # one tile more on every side
        nests = smooth_noise(grid, max(4000 / pixel_um / TILE / 4, 1.0), rng) + rng.normal(0, 1.5, grid)
        ranks = np.argsort(np.argsort(nests, None)).reshape(grid) / nests.size
        self._field = (ranks * fields).astype(int)  # which lies where: regions rich in nests, and poor
        self._way = rng.integers(0, 8, grid)
        self._priority = rng.permutation(nests.size).reshape(grid)  # whose cells lie over whose

    def tile(self, row: int, column: int) -> np.ndarray:
        """One tile, (TILE, TILE, 3), uint8; beyond the slide's far edges it goes on."""
        cover = self._cover(row, column)
        way = int(self._way[row + 1, column + 1])
        glass = np.ascontiguousarray(turned(self._glass[(row * 7 + column * 3) % GLASS], way))
        if cover is None:
            return glass
        tissue = self._tissue(row, column)
        if cover.min() == 1:
            return tissue
        return np.rint(glass + cover[..., None] * (tissue - glass.astype(np.float32))).astype(np.uint8)

    def _cover(self, row: int, column: int) -> np.ndarray | None:
        """How far each pixel of a tile is tissue, 0 to 1; None where none is."""
        places = [np.arange(start * TILE, (start + 1) * TILE) / self._step for start in (row, column)]
        last = [size - 1 for size in self._outline.shape]
        box = tuple(
            slice(min(int(place[0]), end), min(int(place[-1]) + 2, end + 1))
            for place, end in zip(places, last, strict=True)
        )
        if self._outline[box].max() <= self._level:
            return None
        if self._outline[box].min() > self._level:
            return np.ones((TILE, TILE), np.float32)
        grid = np.meshgrid(*[np.minimum(place, end) for place, end in zip(places, last, strict=True)], indexing="ij")
        height = map_coordinates(self._outline, np.stack(grid), order=1) - self._level
        slope = np.hypot(*np.gradient(height)) + 1e-9
        return np.clip(0.5 + height / slope / EDGE_PX, 0, 1)

    def _tissue(self, row: int, column: int) -> np.ndarray:
        """A tile full of cells: those of nine fields whose middles lie in these fields' tiles, whole."""
        around = [(row + 1 + down, column + 1 + along) for down in (-1, 0, 1) for along in (-1, 0, 1)]
        tile = self._laid(row + 1, column + 1)[0][self._margin : -self._margin, self._margin : -self._margin].copy()
        for place in sorted(around, key=lambda each: self._priority[each]):
            picture, own = self._laid(*place)
            here, there = zip(
                *(self._shared(at - middle) for at, middle in zip(place, (row + 1, column + 1), strict=True)),
                strict=True,
            )
            np.copyto(tile[here], picture[there], where=own[there][..., None])
        return tile

    def _laid(self, row: int, column: int) -> tuple[np.ndarray, np.ndarray]:
        field, way = self._fields[self._field[row, column]], int(self._way[row, column])
        return turned(field.picture, way), turned(field.own, way)

    def _shared(self, away: int) -> tuple[slice, slice]:
        """Where a field of a tile so many tiles further lies in a tile, and which part of the field that is."""
        start = away * TILE - self._margin  # of the field, in the tile
        first, stop = max(start, 0), min(start + TILE + 2 * self._margin, TILE)
        return slice(first, stop), slice(first - start, stop - start)


def _outline(steps: list[int], share: float, rng: np.random.Generator) -> tuple[np.ndarray, float]:
    """A smooth random height that falls off outwards, and the level above which so large a share of it lies."""
    longest = max(steps)
    height: np.ndarray = np.zeros(steps, np.float32)
    for part, weight in ((5, 1.0), (18, 0.4), (60, 0.12), (240, 0.04)):
        height += weight * smooth_noise(tuple(steps), max(longest / part, 1.0), rng)
    away = [np.linspace(-1, 1, size, dtype=np.float32) ** 2 for size in steps]
    height -= 2.5 * np.add.outer(*away)
    return height, float(np.quantile(height, 1 - share))
