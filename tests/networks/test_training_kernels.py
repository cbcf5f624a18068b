"""Layers made for training on the CPU: values and gradients against PyTorch's own in float64."""

import pytest
import torch
from torch.nn import functional as F  # noqa: N812

from bundle.networks.fast.instance_norm import NormFunction
from bundle.networks.fast.training_layers import TapsFunction
from bundle.networks.fast.winograd_gradients import TransformedWeight, WinogradFunction

ROUNDING = {torch.float32: 3e-6, torch.bfloat16: 0.02}  # largest relative error allowed, measured 9e-7 and 0.015


def error(found, expected):
    """Of a tensor as a whole, relative."""
    return float((found.double() - expected).norm() / expected.norm())


def images(*shape, dtype=torch.float32):
    return torch.randn(shape, dtype=torch.float32).to(dtype).to(memory_format=torch.channels_last)


def direct(x, weight, bias, padding, scale):
    x = F.interpolate(x, scale_factor=float(scale), mode="nearest")
    x = F.pad(x, (1, 1, 1, 1), mode="reflect") if padding == "reflect" else x
    return F.conv2d(x, weight, bias, padding=1 if padding == "zeros" else 0)


@pytest.mark.parametrize("dtype", ROUNDING, ids=str)
@pytest.mark.parametrize(
    ("padding", "scale", "height", "width"), [("reflect", 1, 16, 19), ("zeros", 2, 10, 7), ("none", 1, 13, 16)]
)
def test_winograd_and_its_gradients_are_the_convolutions(dtype, padding, scale, height, width):
    torch.manual_seed(0)
    x, weight, bias = images(2, 32, height, width, dtype=dtype), torch.randn(64, 32, 3, 3) * 0.05, torch.randn(64)
    exact = [tensor.double().requires_grad_() for tensor in (x, weight, bias)]
    expected = direct(*exact, padding, scale)
    upper = torch.randn_like(expected).to(dtype)
    inputs = [tensor.detach().clone().requires_grad_() for tensor in (x, weight, bias)]
    found = WinogradFunction.apply(inputs[0], TransformedWeight.apply(inputs[1], dtype), inputs[2], padding, scale)
    pairs = [(found, expected)]
    pairs += zip(
        torch.autograd.grad(found, inputs, upper), torch.autograd.grad(expected, exact, upper.double()), strict=True
    )
    assert [error(*pair) < ROUNDING[dtype] for pair in pairs] == [True] * 4
    assert found.dtype == dtype


def test_in_bf16_the_points_chosen_halve_the_error_of_the_usual_ones():
    torch.manual_seed(0)
    x, weight = torch.relu(images(1, 256, 16, 16)), torch.randn(256, 256, 3, 3) * 0.02
    expected = direct(x.double(), weight.double(), None, "zeros", 1)
    half = x.bfloat16()
    ours = WinogradFunction.apply(half, TransformedWeight.apply(weight, half.dtype), torch.zeros(256), "zeros", 1)
    plain = F.conv2d(half, weight.bfloat16(), padding=1)
    assert error(plain, expected) < 0.004
    assert error(ours, expected) < 0.0155  # 0.026 with 0, ±1, ±2


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("slope", [0.0, 0.2, 1.0])
def test_norm_and_its_gradient_are_pytorchs(dtype, slope):
    torch.manual_seed(0)
    x = images(2, 48, 13, 11, dtype=dtype) * 3 + 5
    exact, given = x.double().requires_grad_(), x.clone().requires_grad_()
    expected = F.leaky_relu(F.instance_norm(exact), slope)
    upper = torch.randn_like(expected).to(dtype)
    found = NormFunction.apply(given, 1e-5, slope)
    limit = 1e-6 if dtype == torch.float32 else 0.004
    assert error(found, expected) < limit
    (gradient,), (right,) = (
        torch.autograd.grad(found, given, upper),
        torch.autograd.grad(expected, exact, upper.double()),
    )
    assert error(gradient, right) < limit


def nearly_flat(kind):
    """(1, 32, 12, 12): what instance norm sees of white glass, at the first layer and further on."""
    x = torch.linspace(-2, 2, 32).view(1, 32, 1, 1).expand(1, 32, 12, 12).clone()
    if kind == "half":
        x[..., 6:] += torch.randn(1, 32, 12, 6)
    elif kind == "one pixel":
        x[..., 5, 7] += 0.1
    elif kind == "noise":
        x += 0.02 * torch.randn_like(x)
    return x.to(memory_format=torch.channels_last)


@pytest.mark.parametrize("dtype", ROUNDING, ids=str)
@pytest.mark.parametrize("slope", [0.0, 0.2, 1.0])
@pytest.mark.parametrize("kind", ["half", "one pixel", "noise"])
def test_a_nearly_flat_channel_has_pytorchs_gradient(dtype, slope, kind):
    torch.manual_seed(0)
    given = nearly_flat(kind).to(dtype).requires_grad_()
    exact = given.detach().double().requires_grad_()
    found, expected = NormFunction.apply(given, 1e-5, slope), F.leaky_relu(F.instance_norm(exact), slope)
    upper = torch.randn_like(expected).to(dtype)
    (gradient,) = torch.autograd.grad(found, given, upper)
    (right,) = torch.autograd.grad(expected, exact, upper.double())
    limit = 1e-4 if dtype == torch.float32 else 0.005
    assert error(found, expected) < limit
    assert error(gradient, right) < limit


@pytest.mark.parametrize("dtype", ROUNDING, ids=str)
@pytest.mark.parametrize("slope", [0.0, 0.2, 1.0])
def test_a_flat_channel_is_exactly_0_and_passes_no_gradient(dtype, slope):
    torch.manual_seed(0)
    x = nearly_flat("half").to(dtype)
    x[:, ::2] = x[:, ::2, :1, :1]
    given = x.requires_grad_()
    found = NormFunction.apply(given, 1e-5, slope)
    (gradient,) = torch.autograd.grad(found, given, torch.randn_like(found))
    assert (found[:, ::2] == 0).all()
    assert (gradient[:, ::2] == 0).all()
    assert (gradient[:, 1::2] != 0).any(dim=(2, 3)).all()


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_is_not_finite_stays_so(value):
    x = images(1, 32, 8, 8, dtype=torch.bfloat16)
    x[0, 3, 4, 4] = value
    normed = NormFunction.apply(x, 1e-5, 0.0)
    assert normed[0, 3].isnan().all()
    assert normed[0, :3].isfinite().all()
    weight = TransformedWeight.apply(torch.randn(32, 32, 3, 3), x.dtype)
    assert not WinogradFunction.apply(x, weight, torch.zeros(32), "zeros", 1).isfinite().all()


@pytest.mark.parametrize(("stride", "padding"), [((1, 1), (1, 1)), ((2, 2), (1, 1)), ((2, 1), (0, 2))])
def test_a_matrix_product_for_each_tap_is_the_weight_gradient(stride, padding):
    torch.manual_seed(0)
    x, weight = images(2, 8, 13, 12), images(6, 8, 4, 4)
    exact = [tensor.double().requires_grad_() for tensor in (x, weight)]
    expected = F.conv2d(*exact, None, stride, padding)
    upper = torch.randn_like(expected)
    inputs = [tensor.clone().requires_grad_() for tensor in (x, weight)]
    found = TapsFunction.apply(*inputs, stride, padding)
    for one, other in zip(
        torch.autograd.grad(found, inputs, upper.float()), torch.autograd.grad(expected, exact, upper), strict=True
    ):
        assert error(one, other) < 1e-6
