"""Where the SSIM of a study's test slides comes from: the screw, and everything else inside the mask."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from skimage.metrics import structural_similarity

from bundle.common.command_line import command
from bundle.data.load import load_datalist
from bundle.images.slides import read_labels, read_mask, read_slide
from bundle.studies.results import COLOUR_TABLE, baseline


def main(study: str, tissue: str = "screw") -> None:
    """Print a line for each variant and colour table: means over a slide's pixels, medians over slides and cells.

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
        done = json.loads((folder / "done.json").read_text(encoding="utf-8"))
        shown = {done["variant"]: "generated", baseline(COLOUR_TABLE, done["datalist"]): "colour_table"}
        slides = sorted((folder / "evaluation" / "slides").glob("testing_*"))
        for slide, label in zip(slides, labels, strict=True):
            real, mask = read_slide(slide / "real.png").pixels, read_mask(slide / "mask.png")
            there = np.isin(label, data.tissues[tissue]) & mask
            for image, panel in shown.items():
                made = read_slide(slide / f"{panel}.png").pixels
                similar = structural_similarity(real, made, channel_axis=0, data_range=255, full=True)[1].mean(0)
                means = [float(similar[there].mean()), float(similar[mask & ~there].mean())]
                rows.setdefault(image, []).append([*means, *(float(x[:, there].mean()) for x in (real, made))])
    print(f"| image | SSIM in the {tissue} | SSIM elsewhere | level of the {tissue}: real | generated |")
    print("|---|---|---|---|---|")
    for image, values in sorted(rows.items(), key=lambda row: row[0].startswith(COLOUR_TABLE)):
        inside, rest, real, made = np.median(np.array(values), axis=0)
        print(f"| {image} | {inside:.2f} | {rest:.2f} | {real:.0f} | {made:.0f} |")


if __name__ == "__main__":
    command(main)
