"""Whose statistics a volume should be stained with: each slice's in turn, its distance and what comes of it.

Phantoms of ``python -m scripts.phantom``, whose truth is known. For every so many slices it prints the distance of a
slice from the training's sections, and the PSNR of the volume stained with that slice's statistics; before them, that
of each slice stained with its own.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from bundle.common.command_line import command
from bundle.evaluation.volumes import read_colour
from bundle.images.volumes.volume import open_volume
from bundle.networks.sections import Sections
from bundle.networks.specimen_norm import SpecimenNetwork, statistics_of
from bundle.staining.model import TrainedModel, load_model

NO_TISSUE = 1  # the last label of a phantom that is none


class Phantom(NamedTuple):
    """A scan and its truth.

    Attributes:
        scan: (Z, Y, X).
        truth: (Z, Y, X, 3), uint8.
        inside: (Z, Y, X), bool, where its tissue is.
        places: slices that are judged.
    """

    scan: np.ndarray
    truth: np.ndarray
    inside: np.ndarray
    places: range

    @classmethod
    def read(cls, folder: Path, judged: int) -> Phantom:
        """From its folder; every so many slices are judged."""
        volumes = [open_volume(folder / f"{name}.nii.gz") for name in ("ct", "labels")]
        scan, labels = (volume.read(0, volume.shape[0]) for volume in volumes)
        truth = read_colour(folder / "stain.nii.gz")
        return cls(scan, truth, labels > NO_TISSUE, range(judged // 2, len(scan), judged))

    def score(self, model: TrainedModel, translate: nn.Module) -> float:
        """PSNR of the slices as a network stains them, inside the tissue, dB."""
        errors, values = 0.0, 0
        for place in self.places:
            where = self.inside[place]
            apart = _stained(model, translate, self.scan[place])[where].astype(float) - self.truth[place][where]
            errors, values = errors + float((apart**2).sum()), values + apart.size
        return 10 * math.log10(255**2 * values / errors)


def main(bundle: str, dataset_dir: str, *specimens: str, every: int = 24, judged: int = 16) -> None:
    """Print a table of each specimen as Markdown.

    Args:
        bundle: trained, of a network with instance norm.
        dataset_dir: of the phantoms, with their volumes.
        specimens: names of those to stain.
        every: distance of the slices that are tried, voxels.
        judged: distance of the slices that are stained and compared with the truth, likewise.
    """
    torch.set_num_threads(1)
    model = load_model(bundle, normalisation="window", window=None)
    network = SpecimenNetwork(model.network)
    sections = Sections.load(f"{bundle}/models/sections.npz", statistics_of(model.network))
    print("| specimen | statistics of slice | distance | PSNR of the volume, dB |")
    print("|---|---|---|---|")
    for name in specimens:
        phantom = Phantom.read(Path(dataset_dir) / "specimens" / f"{int(name):02d}", judged)
        print(f"| {name} | each its own | | {phantom.score(model, model.network):.1f} |")
        for place in range(every // 2, len(phantom.scan), every):
            statistics = network.learn(_prepared(model, phantom.scan[place]))
            network.settle(statistics)
            far, found = sections.distance(statistics), phantom.score(model, network)
            print(f"| {name} | {place} | {far:.2f} | {found:.1f} |", flush=True)
    print(f"\nsections usually lie {sections.usual:.2f} from the nearest other")


def _prepared(model: TrainedModel, pixels: np.ndarray) -> Tensor:
    image = torch.from_numpy(pixels.astype(np.float32))[None]
    return model.preprocessing({"image": image})["image"].as_tensor()[None]


@torch.inference_mode()
def _stained(model: TrainedModel, translate: nn.Module, pixels: np.ndarray) -> np.ndarray:
    made = model.postprocessing({"pred": translate(_prepared(model, pixels))[0]})["pred"]
    return np.asarray(made).transpose(1, 2, 0)


if __name__ == "__main__":
    command(main)
