"""A bundle with an error map and a likeness, without the training that makes them."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import torch

from bundle.networks.error_head import ErrorHead
from bundle.networks.error_map import Calibration, ErrorMap
from bundle.networks.likeness import learn
from bundle.staining.model import load_model
from tests.helpers.volumes import make_voxels

CALIBRATION = Calibration(2.0, 0.9, 3, 1000, 0.8, 0.9, 12.0)


def make_believed(bundle: Path, folder: Path, usual: float | None = None) -> Path:
    """A copy of a bundle whose training's sources look like :func:`make_voxels`; its head has weights drawn at random.

    Args:
        bundle: a trained one.
        folder: of the copy.
        usual: how far sources are said to lie from each other; None as they do.
    """
    shutil.copytree(bundle, folder)
    model = load_model(folder)
    torch.manual_seed(0)
    head = ErrorHead(model.network.features)
    torch.nn.init.normal_(head.last.weight, 0, 2.0)
    ErrorMap(head, CALIBRATION).save(folder / "models" / "error_map.pt")
    slices = [make_voxels(seed=seed)[16][None].astype(np.float32) for seed in range(5)]
    likeness = learn([model.prepared(each)[:1] for each in slices], range(5))
    likeness.usual = likeness.usual if usual is None else usual
    likeness.save(folder / "models" / "likeness.npz")
    return folder
