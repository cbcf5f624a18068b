"""Pairs cut across all three axes of phantoms, to train a network that has seen a sample from every side.

python -m scripts.bench.three_axes --phantoms DATA --output PAIRS
"""

from __future__ import annotations

import json
from pathlib import Path

import fire
import numpy as np
from scipy.ndimage import gaussian_filter
from skimage.morphology import convex_hull_image

from bundle.evaluation.volumes import read_colour
from bundle.images.slides import write_slide
from bundle.images.volumes.volume import open_volume
from bundle.preparation.phantom.block import Tissue


def main(phantoms: str, output: str, seed: int = 0, sigma: float = 1.0) -> None:
    """Write a dataset with a slice across z, y and x of each training specimen, at a random depth.

    Args:
        phantoms: what ``scripts.phantom`` made, with its volumes.
        output: the folder of the dataset.
        seed: of the depths.
        sigma: of the 3D Gaussian that the scan goes through, as ``configs/volume.json`` does it, voxels.
    """
    source, folder, rng = Path(phantoms), Path(output), np.random.default_rng(seed)
    listed = json.loads((source / "datalist.json").read_text(encoding="utf-8"))
    entries = []
    for entry in listed["training"]:
        name = Path(entry["source"]).stem
        specimen = source / "specimens" / name
        scan, labels = (open_volume(specimen / f"{kind}.nii.gz") for kind in ("ct", "labels"))
        grey = gaussian_filter(scan.read(0, scan.shape[0]).astype(np.float32), sigma, mode="nearest")
        inside = labels.read(0, labels.shape[0]) > Tissue.HOLDER
        stain = read_colour(specimen / "stain.nii.gz")
        for axis, letter in enumerate("zyx"):
            place = int(rng.uniform(0.2, 0.8) * scan.shape[axis])
            mask = convex_hull_image(np.take(inside, place, axis))
            files = {key: f"{key}/{name}_{letter}.png" for key in ("source", "target", "mask")}
            pictures = {
                "source": np.rint(np.take(grey, place, axis)).astype(np.uint16)[None],
                "target": np.take(stain, place, axis).transpose(2, 0, 1),
                "mask": mask[None].astype(np.uint8) * 255,
            }
            for key, pixels in pictures.items():
                write_slide(folder / files[key], pixels, listed["pixel_um"])
            entries.append({**files, "specimen": entry["specimen"], "group": entry["group"]})
    kept = {key: listed[key] for key in ("pixel_um", "source", "target")}
    text = json.dumps({**kept, "training": entries, "testing": []}, indent=4, ensure_ascii=False)
    (folder / "datalist.json").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    fire.Fire(main)
