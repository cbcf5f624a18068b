"""A field of cells as the laboratory sees it: stained and under a microscope's camera, or fluorescent."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter

from bundle.images.stain_vectors import mixed
from bundle.preparation.phantom.cells import Cells
from bundle.preparation.phantom.fields import smooth_noise

MEMBRANE_UM = 0.75  # half width of a stained membrane: two membranes and the blur of the stain
POSITIVE = (0.35, 1.0)  # optical density of DAB in a nucleus that carries the marker, least and most
MARKERS = ("membrane", "nuclear")


@dataclass(frozen=True)
class Section:
    """A stained field.

    Attributes:
        stains: (3, H, W), float32, the truth: optical density of hematoxylin, eosin and DAB, as in
            bundle.images.stain_vectors.
        positive: numbers of the nuclei that carry a nuclear marker; empty for a membrane marker.
    """

    stains: np.ndarray
    positive: tuple[int, ...]


def membranes(cells: Cells, rng: np.random.Generator) -> np.ndarray:
    """Membrane antigen, (H, W), about 0 to 1.5: along cell borders, uneven, with some in and over the cell."""
    shape = cells.labels.shape
    noise = lambda um: smooth_noise(shape, max(um / cells.pixel_um, 1.0), rng)
    along = np.exp(-((np.maximum(cells.wall_um, 0) / MEMBRANE_UM) ** 2)) * np.clip(1 + 0.3 * noise(2.5), 0.2, 1.8)
    granular = np.clip(1 + 0.35 * noise(0.6) + 0.25 * noise(2), 0.1, 2)
    return cells.expression * np.maximum(along, cells.overlap * granular)


def nuclei(cells: Cells) -> np.ndarray:
    """Nuclear content, (H, W): 0 outside nuclei, about 1 inside, with chromatin and each nucleus' own strength."""
    cover = np.clip(cells.depth_um / cells.pixel_um + 0.5, 0, 1) * (cells.labels > 0)
    return cover * cells.chromatin * cells.nucleus_strength


def stain_cells(
    cells: Cells, membrane: np.ndarray, rng: np.random.Generator, marker: str, labelling_index: float | None = None
) -> Section:
    """Stain a field with hematoxylin, and with DAB where the marker is.

    Args:
        cells: the field.
        membrane: (H, W), its antigen as :func:`membranes` gives it; a nuclear marker leaves it out.
        rng: draws the strengths of the stains, and which nuclei are positive.
        marker: ``membrane`` or ``nuclear``.
        labelling_index: share of nuclei that carry a nuclear marker, 0 to 1, met to the nearest nucleus; None draws
            it from 0.1 to 0.9.

    Returns:
        The densities, blurred as a section is, and the positive nuclei.
    """
    shape, nuclear = cells.labels.shape, nuclei(cells)
    epithelium, stroma = (
        gaussian_filter(1.0 * (cells.tissue == 2), 1.0),
        gaussian_filter(1.0 * (cells.tissue == 1), 1.0),
    )
    uneven = np.clip(1 + 0.08 * smooth_noise(shape, 40 / cells.pixel_um, rng), 0.7, 1.3)
    blue, brown = rng.uniform(0.22, 0.48), rng.uniform(0.45, 1.0)
    matrix = rng.uniform(0.01, 0.05) * epithelium + rng.uniform(0.02, 0.06) * stroma * (0.4 + 1.2 * cells.fibres)
    hematoxylin = blue * nuclear + matrix
    unspecific = rng.uniform(0.0, 0.04) * (epithelium + stroma * cells.fibres)
    draw = rng.uniform(0.1, 0.9) if labelling_index is None else labelling_index
    order, strengths = rng.permutation(cells.count) + 1, rng.uniform(*POSITIVE, cells.count)
    positive: tuple[int, ...] = ()
    if marker == "membrane":
        dab = brown * membrane
    else:
        positive = tuple(sorted(int(number) for number in order[: round(draw * cells.count)]))
        amount = np.zeros(cells.count + 1)
        amount[list(positive)] = strengths[: len(positive)]
        cover = np.clip(cells.depth_um / cells.pixel_um + 0.5, 0, 1) * (cells.labels > 0)
        carried = amount[cells.labels] * cover * (0.75 + 0.25 * cells.chromatin)
        hematoxylin = hematoxylin * (1 - 0.5 * (amount > 0)[cells.labels])  # little counterstain shows under DAB
        dab = carried + 0.03 * epithelium
    stains = np.stack([hematoxylin * uneven, np.zeros(shape), (dab + unspecific) * uneven])
    blur = rng.uniform(0.3, 0.6) / cells.pixel_um
    return Section(gaussian_filter(stains, (0, blur, blur)).astype(np.float32), positive)


