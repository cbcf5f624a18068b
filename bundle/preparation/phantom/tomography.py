"""The synchrotron tomogram of a block: attenuation, blur, edges, shot noise, rings, and a scan's own beam."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import fft
from scipy.ndimage import gaussian_filter

from bundle.preparation.phantom.block import BONES, MATERIALS, Block, Tissue
from bundle.preparation.phantom.fields import smooth_noise

BONE_INTENSITY, BACKGROUND_INTENSITY = 30000.0, 10000.0  # §2.5
LOWEST_KEV, HIGHEST_KEV = 25.0, 45.0  # §2.2

# Attenuation with background 0 and mature bone 1, at 25 and at 45 keV. §3 gives the order of the screws
# (PEEK below, Mg near, Ti above bone) and that new bone is a little lower; the numbers are ours.
ATTENUATION = {
    Tissue.BACKGROUND: (0.0, 0.0),
    Tissue.HOLDER: (0.19, 0.26),
    Tissue.SOFT: (0.15, 0.21),
    Tissue.MARROW: (0.12, 0.18),
    Tissue.FAT: (0.05, 0.09),
    Tissue.CELL: (0.15, 0.21),
    Tissue.BONE: (1.0, 1.0),
    Tissue.YOUNG_BONE: (0.93, 0.94),
    Tissue.NEW_BONE: (0.80, 0.83),
    Tissue.LACUNA: (0.10, 0.14),
    Tissue.VESSEL: (0.11, 0.16),
    Tissue.LAYER: (0.84, 0.88),
    Tissue.CRACK: (0.20, 0.25),
    Tissue.MG: (0.96, 1.02),
    Tissue.TI: (2.35, 1.75),
    Tissue.PEEK: (0.17, 0.24),
}


@dataclass(frozen=True)
class Scan:
    """How one scan was taken.

    Attributes:
        energy_kev: of the beam; decides the contrast between materials (25 to 45 keV, §2.2).
        blur_um: standard deviation of the resolution blur.
        edge: strength of the in-line phase contrast, as a share of the local contrast.
        noise: standard deviation of the shot noise in the background, bone = 1.
        ring: standard deviation of the rings, bone = 1.
        alloy: the screw's attenuation over its table value; alloys differ.
    """

    energy_kev: float
    blur_um: float
    edge: float
    noise: float
    ring: float
    alloy: float


def draw_scan(rng: np.random.Generator) -> Scan:
    """A scan as one of several beam times would have taken it."""
    return Scan(
        energy_kev=rng.uniform(LOWEST_KEV, HIGHEST_KEV),
        blur_um=rng.uniform(3.0, 5.5),
        edge=rng.uniform(0.1, 0.5),
        noise=rng.uniform(0.04, 0.12),
        ring=rng.uniform(0.006, 0.02),
        alloy=rng.uniform(0.96, 1.04),
    )


def scan_block(block: Block, scan: Scan, rng: np.random.Generator) -> np.ndarray:
    """Scan a block, with bone and background at their means of §2.5.

    Args:
        block: the specimen.
        scan: how it is taken.
        rng: noise and rings.

    Returns:
        (Z, Y, X), uint16; mature bone has mean 30000, background 10000.
    """
    labels, voxel = block.labels, block.voxel_um
    share = (scan.energy_kev - LOWEST_KEV) / (HIGHEST_KEV - LOWEST_KEV)
    table = np.zeros(256, np.float32)
    for tissue, (low, high) in ATTENUATION.items():
        table[tissue] = low + share * (high - low)
    table[[Tissue.LAYER, Tissue.CRACK, *MATERIALS.values()]] *= scan.alloy
    volume = table[labels]
    volume *= 1 + np.float32(0.035) * _texture(labels) * smooth_noise(labels.shape, 18 / voxel, rng)
    volume = gaussian_filter(volume, scan.blur_um / voxel, truncate=3)
    volume += np.float32(scan.edge) * (volume - gaussian_filter(volume, 2.0, truncate=2.5))
    volume += _shot_noise(labels.shape, scan.blur_um / voxel, rng) * (
        np.float32(scan.noise) * np.sqrt(1 + 0.6 * np.maximum(volume, 0))
    )
    volume += _rings(labels.shape, scan.ring, rng)
    bone = volume[labels == Tissue.BONE].mean(dtype=np.float64)
    background = volume[labels == Tissue.BACKGROUND].mean(dtype=np.float64)
    volume -= np.float32(background)
    volume *= np.float32((BONE_INTENSITY - BACKGROUND_INTENSITY) / (bone - background))
    volume += np.float32(BACKGROUND_INTENSITY)
    return np.clip(np.rint(volume), 0, 65535).astype(np.uint16)


def _texture(labels: np.ndarray) -> np.ndarray:
    """How much a tissue's attenuation varies within itself: bone little, soft tissue and the layer more."""
    strength = np.zeros(256, np.float32)
    strength[list(BONES)] = 1
    strength[Tissue.LAYER] = 1.8
    strength[[Tissue.SOFT, Tissue.MARROW, Tissue.CELL]] = 7
    return strength[labels]


def _shot_noise(shape: tuple[int, ...], blur: float, rng: np.random.Generator) -> np.ndarray:
    """Noise of filtered back-projection: a ramp in the slice's frequencies, held down by the scan's resolution.

    Unit standard deviation.
    """
    white = rng.standard_normal(shape, dtype=np.float32)
    rows, columns = np.fft.fftfreq(shape[1]), np.fft.rfftfreq(shape[2])
    frequency = np.hypot(rows[:, None], columns[None, :])
    response = np.sqrt(frequency) * np.exp(-2 * (0.55 * np.pi * blur * frequency) ** 2)
    spread = fft.rfft2(white, axes=(1, 2))
    spread *= response.astype(np.float32)
    noise = fft.irfft2(spread, s=shape[1:], axes=(1, 2), overwrite_x=True)
    return noise / noise.std()


def _rings(shape: tuple[int, ...], strength: float, rng: np.random.Generator) -> np.ndarray:
    """Detector columns that read a little off: rings about the tomograph's axis, alike in neighbouring slices."""
    depth, height, width = shape
    radius = np.hypot(*np.ogrid[-height / 2 : height / 2, -width / 2 : width / 2])
    count = int(radius.max()) + 2
    columns = rng.standard_normal(count) * (rng.random(count) < 0.15) * strength
    profile = columns + strength * 0.25 * gaussian_filter(rng.standard_normal((depth, count)), (6, 0.5))
    profile *= 1 / np.sqrt(1 + np.arange(count) / 20)  # an error is spread over its ring
    place = radius.astype(int)
    return 2.5 * profile.astype(np.float32)[:, place]
