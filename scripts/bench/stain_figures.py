"""The figures of docs/stain_results.md: ``python -m scripts.bench.stain_figures reconstruction|translations …``."""

from __future__ import annotations

import csv
import json
from collections import defaultdict
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np

from bundle.commands import commands
from bundle.errors import InputError
from bundle.false_colour import shown
from bundle.image_io import read_slide
from bundle.inference import load_model
from bundle.report.plots import COLOURS
from bundle.tables import HEADINGS

CURVES = ("source_ssim", "source_ms_ssim", "source_psnr", "source_mae")
WIDTH_PX = 160  # of each picture


def reconstruction(study: str, output: str) -> str:
    """Measures of the image given back after each epoch, a line a variant (Liu et al. Fig. 3).

    Args:
        study: folder of scripts.study, run with a fold and one seed.
        output: PNG to write.
    """
    figure, every = plt.subplots(1, len(CURVES), figsize=(12, 3.2), layout="constrained")
    for colour, table in zip(COLOURS, sorted(Path(study).glob("cells/*/validation.csv")), strict=False):
        found: dict[int, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
        with table.open(encoding="utf-8", newline="") as stream:
            for row in csv.DictReader(stream):
                for name in CURVES:
                    if row[name]:
                        found[int(row["epoch"])][name].append(float(row[name]))
        for axes, name in zip(every, CURVES, strict=True):
            label = table.parent.name.split("-fold")[0]
            axes.plot(list(found), [np.mean(values[name]) for values in found.values()], color=colour, label=label)
            axes.set_xlabel("epoch")
            axes.set_title(HEADINGS[name], fontsize=9)
    if not every[0].lines:
        raise InputError(f"study {study} has no cells/*/validation.csv; run it with a fold.")
    figure.legend(*every[0].get_legend_handles_labels(), loc="outside lower center", ncols=len(COLOURS), fontsize=8)
    return saved(figure, output)


def translations(tumour: str, model_bundle: str, edited: str, output: str, left: int = 60) -> str:
    """The testing IHC, fluorescence made of it, IHC with each edit, and IHC made of each testing fluorescence image.

    Args:
        tumour: dataset of scripts.bench.tumour.
        model_bundle: of the training.
        edited: what scripts.insilico made of its testing IHC.
        output: PNG to write.
        left: first column shown of the fluorescence images' IHC, px.
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
        made = back(read_slide(Path(tumour) / entry["target"]).pixels)
        pictures[f"IHC from image {number}"] = made[..., left:]
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
