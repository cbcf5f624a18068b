"""Layers in bf16 for inference: PyTorch's own in fp32, but for the rounding of weights and images."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from bundle.networks import ResnetGenerator, UnetGenerator
from bundle.networks.engines import cpu_has_bf16
from bundle.networks.fast.half_inference import (
    DoublingConv2d,
    Half,
    HalfConv2d,
    HalfNarrowConv2d,
    HalfWinograd2d,
)
from bundle.networks.fast.half_norm import HalfNorm
from bundle.networks.specimen_norm import SpecimenNorm

pytestmark = pytest.mark.skipif(not cpu_has_bf16(), reason="this CPU does not compute in bf16")
ROUNDED = 2**-8  # of a value, in bf16


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


def image(channels: int, height: int = 13, width: int = 18, batch: int = 2) -> Tensor:
    """Values that bf16 holds, channels last."""
    x = torch.randn(batch, channels, height, width, generator=torch.Generator().manual_seed(0))
    return x.bfloat16().float().contiguous(memory_format=torch.channels_last)


def rounded(layer: nn.Conv2d) -> nn.Conv2d:
    """With weights that bf16 holds."""
    layer.weight.data = layer.weight.data.bfloat16().float()
    return layer


def near(found: Tensor, expected: Tensor, times: float = 1.0) -> None:
    assert found.shape == expected.shape
    assert float((found.float() - expected).abs().max()) <= times * ROUNDED * float(expected.abs().max())


@pytest.mark.parametrize("relu", [False, True])
@pytest.mark.parametrize("layer", [nn.Conv2d(6, 9, 3, stride=2, padding=1), nn.Conv2d(6, 4, 7, bias=False)])
def test_a_convolution_and_the_relu_after_it(layer, relu):
    x, rest = image(6), torch.relu if relu else (lambda y: y)
    with torch.no_grad():
        near(HalfConv2d(rounded(layer), relu)(x.bfloat16()), rest(layer(x)))


def test_an_offset_is_not_rounded():
    layer = rounded(nn.Conv2d(4, 4, 1))
    layer.bias.data[:] = torch.tensor([1000.25, -1000.25, 0.3, 7.0])
    layer.weight.data[:] = 0
    layer.weight.data[:, 0] = torch.tensor([-1000.0, 1000.0, 0.0, 0.0]).view(4, 1, 1)
    found = HalfConv2d(layer)(torch.ones(1, 4, 2, 2).bfloat16())
    assert found[0, :2, 0, 0].tolist() == [0.25, -0.25]  # of an offset in bf16 nothing, or 4, would be left


@pytest.mark.parametrize("relu", [False, True])
def test_four_small_convolutions_are_one_of_the_enlarged_image(relu):
    layer, x = nn.Conv2d(8, 5, 3, padding=1), image(8)
    expected = layer(nn.functional.interpolate(x, scale_factor=2.0)).detach()
    near(DoublingConv2d(layer, relu)(x.bfloat16()), expected.relu() if relu else expected, 2)


def test_few_channels_are_computed_by_columns_and_stay_fp32():
    layer, x = rounded(nn.Conv2d(6, 3, (5, 7))), image(6)
    found = HalfNarrowConv2d(layer)(x.bfloat16())
    assert found.dtype == torch.float32
    near(found, layer(x).detach(), 3)


@pytest.mark.parametrize("padding", ["none", "zeros", "reflect"])
@pytest.mark.parametrize("size", [(13, 18), (5, 1030), (3, 3)])
def test_winograd_in_blocks(padding, size):
    layer, x = nn.Conv2d(16, 12, 3), image(16, *size)
    padded = {"none": nn.Identity(), "zeros": nn.ZeroPad2d(1), "reflect": nn.ReflectionPad2d(1)}[padding](x)
    near(HalfWinograd2d(layer, padding)(x.bfloat16()), layer(padded).detach(), 12)


@pytest.mark.parametrize("channels", [1, 3, 16, 200])
@pytest.mark.parametrize("in_place", [False, True])
def test_a_norm_of_several_pixels_a_row(channels, in_place):
    x = image(channels) * 3 + 50
    x = x.bfloat16()
    expected, given = nn.functional.instance_norm(x.double()).relu().float(), x.clone()
    near(HalfNorm(1e-5, True, in_place)(given), expected)
    assert torch.equal(given, x) == (not in_place)


def test_a_flat_channel_is_exactly_nothing():
    assert not HalfNorm(1e-5, False, False)(torch.full((1, 4, 8, 8), 0.3).bfloat16()).any()


@pytest.mark.parametrize(
    "ids", [{}, {"upsampling": "transposed"}, {"halvings": 3, "skips": True}, {"slope": 0.2}, {"width": 16}]
)
@pytest.mark.parametrize("winograd", [False, True])
def test_a_generator_with_any_of_its_options(ids, winograd, monkeypatch):
    monkeypatch.setattr("bundle.networks.fast.half_inference.WINOGRAD_CHANNELS", 8)
    network = ResnetGenerator(**{"width": 8, "blocks": 2, **ids}).eval()
    x = image(3, 44, 37, 1).clamp(-1, 1)
    with torch.no_grad():
        assert float((Half(network, winograd)(x) - network(x)).square().mean().sqrt()) < 0.03


def test_a_u_net_too():
    network, x = UnetGenerator(width=4, patch_size=32).eval(), image(3, 32, 32, 1).clamp(-1, 1)
    with torch.no_grad():
        assert float((Half(network, True)(x) - network(x)).square().mean().sqrt()) < 0.03


def test_a_norm_learns_what_it_meets_as_in_fp32():
    norm, known, images = HalfNorm(1e-5, True, False), SpecimenNorm(5), image(5) * 3 + 40
    images = images.bfloat16()
    norm.begin()
    norm(images)
    known.begin()
    for each in images.split(1):
        known(each.float())
    torch.testing.assert_close(norm.learnt(), known.learnt(), atol=1e-5, rtol=1e-5)
    assert norm.met is None
