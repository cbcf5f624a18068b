"""The figures of docs/stain_results.md: ``python -m scripts.bench.stain_figures reconstruction|translations …``."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np

from bundle.common.command_line import commands
from bundle.common.errors import InputError
from bundle.common.palette import SERIES
from bundle.evaluation.tables import HEADINGS, means
from bundle.images.false_colour import shown
from bundle.images.slides import read_slide
from bundle.report.records import numbers
from bundle.staining.model import load_model

CURVES = ("source_ssim", "source_ms_ssim", "source_psnr", "source_mae")
WIDTH_PX = 160  # of each picture


def reconstruction(study: str, output: str) -> str:
    """Measures of the image given back after each epoch, a line a variant (Liu et al. Fig. 3).

    Args:
        study: folder of scripts.study, run with a fold and one seed.
        output: PNG to write.
    """
    tables = sorted(Path(study).glob("cells/*/validation.csv"))
    if not 0 < len(tables) <= len(SERIES):
        raise InputError(f"study {study} has {len(tables)} cells with validation.csv; 1 to {len(SERIES)} can be shown.")
    figure, every = plt.subplots(1, len(CURVES), figsize=(12, 3.4), layout="constrained")
    for colour, table in zip(SERIES, tables, strict=False):
        with table.open(encoding="utf-8", newline="") as stream:
            rows = [numbers(line) for line in csv.DictReader(stream)]
        for axes, name in zip(every, CURVES, strict=True):
            found = means(rows, name)
            axes.plot(list(found), list(found.values()), color=colour, label=table.parent.name)
            axes.set_xlabel("epoch")
            axes.set_title(HEADINGS[name], fontsize=9)
    figure.legend(*every[0].get_legend_handles_labels(), loc="outside lower center", ncols=2, fontsize=8)
    return saved(figure, output)


def translations(tumour: str, model_bundle: str, edited: str, output: str) -> str:
    """The testing IHC, fluorescence made of it, IHC with each edit, and IHC made of each testing fluorescence image.

    Args:
        tumour: dataset of scripts.bench.tumour.
        model_bundle: of the training.
        edited: what scripts.insilico made of its testing IHC.
        output: PNG to write.
    """
    there, back = (load_model(model_bundle, direction=way) for way in ("forward", "reverse"))
    listed = json.loads((Path(tumour) / "datalist.json").read_text(encoding="utf-8"))["testing"]
    pictures: dict[str, np.ndarray] = {}
    for entry in listed:
        if "source" in entry:
            pixels = read_slide(Path(tumour) / entry["source"]).pixels
            pictures["IHC"] = pixels
            pictures["fluorescence from it"] = np.rint(255 * shown(there(pixels) / 255.0)).astype(np.uint8)
    for entry in json.loads((Path(edited) / "datalist.json").read_text(encoding="utf-8"))["training"]:
        pictures[Path(entry["image"]).stem.split("__")[1]] = read_slide(Path(edited) / entry["image"]).pixels
    for number, entry in enumerate((entry for entry in listed if "target" in entry), 1):
        pictures[f"IHC from image {number}"] = back(read_slide(Path(tumour) / entry["target"]).pixels)
    figure, every = plt.subplots(1, len(pictures), figsize=(1.6 * len(pictures), 3.6), layout="constrained")
    for axes, (title, pixels) in zip(every, pictures.items(), strict=True):
        axes.imshow(pixels[:, : 2 * WIDTH_PX, :WIDTH_PX].transpose(1, 2, 0))
        axes.set_title(title.replace("_", " "), fontsize=8)
        axes.axis("off")
    return saved(figure, output)


def saved(figure: plt.Figure, output: str) -> str:
    """Write a figure, and say where."""
    figure.savefig(output, dpi=110)
    return output


if __name__ == "__main__":
    commands({"reconstruction": reconstruction, "translations": translations})
