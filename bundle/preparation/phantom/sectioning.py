"""Sections of a block at oblique planes, spoiled as real ones are."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np
from scipy.ndimage import gaussian_filter, map_coordinates
from skimage.morphology import convex_hull_image

from bundle.preparation.phantom.block import RIGID, Block, Tissue
from bundle.preparation.phantom.fields import smooth_noise
from bundle.preparation.phantom.spoiling import SOFT, Spoiling, add_artefacts, lost_tissue, misregistration, photograph
from bundle.preparation.phantom.staining import light, optical_density

PENETRATION_UM = 15.0  # resin keeps dye near the section's surface; the depth at which 1/e of it is left (our choice)
PARTIAL_MM = (2.5, 4.5)  # §2.2, of a section with a screw of 2 mm
HULL_MARGIN_PX = 4  # "a small amount of background pixels surrounding the bone" (§2.8)


@dataclass(frozen=True)
class Plane:
    """Where a section lies in its block, on a pixel grid of the block's own voxel size.

    Attributes:
        centre: (3,), voxel coordinates (z, y, x) of the grid's middle.
        down: (3,), unit vector from one row to the next.
        right: (3,), unit vector from one column to the next.
        shape: rows and columns.
    """

    centre: np.ndarray
    down: np.ndarray
    right: np.ndarray
    shape: tuple[int, int]

    @property
    def normal(self) -> np.ndarray:
        """(3,), unit vector through the section."""
        return np.cross(self.down, self.right)

    def points(self, rows: np.ndarray, columns: np.ndarray, above: float = 0.0) -> np.ndarray:
        """Voxel coordinates (3, …) of pixels, ``above`` voxels along the normal."""
        down, right = rows - (self.shape[0] - 1) / 2, columns - (self.shape[1] - 1) / 2
        lifted = self.centre + above * self.normal
        return (
            lifted.reshape(3, *[1] * down.ndim)
            + np.multiply.outer(self.down, down)
            + np.multiply.outer(self.right, right)
        )

    def grid(self) -> np.ndarray:
        """Rows and columns of every pixel, (2, H, W)."""
        return np.stack(np.meshgrid(*map(np.arange, self.shape), indexing="ij")).astype(float)


def draw_plane(block: Block, rng: np.random.Generator) -> Plane:
    """A cut along the screw, as the saw makes it (§2.1): a few degrees and a few pixels off its axis."""
    size = block.labels.shape[0]
    down = block.axis + np.array([rng.normal(0, 0.04), 0, 0])
    down /= np.linalg.norm(down)
    right = np.cross([1.0, 0, 0], down) + np.array([rng.normal(0, 0.12), 0, 0])
    right -= down * (down @ right)
    right /= np.linalg.norm(right)
    if right[2] < 0:
        right = -right
    off = rng.normal(0, 0.12 * block.screw_um / block.voxel_um)
    centre = (size - 1) / 2 + off * np.cross(down, right)
    return Plane(centre, down, right, (size, size))


@dataclass(frozen=True)
class Section:
    """A pair on one grid, with its truth.

    Attributes:
        source: (H, W), uint16, the µCT in the plane.
        target: (3, H, W), uint8, the spoiled and registered section.
        mask: (H, W), bool, where the two may be compared (§2.8).
        labels: (H, W), uint8, the tissues in the plane.
        perfect: (3, H, W), uint8, the perfect stain in the plane.
        transform: (2, 3); pixel (row, column, 1) of the pair → where the section was photographed.
        corner: top left pixel of the pair on the whole plane.
        faults: the strengths drawn for this section.
    """

    source: np.ndarray
    target: np.ndarray
    mask: np.ndarray
    labels: np.ndarray
    perfect: np.ndarray
    transform: np.ndarray
    corner: tuple[int, int]
    faults: dict[str, float]


def cut(
    block: Block,
    tomogram: np.ndarray,
    stained: np.ndarray,
    plane: Plane,
    spoiling: Spoiling,
    rng: np.random.Generator,
) -> Section:
    """Cut, stain and photograph one section, and register it to the tomogram as well as one can.

    Args:
        block: the specimen.
        tomogram: (Z, Y, X), uint16.
        stained: (Z, Y, X, 3), uint8.
        plane: where.
        spoiling: what goes wrong.
        rng: how it goes wrong here.

    Returns:
        The pair and its truth.
    """
    flat = plane.points(*plane.grid())
    source = np.rint(map_coordinates(tomogram, flat, np.float32, order=1, mode="nearest")).astype(np.uint16)
    labels = map_coordinates(block.labels, flat, order=0, mode="nearest")
    transform = misregistration(plane.shape, spoiling, rng)
    rows, columns = plane.grid()
    places = np.einsum("ij,jhw->ihw", transform, np.stack([rows, columns, np.ones_like(rows)]))
    places = places + soft_drift(labels, spoiling, rng)
    perfect = light(_density(stained, flat))
    target, moved, lost = stained_section(block, stained, plane, places, spoiling, rng)
    mask = _hull(labels) & _hull(moved) & ~lost
    window = _field_of_view(block, labels.shape, spoiling, rng)
    return Section(
        source[window],
        target[window].transpose(2, 0, 1),
        mask[window],
        labels[window],
        perfect[window].transpose(2, 0, 1),
        transform,
        (window[0].start, window[1].start),
        asdict(spoiling),
    )


def soft_drift(labels: np.ndarray, spoiling: Spoiling, rng: np.random.Generator) -> np.ndarray:
    """How far soft tissue has moved in each pixel, (2, H, W); ``labels`` (H, W) are its tissues."""
    soft = np.isin(labels, (*SOFT, Tissue.BACKGROUND))
    weight = gaussian_filter(soft.astype(float), 5) ** 2
    drift = np.stack([smooth_noise(labels.shape, 30, rng) for _ in range(2)])
    return spoiling.soft_shift_px * weight * drift


def stained_section(
    block: Block,
    stained: np.ndarray,
    plane: Plane,
    places: np.ndarray,
    spoiling: Spoiling,
    rng: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Stain and photograph what lies at ``places`` (2, H, W) of the plane, with all that goes wrong.

    Returns:
        The photograph (H, W, 3) uint8, the tissue in each pixel (H, W) uint8, and what was lost (H, W) bool.
    """
    density = _through_thickness(stained, plane, places, spoiling.thickness_um, block.voxel_um)
    moved = map_coordinates(block.labels, plane.points(places[0], places[1]), order=0, mode="nearest")
    lost = lost_tissue(moved, spoiling, rng)
    density[lost] = 0
    density *= rng.normal(1, spoiling.stain_variation)
    add_artefacts(density, moved, spoiling, rng)
    return photograph(density, spoiling, rng), moved, lost


