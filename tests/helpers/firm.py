"""A bundle as a training with ``normalisation`` ``specimen`` publishes it, without the training."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import torch

from bundle.networks.sections import Sections
from bundle.networks.specimen_norm import SpecimenNetwork
from bundle.networks.specimen_volume import SpecimenVolume
from bundle.staining.model import load_model
from bundle.training.publish import OF_VOLUMES
from tests.helpers.volumes import make_voxels, write_scan

PLACE = 16  # of the one slice that has contrast, in the scans of :func:`write_faint`


def make_firm(bundle: Path, folder: Path) -> Path:
    """A copy of a bundle that one section decides in; its sections look like slice ``PLACE`` of a scan."""
    shutil.copytree(bundle, folder)
    change(folder / "configs" / "inference.json", {"normalisation": "specimen", "window": 1024, "step": None})
    change(folder / "configs" / "series.json", OF_VOLUMES)
    network = load_model(folder).network
    specimen = SpecimenNetwork(network)
    shown = [prepared(make_voxels(seed=seed)[PLACE]) for seed in range(5)]
    known = Sections(torch.stack([specimen.learn(each) for each in shown]), np.array([[48, 40]] * 5))
    known.save(folder / "models" / "sections.npz")
    torch.jit.script(SpecimenVolume(network, known).eval()).save(str(folder / "models" / "model.ts"))
    return folder


def change(config: Path, ids: dict[str, object]) -> None:
    """Give ids of a config other values."""
    config.write_text(json.dumps(json.loads(config.read_text()) | ids))


def prepared(pixels: np.ndarray) -> torch.Tensor:
    """As the tests' bundles see a slice (H, W)."""
    return (torch.from_numpy(pixels.astype(np.float32)) / 65535 * 2 - 1)[None, None].expand(1, 3, -1, -1)


def write_faint(path: Path, depth: int = 70) -> Path:
    """A scan in which slice ``PLACE`` alone has the contrast of the sections."""
    voxels = make_voxels()[:depth]
    faint = (20000 + (voxels.astype(float) - 20000) * 0.2).astype(np.uint16)
    faint[PLACE] = voxels[PLACE]
    return write_scan(path, faint)
