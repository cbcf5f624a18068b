"""Stand-ins for a trained pair of generators, and tiles of which everything is known."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from scipy import ndimage

from bundle.data.datalist import Modality
from bundle.images.stain_vectors import densities, mixed
from bundle.networks import ResnetGenerator
from bundle.staining.trust import Trust
from tests.conftest import ROOT

FULL = np.array([1.2, 1.5])  # optical densities of hematoxylin and DAB at which a channel is full
BRIGHTFIELD = Modality("IHC", 3, 0.0, 255.0)
FLUORESCENCE = Modality("IF", 2, 0.0, 255.0, channel_names=("DAPI", "membrane"))


@dataclass
class Analytic:
    """Translations by Beer and Lambert's law: each stain is a channel, so what an edit must do is known."""

    direction: str
    source: Modality = BRIGHTFIELD
    target: Modality = FLUORESCENCE
    trust: Trust = field(default_factory=Trust)

    def prepared(self, pixels: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(pixels.astype(np.float32)) / 127.5 - 1

    def __call__(self, pixels: np.ndarray) -> np.ndarray:
        if self.direction == "forward":
            stains = densities(pixels.astype(np.uint8))[[0, 2]] / FULL[:, None, None]
            return np.clip(np.rint(255 * stains), 0, 255).astype(np.uint8)
        amounts = pixels / 255 * FULL[: len(pixels), None, None]
        return mixed(np.stack([amounts[0], np.zeros_like(amounts[0]), amounts[-1] * (len(amounts) > 1)]))


def cells(seed: int, side: int = 96, nuclei: int = 12) -> tuple[np.ndarray, np.ndarray]:
    """Round nuclei of hematoxylin within membranes of DAB: image (3, H, W), uint8, and labels (1, H, W), uint16."""
    rng = np.random.default_rng(seed)
    labels = np.zeros((side, side), np.uint16)
    rows, columns = np.mgrid[:side, :side]
    for number in range(1, nuclei + 1):
        row, column = rng.uniform(8, side - 8, 2)
        inside = np.hypot(rows - row, columns - column) < rng.uniform(4, 6)
        labels[inside & (labels == 0)] = number
    distance = ndimage.distance_transform_edt(labels == 0)
    membrane = (distance > 3) & (distance < 5)
    texture = rng.uniform(0.9, 1.1, labels.shape)
    stains = np.stack([(0.08 + 0.7 * (labels > 0)) * texture, np.zeros(labels.shape), membrane * texture])
    return mixed(stains), labels[None]


def untrained_bundle(folder: Path) -> Path:
    """A bundle as a run leaves it, of the smallest generators with random weights: RGB to two channels and back."""
    config = json.loads((ROOT / "configs" / "inference.json").read_text(encoding="utf-8"))
    network = {"_target_": "bundle.networks.ResnetGenerator", "width": 4, "blocks": 1, "upsampling": "nearest"}
    ways = {"in_channels": "$3 if @forward else 2", "out_channels": "$2 if @forward else 3"}
    levels = {"bone_intensity": None, "background_intensity": None}
    source = {"name": "IHC", "channels": 3, "range": [0, 255], **levels}
    target = {"name": "IF", "channels": 2, "range": [0, 255], "channel_names": ["DAPI", "membrane"], **levels}
    config |= {"source": source, "target": target, **levels}
    (folder / "configs").mkdir(parents=True)
    (folder / "models").mkdir()
    (folder / "configs" / "inference.json").write_text(json.dumps(config | {"network_def": {**network, **ways}}))
    torch.manual_seed(0)
    sizes = {"width": 4, "blocks": 1, "upsampling": "nearest"}
    for name, channels in (("models/model.pt", (3, 2)), ("reverse.pt", (2, 3))):
        torch.save(ResnetGenerator(*channels, **sizes).state_dict(), folder / name)
    return folder
