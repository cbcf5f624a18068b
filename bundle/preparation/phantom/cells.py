"""Fields of tumour cells with known nuclei: nests of epithelium in stroma, as geometry, before any staining."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import center_of_mass, map_coordinates
from scipy.spatial import cKDTree

from bundle.preparation.phantom.fields import smooth_noise

NUCLEUS_UM = (6.0, 9.0)  # equivalent diameters, chosen: those of human epithelial nuclei in sections
MARGIN_UM = 12.0  # grown around a field and cut away, so that cells at its border are whole before the cut
LEAST_VISIBLE = 0.5  # of a nucleus that others or its own membrane hide; below it, it is left out
NEIGHBOURS = 5  # seeds looked at for the nearest membrane
HARMONICS = np.arange(2, 6)


@dataclass(frozen=True)
class Cells:
    """One field of cells; every map is (H, W).

    Attributes:
        labels: nuclei, uint16: 0 outside, numbers from 1.
        depth_um: how deep inside its nucleus a pixel lies, µm; negative outside all nuclei.
        chromatin: texture of nuclei, about 1; of use inside nuclei only.
        nucleus_strength: how much of a nuclear stain a pixel's nucleus takes up, about 1.
        territory: the cell that a pixel belongs to, from 0; of stroma too.
        wall_um: distance to the nearest border between two cells, µm.
        tissue: 2 epithelium, 1 stroma, 0 empty glass.
        expression: membrane antigen of the pixel's cell, 0 (negative) to about 1.5; 0 outside epithelium.
        overlap: share of membrane antigen that lies over the whole cell: 1 where the cut runs along the membrane.
        fibres: texture of stroma, 0 to 1.
        pixel_um: side of a pixel, µm.
    """

    labels: np.ndarray
    depth_um: np.ndarray
    chromatin: np.ndarray
    nucleus_strength: np.ndarray
    territory: np.ndarray
    wall_um: np.ndarray
    tissue: np.ndarray
    expression: np.ndarray
    overlap: np.ndarray
    fibres: np.ndarray
    pixel_um: float

    @property
    def count(self) -> int:
        """How many nuclei there are; their numbers are 1 to ``count``."""
        return int(self.labels.max())


def grow_cells(rng: np.random.Generator, size: int = 256, pixel_um: float = 0.5) -> Cells:
    """Grow one field.

    Seeds lie on a shaken hexagonal lattice, their Voronoi cells (in bent and stretched coordinates) are the cells,
    and a smooth random field says which are epithelium, stroma or empty glass. A nucleus is an ellipse with a few
    random harmonics, its equivalent diameter drawn from 6–9 µm.

    Args:
        rng: decides everything that is not an argument.
        size: side of the field, px.
        pixel_um: side of a pixel, µm.

    Returns:
        The field.
    """
    margin = int(np.ceil(MARGIN_UM / pixel_um))
    side = size + 2 * margin
    shape = (side, side)
    noise = lambda um: smooth_noise(shape, max(um / pixel_um, 1.0), rng)

    typical_um = rng.uniform(7.0, 8.0)
    spacing_um = typical_um * rng.uniform(1.33, 1.65)
    places = _bent(rng, shape, pixel_um, noise)
    seeds = _lattice(rng, side * pixel_um, spacing_um)
    distance, nearest = cKDTree(seeds).query(places.reshape(2, -1).T, k=NEIGHBOURS)
    apart = np.linalg.norm(seeds[nearest[:, 1:]] - seeds[nearest[:, :1]], axis=2)
    wall = ((distance[:, 1:] ** 2 - distance[:, :1] ** 2) / (2 * apart)).min(1).reshape(shape)
    territory = nearest[:, 0].reshape(shape)

    kind = _kinds(rng, territory, noise, len(seeds))
    negative = rng.uniform(0.05, 0.3)
    expression = np.exp(rng.normal(0, 0.25, len(seeds))) * (rng.random(len(seeds)) >= negative) * (kind == 2)
    overlap = np.where(rng.random(len(seeds)) < 0.06, rng.uniform(0.6, 1, len(seeds)), rng.uniform(0.1, 0.4))
    fibres, angle = _fibres(rng, shape, pixel_um, noise)

    shapes = _Nuclei(rng, typical_um, pixel_um)
    labels, depth, strength = shapes.painted(territory, wall, kind, angle)
    grain = 1 + 0.16 * noise(0.5) + 0.16 * noise(1.2) + 0.3 * np.exp(-((depth / 0.5) ** 2))
    spots = np.clip(noise(0.9) - 2.0, 0, 1)
    chromatin = np.clip(grain + 0.6 * spots, 0.35, 2.0)

    cut = (slice(margin, margin + size),) * 2
    maps = (labels, depth, chromatin, strength, territory, wall)
    labels, depth, chromatin, strength, territory, wall = (each[cut] for each in maps)
    numbers, flat = np.unique(labels, return_inverse=True)
    first = 0 if numbers[0] == 0 else 1
    return Cells(
        (flat.reshape(size, size) + first).astype(np.uint16),
        depth,
        chromatin,
        strength,
        territory,
        wall,
        kind[territory],
        expression[territory],
        overlap[territory],
        fibres[cut],
        pixel_um,
    )


def _bent(rng: np.random.Generator, shape: tuple[int, int], pixel_um: float, noise) -> np.ndarray:  # noqa: ANN001
    """Coordinates (2, H, W) in µm in which cells are round: bent, and stretched along a direction of the field."""
    rows, columns = np.indices(shape) * pixel_um
    bent = np.stack([rows + 1.1 * noise(8) + 2.5 * noise(30), columns + 1.1 * noise(8) + 2.5 * noise(30)])
    turn, stretch = rng.uniform(0, np.pi), np.sqrt(rng.uniform(1.0, 1.7))
    along = np.array([np.sin(turn), np.cos(turn)])
    matrix = np.eye(2) * stretch + (1 / stretch - stretch) * np.outer(along, along)
    middle = bent.mean((1, 2), keepdims=True)
    return np.einsum("ij,jhw->ihw", matrix, bent - middle) + middle


def _lattice(rng: np.random.Generator, side_um: float, spacing_um: float) -> np.ndarray:
    """Seeds (N, 2) in µm: a turned hexagonal lattice, shaken, that covers the field however it is stretched."""
    reach = int(np.ceil(1.1 * side_um / spacing_um)) + 4
    row, column = np.mgrid[-reach : reach + 1, -reach : reach + 1].reshape(2, -1)
    grid = np.stack([row * np.sqrt(3) / 2, column + 0.5 * (row % 2)], axis=1) * spacing_um
    grid += rng.uniform(-0.27, 0.27, grid.shape) * spacing_um
    turn = rng.uniform(0, np.pi)
    matrix = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    return grid @ matrix + side_um / 2


def _kinds(rng: np.random.Generator, territory: np.ndarray, noise, count: int) -> np.ndarray:  # noqa: ANN001
    """Epithelium 2, stroma 1 or glass 0, for each seed, by the random field where its cell lies."""
    field = noise(22) + 0.35 * noise(9)
    sums = np.bincount(territory.ravel(), field.ravel(), count)
    mean = sums / np.maximum(np.bincount(territory.ravel(), minlength=count), 1)
    seen = mean[np.unique(territory)]
    nests, empty = np.quantile(seen, [rng.uniform(0.25, 0.55), rng.uniform(0.0, 0.1)])
    return np.where(mean >= nests, 2, np.where(mean >= empty, 1, 0)).astype(np.uint8)


def _fibres(rng: np.random.Generator, shape: tuple[int, int], pixel_um: float, noise) -> tuple[np.ndarray, np.ndarray]:  # noqa: ANN001
    """Wavy strands, 0 to 1, and their direction in each pixel, radians from the columns' axis."""
    turn = rng.uniform(0, np.pi)
    bend = 3.0 * noise(15) + 1.5 * noise(6)
    rows, columns = np.indices(shape) * 1.0
    along = (np.cos(turn) * columns + np.sin(turn) * rows) * 0.12
    across = np.cos(turn) * rows - np.sin(turn) * columns + bend / pixel_um
    strands = smooth_noise((3 * shape[0], shape[1]), 1.2 / pixel_um, rng)
    place = np.stack([across - across.min(), along - along.min()])
    drawn = map_coordinates(strands, place, order=1, mode="reflect")
    slope = np.stack(np.gradient(across))
    return np.clip(0.5 + 0.3 * drawn, 0, 1), np.arctan2(-slope[1], slope[0]) * -1.0


