"""Folders as ``scripts.register`` leaves them, made of phantoms whose grey values and colours are spoilt."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tifffile

from bundle.images.slides import read_labels, read_mask, read_slide, write_slide
from bundle.preparation.phantom.dataset import make_dataset

MATERIALS = ("Mg", "Ti", "PEEK")
GAIN, OFFSET = 0.37, -5200.0  # of the scan: some grey values are negative
CONTRAST, FOG, CAST = 0.8, 14.0, (0.92, 1.0, 0.84)  # of the photograph


@dataclass(frozen=True)
class Truth:
    """What a pair was before it was spoilt."""

    source: np.ndarray
    target: np.ndarray
    mask: np.ndarray
    labels: np.ndarray


def make_phantoms(folder: Path) -> dict[str, Truth]:
    """One phantom of each material, 160 px of 8 µm, whole sections."""
    truths = {}
    for material in MATERIALS:
        made = make_dataset(
            str(folder / material), 1, seed=1, size=160, voxel_um=8.0, material=material, spoiling={"partial": 0}
        )
        truths[material] = Truth(
            read_slide(made / "ct/01.png").pixels[0],
            read_slide(made / "stain/01.png").pixels,
            read_mask(made / "mask/01.png"),
            read_labels(made / "labels/01.png"),
        )
    return truths


def spoilt_source(source: np.ndarray) -> np.ndarray:
    """The scan's own grey values, float32."""
    return (source * GAIN + OFFSET).astype(np.float32)


def spoilt_target(target: np.ndarray) -> np.ndarray:
    """A photograph with a colour cast and less contrast, uint8."""
    cast = np.asarray(CAST)[:, None, None]
    return np.clip(np.rint((target * CONTRAST + FOG) * cast), 0, 255).astype(np.uint8)


def write_pair(folder: Path, truth: Truth, **stated) -> Path:
    """Write one pair; ``stated`` changes its ``registration.json``."""
    folder.mkdir(parents=True)
    field = np.ones(truth.mask.shape, bool)
    field[:4] = False
    tifffile.imwrite(folder / "source.tif", spoilt_source(truth.source))
    write_slide(folder / "target.png", spoilt_target(truth.target))
    write_slide(folder / "field.png", field[None].astype(np.uint8) * 255)
    usual = {"voxel_um": 8.0, "volume": "scan.nii.gz", "section": "section.tif", "mutual_information": 0.61}
    usual |= {"confidence": 0.93, "accepted": True, "scale": [1.01, 0.99], "shear": 0.004}
    (folder / "registration.json").write_text(json.dumps({**usual, **stated}))
    return folder
