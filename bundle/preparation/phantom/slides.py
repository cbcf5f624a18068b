"""Slides as a laboratory has them before anything is registered: cut anywhere, turned, stretched, warped."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import map_coordinates

from bundle.preparation.phantom.block import Block
from bundle.preparation.phantom.fields import smooth_noise
from bundle.preparation.phantom.sectioning import Plane, soft_drift, stained_section
from bundle.preparation.phantom.spoiling import Spoiling

WARP_LENGTH_PX = 60  # over which the section's own distortion changes


@dataclass(frozen=True)
class Distortion:
    """What cutting and mounting do to the whole section, bone too.

    Attributes:
        scale: of rows and columns; 1.02 shows a structure 2 % larger.
        shear: of columns along rows.
        warp_px: largest displacement beyond the affine one, in pixels of the block.
    """

    scale: tuple[float, float] = (1.0, 1.0)
    shear: float = 0.0
    warp_px: float = 0.0


@dataclass(frozen=True)
class RawSlide:
    """A photograph that nothing is registered to, and its truth.

    Attributes:
        pixels: (3, H, W), uint8.
        pixel_um: its pixel size.
        plane: where it was cut.
        distortion: of the section.
        places: (2, H, W), row and column on the plane that each pixel shows, px of the block.
        labels: (H, W), uint8, the tissue that each pixel shows.
    """

    pixels: np.ndarray
    pixel_um: float
    plane: Plane
    distortion: Distortion
    places: np.ndarray
    labels: np.ndarray


def draw_cut(block: Block, rng: np.random.Generator, lying: bool = True) -> Plane:
    """A cut along the screw at any angle about its axis; the section lies on the slide in any way, either side up.

    Args:
        block: the specimen.
        rng: where chance comes from.
        lying: False keeps the screw upright and the section's upper side up.

    Returns:
        The plane, whose rows and columns are those of the slide.
    """
    size = block.labels.shape[0]
    down = block.axis + rng.normal(0, 0.05, 3)
    down /= np.linalg.norm(down)
    across = np.cross(down, rng.standard_normal(3))
    across /= np.linalg.norm(across)
    turn = rng.uniform(0, 2 * np.pi) if lying else rng.normal(0, 0.05)
    flip = -1.0 if lying and rng.random() < 0.5 else 1.0
    rows, columns = np.cos(turn) * down + np.sin(turn) * across, np.cos(turn) * across - np.sin(turn) * down
    off = rng.normal(0, 0.12 * block.screw_um / block.voxel_um) * np.cross(down, across)
    return Plane((size - 1) / 2 + off, rows, flip * columns, (size, size))


def draw_distortion(rng: np.random.Generator) -> Distortion:
    """1 to 2 % of scale on each axis and of shear, 2 to 4 px of warp."""
    scale, shear = rng.uniform(0.01, 0.02, 2) * rng.choice([-1, 1], 2), rng.uniform(0.01, 0.02) * rng.choice([-1, 1])
    return Distortion((1 + scale[0], 1 + scale[1]), float(shear), rng.uniform(2, 4))


def photograph_slide(
    block: Block,
    stained: np.ndarray,
    plane: Plane,
    distortion: Distortion,
    spoiling: Spoiling,
    rng: np.random.Generator,
    pixel_um: float | None = None,
) -> RawSlide:
    """Cut, stain, distort and photograph one section.

    Args:
        block: the specimen.
        stained: (Z, Y, X, 3), uint8.
        plane: where, and how large (its shape, px of the block).
        distortion: of the whole section.
        spoiling: what else goes wrong; its misregistration has no meaning here.
        rng: how it goes wrong here.
        pixel_um: of the photograph; None takes the block's voxel size.

    Returns:
        The slide and its truth.
    """
    fine = 1.0 if pixel_um is None else pixel_um / block.voxel_um
    shape = tuple(round(size / fine) for size in plane.shape)
    grid = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij")).astype(float)
    centred = (grid - (np.array(shape).reshape(2, 1, 1) - 1) / 2) * fine
    linear = np.linalg.inv(np.array([[distortion.scale[0], 0], [distortion.shear, distortion.scale[1]]]))
    middle = (np.array(plane.shape).reshape(2, 1, 1) - 1) / 2
    places = np.einsum("ij,jhw->ihw", linear, centred) + middle
    if distortion.warp_px:
        warp = np.stack([smooth_noise(shape, WARP_LENGTH_PX / fine, rng) for _ in range(2)])
        places = places + warp * distortion.warp_px / np.hypot(*warp).max()
    tissue = map_coordinates(block.labels, plane.points(*places), order=0, mode="nearest")
    places = places + soft_drift(tissue, spoiling, rng)
    pixels, labels, _ = stained_section(block, stained, plane, places, spoiling, rng)
    return RawSlide(pixels.transpose(2, 0, 1), pixel_um or block.voxel_um, plane, distortion, places, labels)
