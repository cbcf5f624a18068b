"""A bone-implant block as one volume of tissue labels: the truth that tomogram, stain and sections are made from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum

import numpy as np

from bundle.common.errors import InputError
from bundle.common.values import is_number, shown
from bundle.preparation.phantom.fields import paint_ellipsoids, paint_tubes, smooth_noise, wave_noise

MOST_SIZE = 1024  # voxels: 4 GiB in each of the arrays of float32 that a block is made of
COARSEST_UM = 100
BORE_UM = 170.0  # bone and tissue on each side of the screw that a block must hold at least
PITCH, THREAD_DEPTH = 0.2, 0.1225  # of an M2 screw in diameters: 0.4 mm and 0.245 mm of 2 mm
LENGTH = 2.0  # diameters: 4 mm of 2 mm (§2.1)


class Tissue(IntEnum):
    """Values of a label volume."""

    BACKGROUND = 0
    HOLDER = 1
    SOFT = 2
    MARROW = 3
    FAT = 4
    CELL = 5
    BONE = 6
    YOUNG_BONE = 7
    NEW_BONE = 8
    LACUNA = 9
    VESSEL = 10
    LAYER = 11
    CRACK = 12
    MG = 13
    TI = 14
    PEEK = 15


NAMES = {
    Tissue.SOFT: "soft tissue",
    Tissue.FAT: "fat cell",
    Tissue.CELL: "soft-tissue cell",
    Tissue.YOUNG_BONE: "young bone",
    Tissue.NEW_BONE: "new bone",
    Tissue.LAYER: "degradation layer",
    Tissue.CRACK: "crack in the layer",
    Tissue.HOLDER: "sample holder",
    Tissue.MG: "screw (Mg)",
    Tissue.TI: "screw (Ti)",
    Tissue.PEEK: "screw (PEEK)",
}
TISSUE_NAMES = {NAMES.get(tissue, tissue.name.lower()): int(tissue) for tissue in Tissue}
MATERIALS = {"Mg": Tissue.MG, "Ti": Tissue.TI, "PEEK": Tissue.PEEK}
BONES = (Tissue.BONE, Tissue.YOUNG_BONE, Tissue.NEW_BONE)
RIGID = (*BONES, Tissue.LACUNA, Tissue.VESSEL, Tissue.LAYER, Tissue.CRACK, *MATERIALS.values())


@dataclass(frozen=True)
class Block:
    """One specimen.

    Attributes:
        labels: (Z, Y, X), uint8, values of :class:`Tissue`. Tomographic slices lie along Z; the screw points
            roughly along Y, its tip towards larger Y.
        voxel_um: side of a voxel, µm.
        material: ``Mg``, ``Ti`` or ``PEEK``.
        axis: (3,), the screw's direction in (z, y, x), unit length.
        screw_um: diameter of the screw, µm.
    """

    labels: np.ndarray
    voxel_um: float
    material: str
    axis: np.ndarray
    screw_um: float


def check_block(material: str, size: int, voxel_um: float, screw_mm: float) -> list[str]:
    """What is wrong with a block's measures; empty if nothing is."""
    faults = []
    if not isinstance(material, str) or material not in MATERIALS:
        faults.append(f"material is {material!r}; the screws are of {', '.join(MATERIALS)}.")
    if type(size) is not int or not 1 <= size <= MOST_SIZE:
        told = f"give the block's side as a whole number of voxels, at most {MOST_SIZE}, for example 256."
        return [*faults, f"size is {shown(size)}; {told}"]
    faults += [
        f"{name} is {shown(value)}; it must be more than 0."
        for name, value in (("voxel_um", voxel_um), ("screw_mm", screw_mm))
        if not is_number(value) or value <= 0
    ]
    if not faults and size * voxel_um < screw_mm * 1000 + 2 * BORE_UM:
        faults.append(
            f"a block of {size} voxels of {voxel_um:g} µm is {size * voxel_um / 1000:.2f} mm wide, too small for a "
            f"screw of {screw_mm:g} mm with {BORE_UM:g} µm of tissue on both sides; set --size of at least "
            f"{int(np.ceil((screw_mm * 1000 + 2 * BORE_UM) / voxel_um))}, or a smaller --screw_mm."
        )
    if not faults and voxel_um > COARSEST_UM:
        faults.append(
            f"voxel_um is {voxel_um:g}; it must be at most {COARSEST_UM}, or a voxel holds all that there is."
        )
    return faults


