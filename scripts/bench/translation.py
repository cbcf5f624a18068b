"""How well IHC ↔ fluorescence is translated where the truth is known: the testing tiles of ``scripts.cells``."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch

from bundle.common.atomic import write_json
from bundle.common.command_line import command
from bundle.images.slides import read_slide
from bundle.images.stain_vectors import densities
from bundle.staining.model import load_model


def score_translation(model_bundle: Path, dataset: Path, output: Path) -> None:
    """Translate each testing tile both ways and back, and hold it against what was planted.

    Correlations are over pixels: of each generated fluorescence channel with the fluorescence of the same cells
    without faults, and of hematoxylin and DAB density in generated IHC with the densities planted. Cycle errors are
    mean absolute differences in grey levels.

    Args:
        model_bundle: of a training from IHC to fluorescence.
        dataset: that ``scripts.cells`` made.
        output: JSON to write.
    """
    device = torch.device("cpu")
    forward, back = (load_model(str(model_bundle), device, direction=way) for way in ("forward", "reverse"))
    truth = json.loads((dataset / "truth.json").read_text(encoding="utf-8"))["testing"]
    listed = json.loads((dataset / "datalist.json").read_text(encoding="utf-8"))["testing"]
    tiles = {}
    for entry in listed:
        ihc, light = (read_slide(dataset / entry[side]).pixels for side in ("source", "target"))
        planted = {what: read_slide(dataset / file).pixels for what, file in truth[entry["source"]].items()}
        made_light, made_ihc = (np.asarray(model(pixels)) for model, pixels in ((forward, ihc), (back, light)))
        stains = densities(made_ihc)
        tiles[entry["source"]] = {
            "DAPI correlation": alike(made_light[0], planted["if"][0]),
            "membrane correlation": alike(made_light[1], planted["if"][1]),
            "hematoxylin correlation": alike(stains[0], planted["stains"][0]),
            "DAB correlation": alike(stains[2], planted["stains"][2]),
            "IHC cycle error": apart(np.asarray(back(made_light)), ihc),
            "fluorescence cycle error": apart(np.asarray(forward(made_ihc)), light),
        }
    names = next(iter(tiles.values()))
    mean = {name: float(np.mean([tile[name] for tile in tiles.values()])) for name in names}
    write_json(output, {"mean": mean, "tiles": tiles})


def alike(one: np.ndarray, other: np.ndarray) -> float:
    """Correlation of two maps over their pixels."""
    return float(np.corrcoef(one.ravel().astype(float), other.ravel().astype(float))[0, 1])


def apart(one: np.ndarray, other: np.ndarray) -> float:
    """Mean absolute difference."""
    return float(np.abs(one.astype(float) - other).mean())


def main(model_bundle: str, dataset: str, output: str) -> str:
    """Write the scores of a trained bundle on a dataset of synthetic cells.

    Args:
        model_bundle: RUN/bundle.
        dataset: that ``scripts.cells`` made.
        output: JSON to write.
    """
    score_translation(Path(model_bundle), Path(dataset), Path(output))
    mean = json.loads(Path(output).read_text(encoding="utf-8"))["mean"]
    return "\n".join(f"{name}: {value:.3f}" for name, value in mean.items())


if __name__ == "__main__":
    command(main)