class _Nuclei:
    """Nuclei to be drawn into cells."""

    def __init__(self, rng: np.random.Generator, typical_um: float, pixel_um: float) -> None:
        self.rng, self.typical_um, self.pixel_um = rng, typical_um, pixel_um

    def painted(
        self, territory: np.ndarray, wall: np.ndarray, kind: np.ndarray, angle: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Labels, depth in µm and strength of uptake, each (H, W)."""
        rng, shape = self.rng, territory.shape
        labels, strength = np.zeros(shape, np.int32), np.ones(shape)
        depth = np.full(shape, -np.inf)
        cells = np.unique(territory)
        centres = np.array(center_of_mass(np.ones(shape), territory, cells))
        full: dict[int, int] = {}
        for number, (cell, centre) in enumerate(zip(cells, centres, strict=True), 1):
            drawn = self._drawn(int(kind[cell]), float(angle[tuple(np.rint(centre).astype(int))]))
            if drawn is None:
                continue
            diameter_um, aspect, turn, uptake = drawn
            centre = centre + rng.normal(0, 0.5, 2) / self.pixel_um
            window, inner = self._outline(shape, centre, diameter_um, aspect, turn)
            full[number] = int((inner > 0).sum())
            if kind[cell] == 2:  # an epithelial nucleus keeps within its cell
                inner = np.minimum(inner, np.where(territory[window] == cell, wall[window] - 0.4, -1.0))
            over = inner > depth[window]
            depth[window][over] = inner[over]
            labels[window][over & (inner > 0)] = number
            strength[window][over] = uptake
        seen = np.bincount(labels.ravel(), minlength=len(cells) + 1)
        hidden = [number for number, area in full.items() if seen[number] < LEAST_VISIBLE * area]
        gone = np.isin(labels, hidden) & (labels > 0)
        labels[gone], depth[gone] = 0, -1.0
        return labels, np.maximum(depth, -20.0), strength

    def _drawn(self, kind: int, fibre_angle: float) -> tuple[float, float, float, float] | None:
        """Diameter in µm, aspect, direction and uptake of a cell's nucleus; None where the section misses it."""
        rng = self.rng
        chance, spread, turn = rng.random(), rng.normal(), rng.uniform(0, np.pi)
        uptake = float(np.exp(rng.normal(0, 0.2)))
        if kind == 2 and chance < 0.93:
            diameter = float(np.clip(self.typical_um + 0.6 * spread, *NUCLEUS_UM))
            return diameter, rng.uniform(1.0, 1.45), turn, uptake
        if kind == 1 and chance < 0.3:  # a fibroblast
            return float(np.clip(6.3 + 0.4 * abs(spread), *NUCLEUS_UM)), rng.uniform(1.9, 3.2), fibre_angle, uptake
        if kind == 1 and chance < 0.42:  # a lymphocyte: small, round, dark
            return float(np.clip(6.1 + 0.2 * abs(spread), *NUCLEUS_UM)), rng.uniform(1.0, 1.15), turn, 1.35 * uptake
        return None

    def _outline(
        self, shape: tuple[int, ...], centre: np.ndarray, diameter_um: float, aspect: float, turn: float
    ) -> tuple[tuple[slice, slice], np.ndarray]:
        """A window around a nucleus, and how deep inside it each pixel of the window lies, µm."""
        rng = self.rng
        size, phase = rng.normal(0, 0.035, HARMONICS.size), rng.uniform(0, 2 * np.pi, HARMONICS.size)

        def radius(theta: np.ndarray) -> np.ndarray:
            ellipse = 1 / np.sqrt((np.cos(theta) ** 2) / aspect + (np.sin(theta) ** 2) * aspect)
            return ellipse * (1 + np.cos(theta[..., None] * HARMONICS + phase) @ size)

        around = np.linspace(0, 2 * np.pi, 180, endpoint=False)
        to_size = diameter_um / 2 / np.sqrt(np.mean(radius(around) ** 2))  # area is ½∮r²dθ
        reach = int(np.ceil(diameter_um * np.sqrt(aspect) * 0.7 / self.pixel_um)) + 2
        corner = np.maximum(np.rint(centre).astype(int) - reach, 0)
        end = np.minimum(np.rint(centre).astype(int) + reach + 1, shape)
        window = (slice(corner[0], end[0]), slice(corner[1], end[1]))
        rows, columns = np.mgrid[window]
        down, right = (rows - centre[0]) * self.pixel_um, (columns - centre[1]) * self.pixel_um
        edge = radius(np.arctan2(down, right) - turn) * to_size
        return window, edge - np.hypot(down, right)