def make_block(
    rng: np.random.Generator, material: str = "Mg", size: int = 256, voxel_um: float = 5.0, screw_mm: float = 0.52
) -> Block:
    """Grow one specimen.

    From the top (small Y) down: soft tissue, cortical bone with canals and osteons, trabecular bone in marrow.
    The explant is the cylinder that a trephine leaves around the screw; beyond it lie resin and the holder's wall.
    The screw has the proportions of the paper's M2 screw, at ``screw_mm``.

    Args:
        rng: decides everything that is not an argument.
        material: of the screw; only Mg gets a degradation layer and new woven bone beside it.
        size: side of the block, voxels.
        voxel_um: side of a voxel, µm.
        screw_mm: diameter of the screw, mm.

    Returns:
        The labels and what a section has to know of the screw.

    Raises:
        InputError: if the material is unknown or the block too small for its screw.
    """
    faults = check_block(material, size, voxel_um, screw_mm)
    if faults:
        raise InputError("\n".join(faults))
    shape = (size,) * 3
    noise = lambda um: smooth_noise(shape, um / voxel_um, rng)
    side, radius = size * voxel_um, screw_mm * 500
    frame = _tilt(rng)
    depth, across, through = _coordinates(size, voxel_um, frame)  # µm: along the screw, and across it
    outward = np.hypot(across, through)
    top = -0.47 * side + 0.02 * side * rng.random()
    tip = min(top + LENGTH * 2 * radius, 0.42 * side)
    surface = _screw(depth, across, through, outward, radius, top, tip)  # µm outside the thread, negative inside

    labels = np.full(shape, Tissue.BACKGROUND, np.uint8)
    cortex_top = top + (0.09 + 0.03 * rng.random()) * side + 25 * noise(160)
    cortex = 0.30 * side * (0.85 + 0.3 * rng.random()) + 30 * noise(120)
    below = depth - cortex_top
    labels[below < 0] = Tissue.SOFT
    labels[below >= 0] = Tissue.MARROW
    struts = wave_noise(shape, rng.uniform(150, 200) / voxel_um, rng) + 0.5 * noise(150)
    threshold = rng.uniform(0.45, 0.7)
    bone = (below >= 0) & ((below < cortex) | (struts > threshold))
    # bone heals around the screw: a shell that leaves gaps
    healed = 45 + 30 * noise(60)
    bone |= (below > 0) & (surface < healed) & (noise(110) > -0.35)
    labels[bone] = Tissue.BONE
    aged = noise(130)
    labels[bone & ((aged > 1.3) | ((surface < healed) & (aged > -0.6)))] = Tissue.YOUNG_BONE

    osteons, canals = _canals(rng, frame, size, voxel_um, cortex_top.mean(), cortex.mean())
    paint_tubes(labels, *osteons, Tissue.YOUNG_BONE, over=(Tissue.BONE,))
    if material == "Mg":
        woven = 60 + 45 * noise(70)
        new = (surface < woven) & (below > 0) & (noise(120) > 0.1)
        labels[new & np.isin(labels, (*BONES, Tissue.MARROW))] = Tissue.NEW_BONE
    _soft_tissue(labels, rng, noise, voxel_um)
    paint_tubes(labels, *canals, Tissue.VESSEL, over=BONES)
    _lacunae(labels, rng, frame, voxel_um)

    explant = outward - 0.425 * side - 6 * noise(40)
    end = depth - 0.46 * side - 8 * noise(40)
    outside = (explant > 0) | (end > 0) | (depth < top - 0.015 * side + 12 * noise(90))
    labels[outside] = Tissue.BACKGROUND
    wall = _holder(rng, size, voxel_um, 0.61 * side)
    labels[outside & wall] = Tissue.HOLDER
    if material == "Mg":
        thickness = np.maximum(8, 34 + 14 * noise(70) + 7 * noise(25))
        labels[surface < 5 * noise(30)] = Tissue.LAYER
        labels[(surface < -6) & (surface > -thickness) & (np.abs(noise(28)) < 0.035)] = Tissue.CRACK
        labels[surface < -thickness] = Tissue.MG
    else:
        labels[surface < 0] = MATERIALS[material]
    return Block(labels, voxel_um, material, frame[0], 2 * radius)


