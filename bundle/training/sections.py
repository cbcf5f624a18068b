"""What a trained network's instance norms meet in the sections that it learnt from, kept in its trained bundle."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bundle.data.datalist import Datalist
from bundle.images.slides import read_slide
from bundle.networks.sections import MOST, Sections, spread_over
from bundle.networks.specimen_norm import SpecimenNetwork
from bundle.staining.model import model_in_memory


def sections_of(
    data: Datalist, inference: Mapping[str, Any], weights: Mapping[str, Tensor], device: str | torch.device
) -> Sections:
    """The training's source images as the network sees them, at most ``MOST``, evenly from the list.

    Args:
        data: the dataset it was trained on.
        inference: content of the trained bundle's ``inference.json``.
        weights: of its network, which has instance norm.
        device: where to compute.
    """
    model = model_in_memory(inference, weights, device, normalisation="window", window=None)
    network, images = SpecimenNetwork(model.network), data.images("training", "source")
    statistics, sizes = [], []
    for place in spread_over(len(images), MOST):
        pixels = read_slide(images[place].path).pixels.astype(np.float32)
        image = model.preprocessing({"image": torch.from_numpy(pixels)})["image"].as_tensor()
        statistics.append(network.learn(image[None].to(model.device)))
        sizes.append(pixels.shape[1:])
    return Sections(torch.stack(statistics), np.array(sizes))
