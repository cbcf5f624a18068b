"""Which signs of error find the errors of a stain, and which add to others; phantoms, whose truth is known.

Every sign is learnt from the validation fold of a run as its error map is, and judged on slices of whole volumes: with
which AUROC it finds the worst tenth of the windows of 32 px in all slices of a volume together.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from bundle.common.command_line import command
from bundle.data.load import load_datalist
from bundle.data.patches import load_pair
from bundle.evaluation.error_map import WINDOW, auroc_of_worst, windows_of
from bundle.evaluation.slide_scores import in_8bit
from bundle.networks.cells import CELL, features_of, means_of
from bundle.networks.error_head import LEVELS_PER_UNIT
from bundle.networks.likeness import Likeness, nearest
from bundle.networks.sections import Sections, regions, spread_over
from bundle.networks.specimen_norm import SpecimenNetwork, statistics_of
from bundle.staining.model import TrainedModel, load_model
from bundle.training.error_map import Features, Judged, fitted
from scripts.bench.reference import Phantom

FLIPS = ((2,), (3,), (2, 3))
SIGNS = {
    "grey value": ["grey"],
    "grey value, inverted": ["dark"],
    "spread of the source in 4 px": ["spread 4"],
    "spread of the source in 16 px": ["spread 16"],
    "disagreement of four reflections": ["reflections"],
    "disagreement of neighbouring slices": ["neighbours"],
    "disagreement of two trainings": ["seeds"],
    "distance from the training's cells": ["distance"],
}
LEARNT = {
    "source in squares of 4 to 128 px": ["source"],
    "source and stain in squares": ["source", "stain"],
    "the network's features": ["features"],
    "features, distance": ["features", "distance"],
    "features, reflections": ["features", "reflections"],
    "features, neighbours": ["features", "neighbours"],
    "features, two trainings": ["features", "seeds"],
    "features, source, stain": ["features", "source", "stain"],
}


class Section(NamedTuple):
    """What is known of a slice: signs by name, each (N, h, w) of cells; its error and mask, (H, W)."""

    signs: dict[str, np.ndarray]
    error: np.ndarray
    mask: np.ndarray


class Network:
    """A trained generator with the statistics of one section, and all that can be asked of it."""

    def __init__(self, bundle: Path, other: Network | None = None) -> None:
        self.other = other
        self.model: TrainedModel = load_model(bundle, window=None, normalisation="window", error_map=None)
        network = self.model.network
        self.features = int(network.features)  # type: ignore[arg-type]
        network.error = Features(0, self.features)  # type: ignore[assignment]
        self.own = SpecimenNetwork(network)
        self.sections = Sections.load(bundle / "models" / "sections.npz", statistics_of(network))
        self.likeness = Likeness.load(bundle / "models" / "likeness.npz")

    def settle(self, slices: Iterator[np.ndarray]) -> None:
        """Take the statistics of what is most like a section."""
        found: list[tuple[float, Tensor]] = []
        given = list(slices)
        if self.other is not None:
            self.other.settle(iter(given))
        for pixels in given:
            for top, left, height, width in regions(pixels.shape[0], pixels.shape[1], self.sections.size):
                region = pixels[None, top : top + height, left : left + width]
                statistics = self.own.learn(self.model.prepared(region)[None])
                found.append((self.sections.distance(statistics), statistics))
        self.own.settle(min(found, key=lambda each: each[0])[1])

    @torch.inference_mode()
    def stained(self, pixels: np.ndarray) -> Tensor:
        """Stain and features of a slice (H, W): (1, 3 + F, H, W)."""
        return self.own(self.model.prepared(pixels[None])[None])

    def signs(self, pixels: np.ndarray, beside: list[np.ndarray]) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """The stain (3, H, W), 0 to 255, and every sign in cells."""
        source, made = self.model.prepared(pixels[None]), self.stained(pixels)
        stain, squares = made[:, :3], features_of(source[:1])
        flipped = [torch.flip(self._of(torch.flip(source[None], dims)), dims) for dims in FLIPS]
        reflections = torch.stack([stain, *flipped]).std(0).mean(1)
        neighbours = torch.stack([(self.stained(each)[:, :3] - stain).abs().mean(1) for each in beside or [pixels]])
        another = stain if self.other is None else self.other.stained(pixels)[:, :3]
        rows = squares.flatten(1).T.double().numpy()
        away = nearest((rows - self.likeness.centre) / self.likeness.scale, self.likeness.bank)
        found = {
            "grey": squares[:1],
            "dark": -squares[:1],
            "spread 4": squares[1:2],
            "spread 16": squares[5:6],
            "reflections": means_of(reflections),
            "neighbours": means_of(neighbours.mean(0)),
            "seeds": means_of((another - stain).abs().mean(1)),
            "distance": torch.from_numpy(away.astype(np.float32)).view(1, *squares.shape[1:]),
            "source": squares,
            "stain": features_of(stain[0], levels=3),
            "features": means_of(made[0, 3:]) * LEVELS_PER_UNIT,
        }
        shown = ((stain[0] + 1) * 127.5).clamp(0, 255).round().numpy()
        return shown, {name: value.float().numpy() for name, value in found.items()}

    @torch.inference_mode()
    def _of(self, image: Tensor) -> Tensor:
        return self.own(image)[:, :3]


def of_fold(network: Network, run: Path, dataset_dir: str) -> list[Section]:
    """The pairs that a run held back."""
    ids = json.loads((run / "config.json").read_text(encoding="utf-8"))
    data, found = load_datalist(dataset_dir, ids["datalist"], ids["fold"]), []
    for pair in data.validation:
        images = load_pair(pair)
        _, target, mask = in_8bit(data, images)
        network.settle(iter([images["source"][0]]))
        stain, signs = network.signs(images["source"][0], [])
        found.append(Section(signs, np.abs(stain - target).mean(0), mask))
    return found


def of_volume(network: Network, phantom: Phantom) -> list[Section]:
    """Some slices of a phantom."""
    scan, found = phantom.scan, []
    network.settle(scan[place] for place in spread_over(len(scan)))
    for place in phantom.places:
        beside = [scan[other] for other in (place - 1, place + 1) if 0 <= other < len(scan)]
        stain, signs = network.signs(scan[place], beside)
        truth = phantom.truth[place].transpose(2, 0, 1).astype(np.float32)
        found.append(Section(signs, np.abs(stain - truth).mean(0), phantom.inside[place]))
    return found


def learnt(names: list[str], sections: list[Section]) -> Callable[[Section], np.ndarray]:
    """What the signs of these names expect, as an error map is learnt."""
    stacked = lambda each: np.concatenate([each.signs[name] for name in names]).transpose(1, 2, 0)
    judged = [Judged(str(n), stacked(each), each.error, each.mask) for n, each in enumerate(sections)]
    head: nn.Module = fitted(judged)
    return lambda each: Judged("", stacked(each), each.error, each.mask).predicted(head)  # type: ignore[arg-type]


def as_it_is(name: str) -> Callable[[Section], np.ndarray]:
    """A sign by itself."""
    return lambda each: np.kron(each.signs[name][0], np.ones((CELL, CELL)))[
        : each.error.shape[0], : each.error.shape[1]
    ]


def score(expected: Callable[[Section], np.ndarray], volume: list[Section]) -> float:
    """AUROC over the windows of all slices."""
    windows = [[windows_of(image, each.mask, WINDOW) for image in (expected(each), each.error)] for each in volume]
    one, other = (np.concatenate(parts) for parts in zip(*windows, strict=True))
    return auroc_of_worst(one, other)


def main(
    run: str, dataset_dir: str, phantoms_dir: str, *specimens: str, every: int = 12, other: str | None = None
) -> None:
    """Print a table as Markdown.

    Args:
        run: folder of a run that has held pairs back.
        dataset_dir: its dataset.
        phantoms_dir: of other phantoms, with their volumes.
        specimens: names of those to stain.
        every: distance of the slices that are judged, voxels.
        other: bundle of the same method trained with another seed; None leaves its disagreement at 0.
    """
    torch.set_num_threads(1)
    network = Network(Path(run) / "bundle", None if other is None else Network(Path(other)))
    fold = of_fold(network, Path(run), dataset_dir)
    folders = [Path(phantoms_dir) / "specimens" / f"{int(name):02d}" for name in specimens]
    volumes = [of_volume(network, Phantom.read(folder, every)) for folder in folders]
    print("| sign | " + " | ".join(map(str, specimens)) + " | mean |")
    print("|---|" + "---|" * (len(specimens) + 1))
    ways = {name: as_it_is(names[0]) for name, names in SIGNS.items()}
    for name, expected in {**ways, **{name: learnt(names, fold) for name, names in LEARNT.items()}}.items():
        found = [score(expected, volume) for volume in volumes]
        print(f"| {name} | " + " | ".join(f"{each:.2f}" for each in [*found, float(np.mean(found))]) + " |", flush=True)


if __name__ == "__main__":
    command(main)