def _tilt(rng: np.random.Generator) -> np.ndarray:
    """Rows: unit vectors along, across and through the screw, in (z, y, x); a few degrees off the block's axes."""
    pitch, roll, turn = np.deg2rad(rng.uniform([-7, -7, -180], [7, 7, 180]))
    along = np.array([np.sin(pitch), np.cos(pitch) * np.cos(roll), np.cos(pitch) * np.sin(roll)])
    across = np.cross(along, [1.0, 0, 0])
    across /= np.linalg.norm(across)
    through = np.cross(along, across)
    return np.stack(
        [along, np.cos(turn) * across + np.sin(turn) * through, np.cos(turn) * through - np.sin(turn) * across]
    )


def _coordinates(size: int, voxel_um: float, frame: np.ndarray) -> list[np.ndarray]:
    """Position of each voxel in the screw's frame, µm from the block's centre, three (Z, Y, X) float32."""
    steps = ((np.arange(size) - (size - 1) / 2) * voxel_um).astype(np.float32)
    z, y, x = steps[:, None, None], steps[None, :, None], steps[None, None, :]
    return [np.float32(row[0]) * z + np.float32(row[1]) * y + np.float32(row[2]) * x for row in frame]


def _screw(
    depth: np.ndarray,
    across: np.ndarray,
    through: np.ndarray,
    outward: np.ndarray,
    radius: float,
    top: float,
    tip: float,
) -> np.ndarray:
    """Distance outside the threaded screw in µm, negative inside: triangular thread, slot in the head, blunt tip."""
    turns = depth / np.float32(2 * radius * PITCH) + np.arctan2(through, across) / np.float32(2 * np.pi)
    groove = 1 - np.abs(2 * (turns - np.floor(turns)) - 1)
    groove = np.clip(1.25 * groove - 0.125, 0, 1)
    blunt = np.clip((depth - tip + 0.5 * radius) / (0.5 * radius), 0, 1) ** 2
    surface = outward - radius * (1 - 2 * THREAD_DEPTH * groove - 0.55 * blunt)
    slot = np.maximum(np.abs(across) - 0.16 * radius, depth - top - 0.4 * radius)
    return np.maximum(np.maximum(surface, np.maximum(depth - tip, top - depth)), -slot)


Tubes = tuple[np.ndarray, np.ndarray]


