"""Phantoms as a laboratory has them before anything is registered: raw scans in one folder, slides in another."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from scipy.spatial.transform import Rotation
from tqdm import tqdm

from bundle.common.atomic import check_writable, whole_folder
from bundle.common.errors import InputError
from bundle.images.slides import write_slide
from bundle.preparation.phantom.block import check_block, make_block
from bundle.preparation.phantom.dataset import plan, write_volume
from bundle.preparation.phantom.sectioning import Plane
from bundle.preparation.phantom.slides import RawSlide, draw_cut, draw_distortion, photograph_slide
from bundle.preparation.phantom.spoiling import spoiling_of
from bundle.preparation.phantom.staining import check_stain, stain_block
from bundle.preparation.phantom.tomography import BACKGROUND_INTENSITY, BONE_INTENSITY, draw_scan, scan_block

FINER = 2  # pixels of a slide a voxel side
OFF_DEG, OFF_UM = 10, 200  # of a noted plane, about what a registration is told it may be off by


@dataclass(frozen=True)
class Specimen:
    """A scan and a slide that belong together.

    Attributes:
        scan: (Z, Y, X), uint16, grey values of its own.
        slide: the photograph and where it was cut.
        levels: what bone and background are in the scan.
        cast: how the slide's colours were changed.
    """

    scan: np.ndarray
    slide: RawSlide
    levels: dict[str, float]
    cast: dict[str, list[float]]


def make_laboratory(
    output: str,
    specimens: int,
    seed: int = 0,
    stain: str = "toluidine",
    size: int = 256,
    voxel_um: float = 5.0,
    screw_mm: float = 0.52,
    lying: bool = True,
) -> Path:
    """Make scans and slides that belong together but are not registered, and write them whole or not at all.

    Args:
        output: a folder; made, or empty. It gets ``scans/NN.nii.gz``, ``slides/NN.png``, ``truth/NN.json`` and
            ``pairs.csv`` and ``study.csv``, the tables that ``scripts.register`` (with a rough guess of each plane, as
            a laboratory notes where it cut) and ``scripts.prepare`` read.
        specimens: how many, one scan and one slide each.
        seed: the same seed gives the same files.
        stain: ``toluidine`` or ``he``.
        size: side of a block, voxels.
        voxel_um: side of a voxel, µm.
        screw_mm: diameter of the screw, mm.
        lying: sections lie on their slides in any way, either side up; false keeps screws upright.

    Returns:
        The folder.

    Raises:
        InputError: with one line for each argument that makes no sense, or if ``output`` is not empty.
    """
    faults = check_stain(stain) + check_block("Mg", size, voxel_um, screw_mm)
    for name, value, least in (("specimens", specimens, 1), ("seed", seed, 0)):
        if not isinstance(value, int) or isinstance(value, bool) or value < least:
            faults.append(f"{name} is {value!r}; give a whole number of at least {least}.")
    folder = Path(str(output))
    if folder.exists() and (folder.is_file() or any(folder.iterdir())):
        faults.append(f"output {folder} is there and not empty; name a new folder.")
    if faults:
        raise InputError("\n".join(faults))
    check_writable(folder.parent)
    pairs, table = ["pair,volume,section,guess"], ["pair,specimen,group,split,fold"]
    with whole_folder(folder) as partial:
        for part in tqdm(plan(specimens), desc="specimens", unit="specimen", dynamic_ncols=True):
            name = f"{part.number:02d}"
            specimen = make_specimen(part.number, part.material, seed, stain, size, voxel_um, screw_mm, lying)
            (partial / "scans").mkdir(exist_ok=True)
            write_volume(partial / "scans" / f"{name}.nii.gz", specimen.scan, voxel_um)
            write_slide(partial / "slides" / f"{name}.png", specimen.slide.pixels, specimen.slide.pixel_um)
            (partial / "truth").mkdir(exist_ok=True)
            truth = {
                "material": part.material,
                "scan": specimen.levels,
                "slide": specimen.cast,
                **_truth(specimen.slide),
            }
            (partial / "truth" / f"{name}.json").write_text(json.dumps(truth, indent=4) + "\n", encoding="utf-8")
            corners = noted(specimen.slide.plane, voxel_um, np.random.default_rng([seed, part.number, 2]))
            pairs.append(f'{name},scans/{name}.nii.gz,slides/{name}.png,"{corners}"')
            fold = "" if part.fold is None else part.fold
            table.append(f"{name},phantom {name},{part.material},{part.split},{fold}")
        for file, lines in (("pairs.csv", pairs), ("study.csv", table)):
            (partial / file).write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder


def make_specimen(
    number: int, material: str, seed: int, stain: str, size: int, voxel_um: float, screw_mm: float, lying: bool = True
) -> Specimen:
    """Make one specimen, its scan and its slide; arguments as of :func:`make_laboratory`."""
    rng = np.random.default_rng([seed, number, 1])
    block = make_block(rng, material, size, voxel_um, screw_mm)
    scan = scan_block(block, draw_scan(rng), rng)
    stained = stain_block(block, stain, rng)
    plane, distortion = draw_cut(block, rng, lying), draw_distortion(rng)
    slide = photograph_slide(block, stained, plane, distortion, spoiling_of(stain), rng, voxel_um / FINER)
    greys, levels = own_greys(scan, rng)
    pixels, cast = own_colours(slide.pixels, rng)
    return Specimen(greys, replace(slide, pixels=pixels), levels, cast)


def noted(plane: Plane, voxel_um: float, rng: np.random.Generator) -> list[list[int]]:
    """Where a laboratory believes a section to lie: three of its corners, voxels, off by 10° and 200 µm in some way."""
    axis, aside = rng.normal(size=(2, 3))
    turn = Rotation.from_rotvec(np.radians(OFF_DEG) * axis / np.linalg.norm(axis))
    believed = Plane(
        plane.centre + OFF_UM / voxel_um * aside / np.linalg.norm(aside),
        turn.apply(plane.down),
        turn.apply(plane.right),
        plane.shape,
    )
    rows, columns = plane.shape[0] - 1, plane.shape[1] - 1
    corners = believed.points(np.array([0, 0, rows]), np.array([0, columns, 0]))
    return np.rint(corners.T).astype(int).tolist()


def own_greys(scan: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, dict[str, float]]:
    """A scan (Z, Y, X) at bone 30000 and background 10000 → with grey values of its own, and what those two became."""
    gain, offset = rng.uniform(0.4, 1.1), rng.uniform(1000, 9000)
    greys = np.clip(np.rint(scan * np.float32(gain) + np.float32(offset)), 0, 65535).astype(np.uint16)
    levels = {"bone": BONE_INTENSITY, "background": BACKGROUND_INTENSITY}
    return greys, {name: level * gain + offset for name, level in levels.items()}


def own_colours(pixels: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, dict[str, list[float]]]:
    """A slide (3, H, W) → with a microscope's own: low + (high − low) · cast · pixel / 255, and the three."""
    low, high = rng.uniform(0, 20), rng.uniform(225, 255)
    cast = rng.uniform(0.9, 1.0, 3)
    changed = low + (high - low) * pixels / 255 * cast[:, None, None]
    return np.clip(np.rint(changed), 0, 255).astype(np.uint8), {"low_high": [low, high], "cast": cast.tolist()}


def _truth(slide: RawSlide) -> dict[str, Any]:
    plane = slide.plane
    return {
        "what": "axes are (z, y, x) in voxels; the slide's middle lies at centre; local warps come on top",
        "centre": plane.centre.tolist(),
        "down": plane.down.tolist(),
        "right": plane.right.tolist(),
        "rows_columns": plane.shape,
        "pixel_um": slide.pixel_um,
        "distortion": asdict(slide.distortion),
    }
