"""Where the SSIM of a study's test slides comes from: the screw, and everything else inside the mask."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from skimage.metrics import structural_similarity

from bundle.commands import command
from bundle.data import load_datalist
from bundle.image_io import read_labels, read_mask, read_slide


def main(study: str, tissue: str = "screw") -> None:
    """Print a line for each variant: means over the pixels of a slide, medians over slides and cells.

    Args:
        study: a folder of scripts.study, on a dataset with labels.
        tissue: the tissue to tell from the rest.
    """
    plan = json.loads((Path(study) / "study.json").read_text(encoding="utf-8"))
    data = load_datalist(plan["dataset_dir"])
    labels = [read_labels(pair.labels) for pair in data.testing if pair.labels]
    rows: dict[str, list[list[float]]] = {}
    for name in plan["cells"]:
        folder = Path(study) / "cells" / name
        if not (folder / "done.json").is_file():
            continue
        variant = json.loads((folder / "done.json").read_text(encoding="utf-8"))["variant"]
        slides = sorted((folder / "evaluation" / "slides").glob("testing_*"))
        for slide, label in zip(slides, labels, strict=True):
            real, generated = (read_slide(slide / f"{panel}.png").pixels for panel in ("real", "generated"))
            similar = structural_similarity(real, generated, channel_axis=0, data_range=255, full=True)[1].mean(0)
            mask = read_mask(slide / "mask.png")
            there = np.isin(label, data.tissues[tissue]) & mask
            rest = mask & ~there
            levels = [float(image[:, there].mean()) for image in (real, generated)]
            rows.setdefault(variant, []).append([float(similar[there].mean()), float(similar[rest].mean()), *levels])
    print(f"| image | SSIM in the {tissue} | SSIM elsewhere | level of the {tissue}: real | generated |")
    print("|---|---|---|---|---|")
    for variant, values in rows.items():
        inside, rest, real, made = np.median(np.array(values), axis=0)
        print(f"| {variant} | {inside:.2f} | {rest:.2f} | {real:.0f} | {made:.0f} |")


if __name__ == "__main__":
    command(main)
