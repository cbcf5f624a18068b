"""A generator's expected error: one more channel, whatever computes it."""

from __future__ import annotations

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch

from bundle.common.errors import InputError
from bundle.networks import FieldGenerator, ResnetGenerator, UnetGenerator
from bundle.networks.accelerate import accelerate
from bundle.networks.checkpoints import save_tensors
from bundle.networks.engines import engine, engines
from bundle.networks.error_head import LEAST, LEVELS_PER_UNIT, ErrorHead
from bundle.networks.error_map import ErrorMap, has_error, load_generator
from tests.helpers.believed import CALIBRATION

CPU = torch.device("cpu")
NETWORKS = {
    "ResNet": lambda: ResnetGenerator(width=4, blocks=1),
    "with skips": lambda: ResnetGenerator(width=4, blocks=1, halvings=3, skips=True, slope=0.2),
    "field": lambda: FieldGenerator(width=4, levels=2),
    "U-Net": lambda: UnetGenerator(width=4, patch_size=32),
}


@pytest.fixture(params=NETWORKS)
def network(request):
    torch.manual_seed(0)
    return NETWORKS[request.param]().eval()


@pytest.fixture
def image() -> torch.Tensor:
    return torch.rand(2, 3, 70, 66, generator=torch.Generator().manual_seed(1)) * 2 - 1


def with_head(network: torch.nn.Module) -> torch.nn.Module:
    own = copy.deepcopy(network)
    torch.manual_seed(1)
    own.error = ErrorHead(own.features).eval().requires_grad_(False)
    torch.nn.init.normal_(own.error.last.weight, 0, 5.0)
    return own


@torch.no_grad()
def test_the_stain_is_the_same_with_it_to_the_bit(network, image):
    both = with_head(network)(image)
    assert both.shape == (2, 4, 70, 66)
    assert torch.equal(both[:, :3], network(image))
    assert float(both[:, 3].std()) > 0
    assert float(both[:, 3].min()) >= LEAST / LEVELS_PER_UNIT
    assert has_error(with_head(network))
    assert not has_error(network)


@torch.no_grad()
def test_every_arithmetic_makes_it(network, image):
    own = with_head(network)
    exact = own(image)[:, 3]
    for name in engines(own, CPU):
        found = engine(name, own, CPU)(image)
        assert found.shape == (2, 4, 70, 66)
        assert float((found[:, 3] - exact).abs().max()) < 0.05 * float(exact.max()), name
    assert accelerate(own, "fast")(image).shape == (2, 4, 70, 66)


def test_a_head_looks_at_each_place_alone():
    head = ErrorHead(5).eval()
    features = torch.randn(1, 5, 3, 4)
    found = head(features)[0, 0]
    assert found.shape == (3, 4)
    row = (features[0, :, 1, 2] - head.centre) / head.scale
    silu = lambda x: x * torch.sigmoid(x)
    hidden = silu(head.second(silu(head.first(row))))
    by_hand = 10 * torch.log1p(torch.exp(head.last(hidden))) + 0.5
    assert float(found[1, 2]) * 127.5 == pytest.approx(float(by_hand))
    far = torch.full((1, 5), 1e6)
    assert float(head.levels(far)) == float(head.levels(torch.full((1, 5), 4.0)))  # nothing was learnt beyond


def files(tmp_path, network):
    save_tensors(network.state_dict(), tmp_path / "model.pt")
    ErrorMap(with_head(network).error, CALIBRATION).save(tmp_path / "error_map.pt")
    return str(tmp_path / "model.pt"), str(tmp_path / "error_map.pt")


def test_it_is_loaded_beside_the_weights(tmp_path, network, image):
    model, error_map = files(tmp_path, network)
    again = load_generator(copy.deepcopy(network), model, error_map=error_map)
    with torch.no_grad():
        assert torch.equal(again(image), with_head(network)(image))
    assert ErrorMap.load(error_map).calibration == CALIBRATION
    assert not has_error(load_generator(copy.deepcopy(network), model, error_map=None))
    assert not has_error(load_generator(copy.deepcopy(network), model, error_map=str(tmp_path / "none.pt")))


def test_one_of_another_network_is_told(tmp_path):
    _, error_map = files(tmp_path, ResnetGenerator(width=4, blocks=1))
    other = ResnetGenerator(width=8, blocks=1)
    save_tensors(other.state_dict(), tmp_path / "other.pt")
    with pytest.raises(InputError, match=r"is made of 16 features, but the network of .*other.pt gives 32; copy both"):
        load_generator(other, str(tmp_path / "other.pt"), error_map=error_map)


@pytest.mark.parametrize("content", [{}, {"head": {"centre": torch.zeros(3)}}, [1], {"head": 3, "calibration": {}}])
def test_what_is_no_error_map_is_told(tmp_path, content):
    save_tensors(content, tmp_path / "error_map.pt")
    with pytest.raises(InputError, match=r"error_map.pt is no error map .*; copy it from the run again"):
        ErrorMap.load(tmp_path / "error_map.pt")


@pytest.mark.parametrize("change", [{"bound": float("nan")}, {"level": 90.0}, {"mean": float("inf")}])
def test_a_calibration_that_none_has_is_told(tmp_path, change):
    ErrorMap(ErrorHead(4), replace(CALIBRATION, **change)).save(tmp_path / "error_map.pt")
    with pytest.raises(InputError, match=r"error_map.pt is no error map \(a bound of .*; copy it from the run again"):
        ErrorMap.load(tmp_path / "error_map.pt")


def test_weights_that_are_not_finite_are_told(tmp_path):
    head = ErrorHead(4)
    head.first.bias.data[0] = float("nan")
    ErrorMap(head, CALIBRATION).save(tmp_path / "error_map.pt")
    with pytest.raises(InputError, match="NaN or infinite"):
        ErrorMap.load(tmp_path / "error_map.pt")


@torch.no_grad()
def test_it_is_written_for_torchscript(image):
    own = with_head(ResnetGenerator(width=4, blocks=1))
    assert np.allclose(torch.jit.script(own)(image), own(image), atol=1e-6)
