"""The pairs of a laboratory of phantoms as a perfect registration would give them, for ``scripts.prepare``.

``python -m scripts.laboratory --output RAW --specimens 12``, then ``python -m scripts.bench.true_pairs --output PAIRS
--specimens 12``: the same specimens, resampled by their truth (plane, stretch, warp) and not by what was found.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from tqdm import tqdm

from bundle.common.atomic import write_json
from bundle.common.command_line import command
from bundle.images.slides import write_slide
from bundle.preparation.phantom.block import RIGID
from bundle.preparation.phantom.dataset import plan
from bundle.preparation.phantom.laboratory import FINER, Specimen, make_specimen
from bundle.preparation.phantom.slides import RawSlide
from bundle.preparation.registration.levels import halve
from bundle.preparation.registration.pair import common_grid, make_pair
from bundle.preparation.registration.pose import Pose


def main(output: str, specimens: int, seed: int = 0, size: int = 256, voxel_um: float = 5.0) -> None:
    """Write a pair for each specimen.

    Args:
        output: a folder.
        specimens: how many.
        seed: of the laboratory.
        size: side of a block, voxels.
        voxel_um: side of a voxel.
    """
    for part in tqdm(plan(specimens), desc="specimens"):
        folder = Path(output) / f"{part.number:02d}"
        if not (folder / "registration.json").exists():
            specimen = make_specimen(part.number, part.material, seed, "toluidine", size, voxel_um, 0.52 * size / 256)
            write_true_pair(folder, specimen, voxel_um)


def write_true_pair(folder: Path, specimen: Specimen, voxel_um: float) -> None:
    """Write one pair as ``scripts.register`` would, from the truth."""
    pose, warp = truth_at_voxels(specimen.slide)
    shape = warp.shape[1], warp.shape[2]
    grid = common_grid(specimen.scan.shape, shape, pose, warp)
    pair = make_pair(specimen.scan, grid, specimen.slide.pixels, shape, warp)
    write_slide(folder / "source.tif", pair.source, voxel_um)
    write_slide(folder / "target.png", pair.target, voxel_um)
    write_slide(folder / "field.png", pair.field[None].astype(np.uint8) * 255, voxel_um)
    facts = {"voxel_um": voxel_um, "accepted": True, "shear": pose.shear, "scale": list(pose.scale)}
    write_json(folder / "registration.json", {**facts, "volume": "truth", "section": "truth"})


def truth_at_voxels(slide: RawSlide) -> tuple[Pose, np.ndarray]:
    """The affine transform that fits bone best, and the local shifts that it leaves, at voxel size."""
    places = halve(slide.places) if FINER == 2 else slide.places
    labels = slide.labels[::FINER, ::FINER][: places.shape[1], : places.shape[2]]
    steps = [np.arange(size) - (size - 1) / 2 for size in labels.shape]
    centred = np.stack(np.meshgrid(*steps, indexing="ij"))
    true = places - ((np.array(slide.plane.shape) - 1) / 2)[:, None, None]
    where = np.isin(labels, RIGID)
    known = np.column_stack([centred[:, where].T, np.ones(where.sum())])
    affine = np.linalg.lstsq(known, true[:, where].T, rcond=None)[0].T
    basis = np.column_stack([slide.plane.down, slide.plane.right])
    pose = Pose.of_matrix(basis @ affine[:, :2], slide.plane.centre + basis @ affine[:, 2])
    expected = np.linalg.solve(affine[:, :2], (true - affine[:, 2, None, None]).reshape(2, -1)).reshape(true.shape)
    return pose, expected - centred


if __name__ == "__main__":
    command(main)
