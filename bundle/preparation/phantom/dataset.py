"""A dataset of phantom pairs in the data contract, with the volumes and the truth it was cut from."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from tqdm import tqdm

from bundle.common.atomic import check_writable, whole_folder
from bundle.common.command_line import as_bool
from bundle.common.errors import InputError
from bundle.data.folds import FOLDS
from bundle.images.slides import write_slide
from bundle.preparation.phantom.block import MATERIALS, TISSUE_NAMES, Tissue, check_block, make_block
from bundle.preparation.phantom.sectioning import Section, cut, draw_plane
from bundle.preparation.phantom.spoiling import spoiling_of
from bundle.preparation.phantom.staining import STAIN_NAMES, check_stain, stain_block
from bundle.preparation.phantom.tomography import BACKGROUND_INTENSITY, BONE_INTENSITY, draw_scan, scan_block

SHARES = {"Mg": 7, "Ti": 1, "PEEK": 2}  # §2.4
TEST_SHARE = 6  # a test pair for every so many pairs; Mg, Mg, PEEK in turn as in §2.4
TEST_GROUPS = ("Mg", "PEEK", "Mg")
RGB24 = np.dtype([("R", "u1"), ("G", "u1"), ("B", "u1")])

# The tissues that evaluation tells apart, and the labels that count as each
CLASSES = {
    "background": [Tissue.BACKGROUND, Tissue.HOLDER],
    "soft tissue": [Tissue.SOFT, Tissue.MARROW, Tissue.FAT, Tissue.CELL, Tissue.VESSEL],
    "bone": [Tissue.BONE, Tissue.YOUNG_BONE],
    "new bone": [Tissue.NEW_BONE],
    "lacuna": [Tissue.LACUNA],
    "degradation layer": [Tissue.LAYER, Tissue.CRACK],
    "screw": list(MATERIALS.values()),
}
DESCRIPTION = (
    "Phantom pairs: computed, not measured. Each specimen is a random bone-implant block; its tomogram and its stained "
    "section come from one volume of tissue labels."
)


@dataclass(frozen=True)
class Part:
    """The place of one specimen in a dataset."""

    number: int
    material: str
    split: str
    fold: int | None


def plan(pairs: int, materials: Mapping[str, int] = SHARES) -> list[Part]:
    """Share pairs out over materials (7 Mg : 1 Ti : 2 PEEK), test set and folds (§2.4).

    One pair a specimen. Shares are rounded to the largest remainders; every sixth pair is for testing; folds
    number the rest so that each has every material within one pair of its share.

    Args:
        pairs: how many, at least 1.
        materials: share of each material.

    Returns:
        One part a pair, training first.
    """
    exact = {name: pairs * share / sum(materials.values()) for name, share in materials.items()}
    counts = {name: int(value) for name, value in exact.items()}
    for name in sorted(exact, key=lambda name: counts[name] - exact[name])[: pairs - sum(counts.values())]:
        counts[name] += 1
    testing = []
    for turn in range(pairs // TEST_SHARE if pairs >= TEST_SHARE else pairs > 1):
        wanted = TEST_GROUPS[turn % len(TEST_GROUPS)]
        spare = [name for name in counts if counts[name] > 1] or [name for name in counts if counts[name]][-1:]
        group = wanted if wanted in spare else max(spare, key=lambda name: counts[name])
        counts[group] -= 1
        testing.append(group)
    training = [name for name in counts for _ in range(counts[name])]
    folds = min(FOLDS, len(training))
    parts = [Part(number + 1, name, "training", number % folds) for number, name in enumerate(training)]
    return parts + [Part(len(parts) + number + 1, name, "testing", None) for number, name in enumerate(testing)]


def make_dataset(
    output: str,
    pairs: int,
    seed: int = 0,
    stain: str = "toluidine",
    size: int = 256,
    voxel_um: float = 5.0,
    screw_mm: float = 0.52,
    material: str | None = None,
    spoiling: dict[str, float] | None = None,
    volumes: bool = True,
) -> Path:
    """Make phantom pairs, each of a specimen of its own, and write them whole or not at all.

    Args:
        output: the dataset folder; made, or empty.
        pairs: how many, one of each specimen.
        seed: the same seed gives the same files, another one other specimens.
        stain: ``toluidine`` or ``he``.
        size: side of a block, voxels.
        voxel_um: side of a voxel, µm.
        screw_mm: diameter of the screw, mm.
        material: of all screws, ``Mg``, ``Ti`` or ``PEEK``; None mixes 7 Mg : 1 Ti : 2 PEEK.
        spoiling: strengths to change by name, ``{cracks: 0, shear: 0.03}``; docs/phantom.md lists the names.
        volumes: also write each specimen's tomogram, labels and stain as NIfTI (some 45 MB a specimen of 256³).

    Returns:
        The folder.

    Raises:
        InputError: with one line for each argument that makes no sense, or if ``output`` is not empty.
    """
    faults = check_stain(stain) + check_block(material or "Mg", size, voxel_um, screw_mm)
    for name, value, least in (("pairs", pairs, 1), ("seed", seed, 0)):
        if not isinstance(value, int) or isinstance(value, bool) or value < least:
            faults.append(f"{name} is {value!r}; give a whole number of at least {least}.")
    folder = Path(str(output))
    if folder.is_file():
        faults.append(f"output {folder} is a file; name a new folder.")
    elif folder.exists() and any(folder.iterdir()):
        faults.append(f"output {folder} is not empty; name a new folder, or empty this one first.")
    if faults:
        raise InputError("\n".join(faults))
    usual = spoiling_of(stain, spoiling)
    keep_volumes = as_bool("volumes", volumes)
    check_writable(folder.parent)
    parts = plan(pairs, {material: 1} if material else SHARES)
    entries: dict[str, list[dict[str, Any]]] = {"training": [], "testing": []}
    with whole_folder(folder) as partial:
        for part in tqdm(parts, desc="specimens", unit="specimen", dynamic_ncols=True):
            rng = np.random.default_rng([seed, part.number])
            block = make_block(rng, part.material, size, voxel_um, screw_mm)
            scan = draw_scan(rng)
            tomogram = scan_block(block, scan, rng)
            stained = stain_block(block, stain, rng)
            plane = draw_plane(block, rng)
            section = cut(block, tomogram, stained, plane, usual, rng)
            entry = _write_section(partial, part, section, voxel_um)
            entries[part.split].append(entry)
            specimen = partial / "specimens" / f"{part.number:02d}"
            truth = {
                "seed": seed,
                "material": part.material,
                "stain": stain,
                "voxel_um": voxel_um,
                "screw_mm": screw_mm,
                "scan": asdict(scan),
                "plane": {
                    "axes": "voxels (z, y, x)",
                    "centre": plane.centre.tolist(),
                    "down": plane.down.tolist(),
                    "right": plane.right.tolist(),
                    "rows_columns": plane.shape,
                    "pair_corner": section.corner,
                },
                "section_from_pair": {
                    "what": "row and column in the section before it was registered = matrix · (row, column, 1) of the "
                    "whole plane, px; soft tissue has moved besides",
                    "matrix": section.transform.tolist(),
                },
                "spoiling": section.faults,
                "labels": TISSUE_NAMES,
            }
            specimen.mkdir(parents=True)
            (specimen / "truth.json").write_text(json.dumps(truth, indent=4) + "\n", encoding="utf-8")
            if keep_volumes:
                for name, volume in (("ct", tomogram), ("labels", block.labels), ("stain", stained)):
                    write_volume(specimen / f"{name}.nii.gz", volume, voxel_um)
        listed = {
            "description": f"{DESCRIPTION} Seed {seed}.",
            "pixel_um": voxel_um,
            "source": {
                "name": "SR-µCT (phantom)",
                "channels": 1,
                "range": [0, 65535],
                "bone_intensity": BONE_INTENSITY,
                "background_intensity": BACKGROUND_INTENSITY,
            },
            "target": {"name": f"{STAIN_NAMES[stain]} (phantom)", "channels": 3, "range": [0, 255]},
            "tissues": {name: [int(value) for value in values] for name, values in CLASSES.items()},
            **entries,
        }
        text = json.dumps(listed, indent=4, ensure_ascii=False) + "\n"
        (partial / "datalist.json").write_text(text, encoding="utf-8")
    return folder


def _write_section(folder: Path, part: Part, section: Section, voxel_um: float) -> dict[str, Any]:
    name = f"{part.number:02d}.png"
    images = {
        "source": ("ct", section.source[None]),
        "target": ("stain", section.target),
        "mask": ("mask", section.mask[None].astype(np.uint8) * 255),
        "labels": ("labels", section.labels[None]),
        "perfect": ("perfect", section.perfect),
    }
    for where, pixels in images.values():
        write_slide(folder / where / name, pixels, voxel_um)
    entry: dict[str, Any] = {key: f"{where}/{name}" for key, (where, _) in images.items()}
    entry |= {"specimen": f"phantom {part.number:02d}", "group": part.material}
    return entry if part.fold is None else {**entry, "fold": part.fold}


def write_volume(path: Path, volume: np.ndarray, voxel_um: float) -> None:
    """Write (Z, Y, X) or (Z, Y, X, 3) as NIfTI; ITK and 3D Slicer see identity directions and an origin of 0."""
    image = volume.view(RGB24)[..., 0] if volume.ndim == 4 else volume
    step = voxel_um / 1000
    nifti = nibabel.Nifti1Image(np.transpose(image), np.diag([-step, -step, step, 1]))
    nifti.header.set_xyzt_units("mm")
    nibabel.openers.Opener.default_compresslevel = 1
    nibabel.save(nifti, path)
