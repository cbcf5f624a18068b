"""The perfect stain of a block: what histology would show if nothing were cut, torn or photographed."""

from __future__ import annotations

import numpy as np

from bundle.common.errors import InputError
from bundle.preparation.phantom.block import BONES, MATERIALS, Block, Tissue
from bundle.preparation.phantom.fields import smooth_noise

GLASS = (241, 240, 238)
LIGHT = np.asarray(GLASS, np.float32)

# Colours in transmitted light. Toluidine blue and pyronin Y: bone in purples, darker when young, new woven bone
# bright blue, soft tissue bluish, screw black (§2.1, Fig. 1). Osteocytes and nuclei take most of the dye.
TOLUIDINE = {
    Tissue.SOFT: (150, 172, 206),
    Tissue.MARROW: (176, 190, 214),
    Tissue.FAT: (232, 233, 236),
    Tissue.CELL: (58, 66, 138),
    Tissue.BONE: (190, 156, 202),
    Tissue.YOUNG_BONE: (150, 108, 176),
    Tissue.NEW_BONE: (84, 132, 220),
    Tissue.LACUNA: (46, 30, 96),
    Tissue.VESSEL: (214, 216, 230),
    Tissue.LAYER: (112, 104, 110),
    Tissue.CRACK: (170, 166, 168),
    **dict.fromkeys(MATERIALS.values(), (10, 10, 12)),
}
# Hematoxylin and eosin: bone deep pink, soft tissue purple; the laser-cut section holds no screw (§2.1).
HE = {
    Tissue.SOFT: (178, 128, 184),
    Tissue.MARROW: (190, 150, 200),
    Tissue.FAT: (236, 233, 237),
    Tissue.CELL: (70, 42, 122),
    Tissue.BONE: (212, 104, 138),
    Tissue.YOUNG_BONE: (198, 84, 128),
    Tissue.NEW_BONE: (222, 132, 172),
    Tissue.LACUNA: (74, 30, 96),
    Tissue.VESSEL: (232, 214, 224),
    Tissue.LAYER: (164, 142, 146),
    Tissue.CRACK: (206, 196, 198),
}
STAINS = {"toluidine": TOLUIDINE, "he": HE}
STAIN_NAMES = {"toluidine": "toluidine blue", "he": "H&E"}
OTHER_SOFT = {"toluidine": (186, 164, 142), "he": (206, 150, 176)}  # what soft tissue can look like instead (§3: brown)


def check_stain(stain: str) -> list[str]:
    """What is wrong with a stain's name; empty if nothing is."""
    return (
        []
        if isinstance(stain, str) and stain in STAINS
        else [f"stain is {stain!r}; the stains are {', '.join(STAINS)}."]
    )


def optical_density(rgb: np.ndarray) -> np.ndarray:
    """−log10 of the transmitted light over the glass's, (…, 3) float32; 0 for glass, additive along the light."""
    return -np.log10(np.maximum(np.asarray(rgb, np.float32), 1) / LIGHT)


def light(density: np.ndarray, glass: np.ndarray = LIGHT) -> np.ndarray:
    """The inverse: optical density (…, 3), or one channel of it with that channel's ``glass`` → uint8."""
    return np.clip(np.rint(glass * 10 ** -np.maximum(density, 0)), 0, 255).astype(np.uint8)


def stain_block(block: Block, stain: str, rng: np.random.Generator) -> np.ndarray:
    """Stain a whole block, every voxel as if it were alone on the glass.

    Args:
        block: the specimen.
        stain: ``toluidine`` or ``he``.
        rng: tones within a tissue.

    Returns:
        (Z, Y, X, 3), uint8, 0–255.

    Raises:
        InputError: if the stain is unknown.
    """
    faults = check_stain(stain)
    if faults:
        raise InputError("\n".join(faults))
    labels, voxel = block.labels, block.voxel_um
    table, other = np.zeros((256, 3), np.float32), np.zeros((256, 3), np.float32)
    for tissue, colour in STAINS[stain].items():
        table[tissue] = other[tissue] = optical_density(np.asarray(colour))
    for tissue in (Tissue.SOFT, Tissue.MARROW):  # bluish here, brown there, independently of what µCT sees
        other[tissue] = optical_density(np.asarray(OTHER_SOFT[stain])) * (1.0 if tissue == Tissue.SOFT else 0.7)
    toning = np.zeros(256, np.float32)
    toning[list(BONES)] = 0.10
    toning[[Tissue.SOFT, Tissue.MARROW]] = 0.28
    toning[Tissue.LAYER] = 0.15
    brown = 1 / (1 + np.exp(-3 * smooth_noise(labels.shape, 260 / voxel, rng) + 1))
    tone = 0.6 * smooth_noise(labels.shape, 60 / voxel, rng) + 0.6 * smooth_noise(labels.shape, 9 / voxel, rng)
    tone = 1 + toning[labels] * tone
    stained = np.empty((*labels.shape, 3), np.uint8)
    for channel in range(3):
        density = table[:, channel][labels]
        density += brown * (other[:, channel] - table[:, channel])[labels]
        stained[..., channel] = light(density * tone, LIGHT[channel])
    return stained