def _density(stained: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Optical density (H, W, 3) of the stained block at voxel coordinates (3, H, W)."""
    channels = [map_coordinates(stained[..., c], points, np.float32, order=1, mode="nearest") for c in range(3)]
    return optical_density(np.stack(channels, axis=-1))


def _through_thickness(
    stained: np.ndarray, plane: Plane, places: np.ndarray, thickness_um: float, voxel_um: float
) -> np.ndarray:
    """Optical density of all that light passes (Beer–Lambert), weighted by the dye that got so deep."""
    count = max(1, round(thickness_um / voxel_um))  # thickness 0: one plane
    depth = (np.arange(count) + 0.5) * thickness_um / count
    share = np.exp(-depth / PENETRATION_UM)
    share /= share.sum()
    above = (depth - share @ depth) / voxel_um  # registration finds the plane that fits best, the middle of the dye
    layers = (_density(stained, plane.points(places[0], places[1], lift)) for lift in above)
    return np.sum([weight * layer for weight, layer in zip(share, layers, strict=True)], axis=0)


def _hull(labels: np.ndarray) -> np.ndarray:
    """Convex hull of bone and screw with a small margin (§2.8), (H, W) bool; empty without bone."""
    rigid = np.isin(labels, RIGID)
    if not rigid.any():
        return rigid
    return gaussian_filter(convex_hull_image(rigid).astype(float), HULL_MARGIN_PX) > 0.16


def _field_of_view(
    block: Block, shape: tuple[int, int], spoiling: Spoiling, rng: np.random.Generator
) -> tuple[slice, slice]:
    """The whole plane, or 2.5 mm × 4.5 mm about a screw of 2 mm, in proportion for another."""
    if rng.random() >= spoiling.partial:
        return slice(0, shape[0]), slice(0, shape[1])
    scale = block.screw_um / 2000 * 1000 / block.voxel_um
    rows, columns = (min(round(mm * scale), size) for mm, size in zip(PARTIAL_MM[::-1], shape, strict=True))
    top, left = (shape[0] - rows) // 2, (shape[1] - columns) // 2
    return slice(top, top + rows), slice(left, left + columns)