def stain_hematoxylin_eosin(cells: Cells, rng: np.random.Generator) -> np.ndarray:
    """Stain a field with hematoxylin and eosin: nuclei blue, cytoplasm pale pink, fibres of the stroma pink.

    Args:
        cells: the field.
        rng: draws the strengths of the stains.

    Returns:
        (3, H, W), float32, densities as of :class:`Section`, blurred as a section is.
    """
    shape = cells.labels.shape
    epithelium, stroma = (gaussian_filter(1.0 * (cells.tissue == kind), 1.0) for kind in (2, 1))
    uneven = np.clip(1 + 0.06 * smooth_noise(shape, 40 / cells.pixel_um, rng), 0.7, 1.3)
    blue, pink = rng.uniform(0.35, 0.55), rng.uniform(0.16, 0.24)
    grain = np.clip(1 + 0.15 * smooth_noise(shape, max(1.5 / cells.pixel_um, 1.0), rng), 0.5, 1.5)
    border = 0.25 * np.exp(-((np.maximum(cells.wall_um, 0) / 0.6) ** 2))
    hematoxylin = blue * nuclei(cells) + 0.07 * epithelium * grain
    eosin = pink * (epithelium * (0.7 * grain + border) + stroma * (0.35 + 1.3 * cells.fibres))
    stains = np.stack([hematoxylin, eosin * (1 - 0.5 * (cells.labels > 0)), np.zeros(shape)]) * uneven
    blur = rng.uniform(0.3, 0.6) / cells.pixel_um
    return gaussian_filter(stains, (0, blur, blur)).astype(np.float32)


def photograph_section(stains: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A stained field through a brightfield microscope: uneven light, a tint, photon and read-out noise.

    Args:
        stains: (3, H, W), optical densities.
        rng: draws the faults.

    Returns:
        (3, H, W), uint8.
    """
    shape = stains.shape[1:]
    rows, columns = np.meshgrid(*(np.linspace(-1, 1, side) for side in shape), indexing="ij")
    slope = rng.normal(0, 0.015, 2)
    light = 1 - rng.uniform(0, 0.05) * (rows**2 + columns**2) / 2 + slope[0] * rows + slope[1] * columns
    white = rng.uniform(0.93, 0.98) * (1 + rng.normal(0, 0.008, 3))
    ideal = mixed(stains) * white[:, None, None] * light
    electrons = rng.uniform(20, 60)  # per grey level
    seen = rng.poisson(np.maximum(ideal, 0) * electrons) / electrons + rng.normal(0, 0.8, ideal.shape)
    return np.clip(np.rint(seen), 0, 255).astype(np.uint8)


def fluoresce(cells: Cells, membrane: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The light of a field with DAPI in its nuclei and a fluorescent antibody on its membranes.

    Args:
        cells: the field.
        membrane: (H, W), its antigen as :func:`membranes` gives it.
        rng: draws strengths and the microscope's blur.

    Returns:
        (2, H, W), float32: DAPI and membrane without background, bleed-through and noise; 1 is about the brightest.
    """
    dapi = rng.uniform(0.35, 0.6) * nuclei(cells)
    antibody = rng.uniform(0.45, 0.75) * membrane
    blur = rng.uniform(0.3, 0.6) / cells.pixel_um
    return gaussian_filter(np.stack([dapi, antibody]), (0, blur, blur)).astype(np.float32)


def photograph_fluorescence(light: np.ndarray, cells: Cells, rng: np.random.Generator) -> np.ndarray:
    """Fluorescence through a camera: autofluorescent stroma, haze, bleed-through both ways, photon noise.

    Args:
        light: (2, H, W), as :func:`fluoresce` gives it.
        cells: the field.
        rng: draws the faults.

    Returns:
        (2, H, W), uint8.
    """
    stroma = gaussian_filter((cells.tissue == 1) * cells.fibres, 1.0)
    auto = np.stack([rng.uniform(0.0, 0.03) * stroma, rng.uniform(0.02, 0.08) * stroma])
    haze = rng.uniform(0.04, 0.1) * gaussian_filter(light, (0, 6 / cells.pixel_um, 6 / cells.pixel_um))
    dark = rng.uniform(0.01, 0.03, (2, 1, 1))
    there, back = rng.uniform(0.0, 0.02), rng.uniform(0.01, 0.05)
    bleed = np.stack([there * light[1], back * light[0]])
    photons = rng.uniform(150, 400)
    seen = rng.poisson((light + auto + haze + dark + bleed) * photons) / photons
    seen += rng.normal(0, 0.006, seen.shape)
    return np.clip(np.rint(255 * seen), 0, 255).astype(np.uint8)