def _canals(
    rng: np.random.Generator, frame: np.ndarray, size: int, voxel_um: float, top: float, thickness: float
) -> tuple[Tubes, Tubes]:
    """Centre lines (N, 3) in voxels and radii (N,) of young osteons and of the canals that run along the bone."""
    side = size * voxel_um
    lines, radii, young = [], [], []
    steps = np.arange(-0.6 * side, 0.6 * side, 0.7 * voxel_um)
    for _ in range(int(26e-6 * side * thickness)):  # a canal per 0.04 mm² of the cortex's section
        start = np.array([top + thickness * rng.random(), 0, side * rng.uniform(-0.5, 0.5)])
        wander = np.cumsum(rng.normal(0, 0.12 * np.sqrt(voxel_um), (2, steps.size)), axis=1)
        line = np.stack([start[0] + wander[0] + 0.12 * steps * rng.normal(), steps, start[2] + wander[1]], axis=1)
        line[:, 2] += 0.25 * steps * rng.normal()
        lines.append(line)
        radii.append(np.full(steps.size, rng.uniform(7, 15)) * (1 + 0.25 * np.sin(steps / 60 + 6 * rng.random())))
        young.append(np.full(steps.size, rng.random() < 0.45))
    for _ in range(max(1, len(lines) // 3)):  # canals that cross to the marrow
        steps_down = np.arange(-20, thickness * 1.1, 0.7 * voxel_um)
        place = rng.uniform(-0.45, 0.45, 2) * side
        slope = rng.normal(0, 0.3, 2)
        lines.append(np.stack([top + steps_down, *(place[:, None] + slope[:, None] * steps_down)], axis=1))
        radii.append(np.full(steps_down.size, rng.uniform(6, 11)))
        young.append(np.zeros(steps_down.size, bool))
    points = np.concatenate(lines) @ frame / voxel_um + (size - 1) / 2
    width, is_young = np.concatenate(radii) / voxel_um, np.concatenate(young)
    return (points[is_young][::8], width[is_young][::8] + rng.uniform(28, 42) / voxel_um), (points, width)


def _soft_tissue(labels: np.ndarray, rng: np.random.Generator, noise: Callable, voxel_um: float) -> None:
    """Clefts of dried soft tissue, fat cells of the marrow, nuclei in both."""
    size = labels.shape[0]
    labels[(labels == Tissue.SOFT) & (noise(35) > 1.5)] = Tissue.BACKGROUND
    fatty = noise(180) > -0.5
    spacing = 42.0 / voxel_um
    grid = np.stack(np.meshgrid(*[np.arange(0, size, spacing)] * 3, indexing="ij"), axis=-1).reshape(-1, 3)
    centres = grid + rng.uniform(-0.35, 0.35, grid.shape) * spacing
    place = tuple(np.clip(np.rint(centres), 0, size - 1).astype(int).T)
    centres = centres[(labels[place] == Tissue.MARROW) & fatty[place]]
    axes = rng.uniform(14, 21, (len(centres), 1)) / voxel_um * rng.uniform(0.85, 1.15, (len(centres), 3))
    paint_ellipsoids(labels, centres, axes, np.eye(3), Tissue.FAT, over=(Tissue.MARROW,))
    volume_mm3 = (size * voxel_um / 1000) ** 3
    centres = rng.uniform(0, size - 1, (int(16000 * volume_mm3), 3))
    axes = rng.uniform(4, 6.5, centres.shape) / voxel_um
    paint_ellipsoids(labels, centres, axes, np.eye(3), Tissue.CELL, over=(Tissue.SOFT, Tissue.MARROW))


def _lacunae(labels: np.ndarray, rng: np.random.Generator, frame: np.ndarray, voxel_um: float) -> None:
    """Osteocyte lacunae: flat ellipsoids along the lamellae; rounder, larger and denser in woven bone."""
    size = labels.shape[0]
    volume_mm3 = (size * voxel_um / 1000) ** 3
    for tissues, per_mm3, low, high in (
        ((Tissue.BONE, Tissue.YOUNG_BONE), 15000, (4.5, 8.5, 5.0), (6.0, 12.5, 7.0)),
        ((Tissue.NEW_BONE,), 26000, (6.0, 7.0, 6.0), (8.5, 10.0, 8.5)),
    ):
        centres = rng.uniform(0, size - 1, (int(per_mm3 * volume_mm3), 3))
        place = tuple(np.rint(centres).astype(int).T)
        centres = centres[np.isin(labels[place], tissues)]
        axes = rng.uniform(low, high, (len(centres), 3)) / voxel_um
        turned = rng.normal(0, 0.35, (len(centres), 3))  # small turns about the lamellae's frame
        cross = np.zeros((len(centres), 3, 3))
        cross[:, 0, 1], cross[:, 0, 2], cross[:, 1, 2] = -turned[:, 2], turned[:, 1], -turned[:, 0]
        frames = np.linalg.qr(frame.T + (cross - cross.transpose(0, 2, 1)) @ frame.T)[0]
        paint_ellipsoids(labels, centres, axes, frames, Tissue.LACUNA, over=tissues)


def _holder(rng: np.random.Generator, size: int, voxel_um: float, radius: float) -> np.ndarray:
    """Wall of the sample tube, whose axis is the tomograph's (Z), (1, Y, X) bool."""
    steps = (np.arange(size) - (size - 1) / 2) * voxel_um
    off = rng.uniform(-0.025, 0.025, 2) * size * voxel_um
    away = np.hypot(steps[:, None] - off[0], steps[None, :] - off[1])
    return (np.abs(away - radius) < 22)[None]
