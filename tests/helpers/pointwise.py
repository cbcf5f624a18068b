"""Networks of one 1×1 convolution, which NumPy computes too, a batch for them, and the terms of train.json."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from bundle.training import losses
from bundle.training.translation import Networks
from tests.conftest import ROOT

CONFIG = json.loads((ROOT / "configs/train.json").read_text())
TERMS = {
    name: getattr(losses, term["_target_"].rpartition(".")[2])() for name, term in CONFIG["objective"]["terms"].items()
}
DEFAULTS = {name: CONFIG[f"lambda_{name}"] for name in TERMS}


def as_function(conv):
    weight, bias = conv.weight.detach().numpy()[:, :, 0, 0], conv.bias.detach().numpy()
    return lambda image: np.einsum("oc,bchw->bohw", weight, image) + bias[:, None, None]


@pytest.fixture
def networks():
    torch.manual_seed(0)
    return Networks(*(nn.Conv2d(3, channels, 1, dtype=torch.float64) for channels in (3, 3, 1, 1)))


@pytest.fixture
def batch():
    rng = np.random.default_rng(0)
    x, y = rng.uniform(-1, 1, (2, 2, 3, 16, 20))
    return SimpleNamespace(
        x=torch.from_numpy(x), y=torch.from_numpy(y), mask=torch.from_numpy(rng.random((2, 16, 20)) < 0.3)
    )


def as_batch(batch):
    return {"source": batch.x, "target": batch.y, "mask": batch.mask[:, None].double()}
