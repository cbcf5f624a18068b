"""Weights that cannot stain are refused where they are loaded, with the file and the layer."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from bundle.common.errors import InputError
from bundle.common.run_folder import LATEST
from bundle.networks import ResnetGenerator
from bundle.networks.checkpoints import load_network, load_weights, save_tensors
from bundle.nuclei.deployment import _weights
from bundle.training.publish import load_generators
from bundle.training.weight_average import PREFIX

LAYER = "layers.4.weight"


def spoiled(value: float) -> dict[str, torch.Tensor]:
    """Weights of a small generator, one of which is not a number any more."""
    weights = ResnetGenerator(width=4, blocks=1).state_dict()
    weights[LAYER][0, 0, 0, 0] = value
    return weights


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_network_with_nan_is_not_loaded(tmp_path, value):
    save_tensors(spoiled(value), tmp_path / "model.pt")
    network = ResnetGenerator(width=4, blocks=1)
    before = network.state_dict()[LAYER].clone()
    with pytest.raises(InputError) as raised:
        load_network(network, str(tmp_path / "model.pt"))
    assert str(raised.value) == (
        f"{tmp_path / 'model.pt'}: 1 of 288 weights of {LAYER} are NaN or infinite; use another checkpoint, or train "
        "again."
    )
    assert torch.equal(network.state_dict()[LAYER], before)


def test_whole_weights_and_counts_are_loaded():
    network = torch.nn.BatchNorm2d(3)
    load_weights(network, network.state_dict(), Path("model.pt"))


@pytest.mark.parametrize("part", ["g_xy", "g_yx", f"{PREFIX}g_xy"])
def test_a_checkpoint_with_nan_is_not_published(tmp_path, part):
    whole = ResnetGenerator(width=4, blocks=1).state_dict()
    parts = {"g_xy": whole, "g_yx": whole, part: spoiled(float("nan"))}
    if part.startswith(PREFIX):
        parts[part] = {f"module.{name}": value for name, value in parts[part].items()}
    save_tensors({"parts": parts}, tmp_path / LATEST)
    layer = f"{part.removeprefix(PREFIX)}.{LAYER}"
    with pytest.raises(InputError, match=rf"latest\.pt: 1 of 288 weights of {layer} are NaN or infinite"):
        load_generators(tmp_path, "latest")


def test_nuclei_too(tmp_path):
    save_tensors({"network": spoiled(float("nan"))}, tmp_path / LATEST.parent / "best_object.pt")
    with pytest.raises(InputError, match=rf"best_object\.pt: 1 of 288 weights of {LAYER} are NaN or infinite"):
        _weights(tmp_path, "best_object")
