"""What goes wrong between a block and the photograph of its section, each fault with its strength."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import numpy as np
from scipy.ndimage import gaussian_filter
from skimage.draw import disk, line_aa

from bundle.common.errors import InputError
from bundle.common.values import is_number
from bundle.preparation.phantom.block import MATERIALS, Tissue
from bundle.preparation.phantom.fields import smooth_noise
from bundle.preparation.phantom.staining import light

SOFT = (Tissue.SOFT, Tissue.MARROW, Tissue.FAT, Tissue.CELL)
STRONGEST = 1000


@dataclass(frozen=True)
class Spoiling:
    """What goes wrong between block and slide; 0 switches a fault off.

    Attributes:
        shift_px: standard deviation of the registration's error, each axis.
        rotation_deg: standard deviation of its rotation.
        shear: largest shear of the section (toluidine blue < 1 %, H&E 3–4 %; §2.3).
        soft_shift_px: how far soft tissue moves, standard deviation.
        soft_missing: share of the soft tissue that is lost, 0 to 1.
        thickness_um: of the section (about 40 µm, §2.1).
        cracks: how many cross the section, on average.
        saw_marks: largest amplitude of the striations, optical density.
        drops: how many drops of stain lie on the slide, on average.
        illumination: how much darker the photograph gets towards one side, 0 to 1.
        stain_variation: how much the stain's strength differs between slides, standard deviation.
        partial: share of the slides that show only 2.5 mm × 4.5 mm around a screw of 2 mm (§2.2).
    """

    shift_px: float = 1.0
    rotation_deg: float = 0.3
    shear: float = 0.01
    soft_shift_px: float = 4.0
    soft_missing: float = 0.12
    thickness_um: float = 40.0
    cracks: float = 2.0
    saw_marks: float = 0.025
    drops: float = 1.0
    illumination: float = 0.06
    stain_variation: float = 0.06
    partial: float = 0.2


HE_SHEAR = 0.035


def spoiling_of(stain: str, changes: dict[str, float] | None = None) -> Spoiling:
    """The usual faults of a stain's sections, with some changed.

    Raises:
        InputError: if a name is unknown or a strength makes no sense.
    """
    usual = Spoiling(shear=HE_SHEAR) if stain == "he" else Spoiling()
    names = [field.name for field in fields(Spoiling)]
    if changes is not None and not isinstance(changes, dict):
        raise InputError(f"spoiling is {changes!r}; give strengths by name, for example {{cracks: 0, shear: 0.02}}.")
    faults = []
    for name, value in (changes or {}).items():
        if name not in names:
            faults.append(f"spoiling has no {name!r}; it has {', '.join(names)}.")
        elif not is_number(value) or not 0 <= value <= STRONGEST:
            faults.append(f"spoiling {name} is {value!r}; give its strength, 0 (switches it off) to {STRONGEST}.")
        elif name in ("soft_missing", "illumination", "partial", "shear") and value > 1:
            faults.append(f"spoiling {name} is {value!r}; it is a share, 0 to 1.")
    if faults:
        raise InputError("\n".join(faults))
    return replace(usual, **(changes or {}))


def misregistration(shape: tuple[int, int], spoiling: Spoiling, rng: np.random.Generator) -> np.ndarray:
    """(2, 3) affine of rows and columns about the middle: rotation, shear, shift."""
    turn = np.deg2rad(rng.normal(0, spoiling.rotation_deg))
    rotation = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    linear = rotation @ np.array([[1, 0], [rng.uniform(-1, 1) * spoiling.shear, 1]])
    middle = (np.array(shape) - 1) / 2
    shift = rng.normal(0, 1, 2) * spoiling.shift_px
    return np.column_stack([linear, middle - linear @ middle + shift])


def lost_tissue(labels: np.ndarray, spoiling: Spoiling, rng: np.random.Generator) -> np.ndarray:
    """Soft tissue that did not make it to the slide, (H, W) bool."""
    noise = smooth_noise(labels.shape, 22, rng)
    soft = np.isin(labels, SOFT)
    if not spoiling.soft_missing or not soft.any():
        return np.zeros(labels.shape, bool)
    return soft & (noise > np.quantile(noise[soft], 1 - spoiling.soft_missing))


def add_artefacts(density: np.ndarray, labels: np.ndarray, spoiling: Spoiling, rng: np.random.Generator) -> None:
    """Add cracks, saw marks and drops of stain to the optical density (H, W, 3), in place."""
    height, width = labels.shape
    for _ in range(rng.poisson(spoiling.cracks)):
        opened = np.zeros(labels.shape)
        place, heading = rng.uniform(1, (height - 2, width - 2)), rng.uniform(0, 2 * np.pi)
        for _ in range(rng.integers(8, 25)):
            heading += rng.normal(0, 0.35)
            ahead = np.clip(place + 6 * np.array([np.sin(heading), np.cos(heading)]), 1, (height - 2, width - 2))
            rows, columns, weight = line_aa(*np.rint(place).astype(int), *np.rint(ahead).astype(int))
            opened[rows, columns] = np.maximum(opened[rows, columns], weight)
            place = ahead
        opened = np.clip(gaussian_filter(opened, rng.uniform(0.4, 0.8)) * 1.8, 0, 0.9)
        metal = np.isin(labels, list(MATERIALS.values()))
        density *= (1 - opened * ~metal)[..., None]
    if spoiling.saw_marks:
        heading = rng.uniform(0, np.pi)
        rows, columns = np.mgrid[:height, :width]
        across = rows * np.sin(heading) + columns * np.cos(heading)
        profile = gaussian_filter(rng.standard_normal(2 * (height + width)), 0.9)
        marks = np.interp(across + height + width, np.arange(profile.size), profile / profile.std())
        stained = np.clip(density.mean(-1, keepdims=True) / 0.1, 0, 1)
        density += spoiling.saw_marks * rng.random() * marks[..., None] * stained
    for _ in range(rng.poisson(spoiling.drops)):
        rows, columns = disk(rng.uniform(0, (height, width)), rng.uniform(2.5, 9), shape=labels.shape)
        drop = np.zeros(labels.shape)
        drop[rows, columns] = rng.uniform(0.2, 0.7)
        density += gaussian_filter(drop, 0.8)[..., None] * np.array([0.75, 0.6, 0.28])
    np.maximum(density, 0, out=density)


def photograph(density: np.ndarray, spoiling: Spoiling, rng: np.random.Generator) -> np.ndarray:
    """Uneven light, a microscope's blur, a camera's noise, (H, W, 3) uint8."""
    height, width = density.shape[:2]
    heading = rng.uniform(0, 2 * np.pi)
    rows, columns = np.linspace(-1, 1, height)[:, None], np.linspace(-1, 1, width)[None, :]
    slope = (np.sin(heading) * rows + np.cos(heading) * columns + 0.5 * (rows**2 + columns**2)) / 2
    seen = light(density) * (1 - spoiling.illumination * np.maximum(slope, 0))[..., None]
    seen = gaussian_filter(seen, (0.4, 0.4, 0)) + rng.normal(0, 1.5, seen.shape)
    return np.clip(np.rint(seen), 0, 255).astype(np.uint8)
