"""Accelerated networks: the same function, said how, whatever is beside a window."""

from __future__ import annotations

import copy
import logging
import os
import re
import subprocess
import sys

import numpy as np
import pytest
import torch
from torch import nn

from bundle.common.errors import InputError
from bundle.networks import ResnetGenerator, UnetGenerator, engines, instance_norm
from bundle.networks import accelerate as acceleration
from bundle.networks.accelerate import Accelerated, accelerate, most_contrast
from bundle.networks.engines import Autocast
from bundle.networks.fast.inference import NarrowConv2d
from bundle.networks.fast.winograd import POINTS, InstanceNorm, WinogradConv2d, winograd_transform
from bundle.networks.threads import share_out

pytestmark = pytest.mark.usefixtures("narrow_is_wide_enough")
HAS_BF16 = pytest.mark.skipif(not engines.cpu_has_bf16(), reason="this CPU does not compute in bf16")


def generator(**changes) -> ResnetGenerator:
    torch.manual_seed(0)
    return ResnetGenerator(**{"width": 4, "blocks": 2, **changes}).eval()


def images(batch: int = 2, height: int = 32, width: int = 32) -> torch.Tensor:
    return torch.rand((batch, 3, height, width), generator=torch.Generator().manual_seed(1)) * 2 - 1


def test_the_smallest_transform_is_the_published_one() -> None:
    output, weight, data = winograd_transform(2)  # F(2, 3) of Lavin & Gray 2016, up to the sign of a product
    np.testing.assert_array_equal(output, [[1, 1, 1, 0], [0, 1, -1, 1]])
    np.testing.assert_array_equal(weight, [[-1, 0, 0], [0.5, 0.5, 0.5], [0.5, -0.5, 0.5], [0, 0, 1]])
    np.testing.assert_array_equal(data, [[-1, 0, 1, 0], [0, 1, 1, 0], [0, -1, 1, 0], [0, -1, 0, 1]])
    # by hand: (1, 2, 3, 4) with taps (1, 0, 2) is 1 + 6 and 2 + 8
    np.testing.assert_array_equal(output @ ((weight @ [1, 0, 2]) * (data @ [1, 2, 3, 4])), [7, 10])


def test_channels_of_other_levels_are_no_contrast() -> None:
    x = torch.zeros(1, 2, 16, 32)
    x[:, 0, :, :16], x[:, 1, :, :16] = -1, 1  # flat in each channel
    x[:, :, :, 16::2] = 0.5
    assert torch.equal(most_contrast(x, 16), x[..., 16:])


def test_what_inference_mode_began_goes_on_without_it() -> None:  # a volume learns in it, and then chooses
    convolution, x = WinogradConv2d(nn.Conv2d(64, 64, 3).requires_grad_(False), 4, "zeros"), torch.ones(1, 64, 96, 96)
    with torch.inference_mode():
        expected = convolution(x)
    with torch.no_grad():
        assert torch.equal(convolution(x), expected)


@pytest.mark.parametrize("tile", POINTS)
@pytest.mark.parametrize("padding", ["none", "zeros", "reflect"])
@pytest.mark.parametrize(("height", "width"), [(5, 13), (12, 8), (3, 3)])
def test_winograd_is_the_convolution(tile: int, padding: str, height: int, width: int) -> None:
    torch.manual_seed(0)
    convolution = nn.Conv2d(5, 7, 3)
    x = torch.randn(2, 5, height, width)
    padded = {"none": nn.Identity(), "zeros": nn.ZeroPad2d(1), "reflect": nn.ReflectionPad2d(1)}[padding](x)
    expected = copy.deepcopy(convolution).double()(padded.double())
    found = WinogradConv2d(convolution, tile, padding)(x)
    assert found.shape == expected.shape
    assert float((found - expected).detach().abs().max()) < 2e-5  # fp32 rounding, enlarged by the transforms


def test_winograd_enlarges_by_nearest_neighbour() -> None:
    convolution = nn.Conv2d(4, 4, 3, padding=1, bias=False)
    x = torch.randn(1, 4, 5, 6)
    expected = convolution(nn.Upsample(scale_factor=2.0)(x))
    torch.testing.assert_close(WinogradConv2d(convolution, 6, "zeros", 2)(x), expected, atol=2e-5, rtol=0)


def test_blocks_of_tiles_make_one_image(monkeypatch: pytest.MonkeyPatch) -> None:
    convolution = nn.Conv2d(4, 4, 3)
    x, winograd = torch.randn(1, 4, 30, 30), WinogradConv2d(convolution, 4, "none")
    monkeypatch.setattr("bundle.networks.fast.winograd.BLOCK_TILES", 10)
    torch.testing.assert_close(winograd(x), convolution(x).detach(), atol=2e-5, rtol=0)


def test_few_channels_by_columns() -> None:
    convolution = nn.Conv2d(6, 3, (5, 7))
    x = torch.randn(2, 6, 11, 12)
    torch.testing.assert_close(NarrowConv2d(convolution)(x), convolution(x).detach(), atol=1e-5, rtol=0)


@pytest.mark.parametrize("relu", [False, True])
def test_instance_norm_far_from_zero(relu: bool) -> None:
    x = torch.randn(2, 5, 9, 11) + 100  # a difference of squares would lose four digits
    expected = nn.functional.instance_norm(x.double())
    expected = expected.relu() if relu else expected
    assert float((InstanceNorm(instance_norm(5), relu)(x) - expected).abs().max()) < 1e-4


@pytest.mark.parametrize("speed", ["exact", "fp32", "winograd_fp32", "winograd6_fp32"])
@pytest.mark.parametrize("upsampling", ["nearest", "transposed"])
def test_the_same_function(speed: str, upsampling: str) -> None:
    network = generator(upsampling=upsampling)
    before = copy.deepcopy(network.state_dict())
    fast = accelerate(network, speed)
    for x in (images(), images(1, 33, 46)):
        assert float((fast(x) - network(x)).abs().max()) < 1e-4
    replaced = 0 if speed == "fp32" else {"nearest": 6, "transposed": 4}[upsampling]
    assert sum(isinstance(module, WinogradConv2d) for module in fast.engine.modules()) == replaced
    assert speed == "fp32" or f"{replaced} convolutions by Winograd" in fast.arithmetic
    assert not any(isinstance(module, WinogradConv2d) for module in network.modules())
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert next(network.parameters()).requires_grad


def test_stock_is_the_network_itself_image_by_image() -> None:
    network = generator()
    x = images()
    with torch.no_grad():
        alone = torch.cat([network(image) for image in x.split(1)])
    assert torch.equal(accelerate(network, "stock")(x), alone)


def test_a_unet_too() -> None:
    torch.manual_seed(0)
    network = UnetGenerator(width=4, patch_size=32).eval()
    x = images()
    assert float((accelerate(network)(x) - network(x)).abs().max()) < 1e-4


def test_unknown_speed_names_the_speeds() -> None:
    with pytest.raises(InputError, match="speed is 'warp'; it must be one of exact, fast, preview"):
        accelerate(generator(), "warp")


def test_half_precision_is_near_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engines, "cpu_has_half", lambda: True)
    network, x = generator(), images()
    fast = accelerate(network, "fp16")
    assert fast.arithmetic == "fp16 weights and activations, channels-last"
    assert fast(x).dtype == torch.float32
    assert 0 < float((fast(x) - network(x)).abs().max()) < 0.03
    assert "fp16" not in accelerate(network, "exact").arithmetic


def test_what_overflows_is_computed_again(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(engines, "cpu_has_half", lambda: True)
    monkeypatch.setattr(logging.getLogger("bundle"), "propagate", True)
    network, x = generator(), images()
    x[1] = -1.0
    x[1, :, ::2] = 1.0
    with torch.no_grad():
        network.layers[1].weight *= 1e6
        x[0] *= 1e-6  # this one stays within fp16, the other does not
    fast = accelerate(network, "fp16")
    with caplog.at_level(logging.WARNING, "bundle"):
        found = fast(x)
        torch.testing.assert_close(fast(x), found, atol=0, rtol=0)
    assert float((found[1] - network(x)[1]).detach().abs().max()) < 1e-3  # fp32 in channels-last, without Winograd
    assert torch.equal(found[0], fast(x[:1])[0])
    assert [record.message for record in caplog.records] == [
        "values overflow in fp16; windows where they do are computed again in fp32."
    ]


def test_autocast_is_near() -> None:
    network, x = generator(), images(1)
    with torch.no_grad():
        found = Autocast(network, torch.float16)(x)
    assert found.dtype == torch.float32
    assert 0 < float((found - network(x)).abs().max()) < 0.03


@pytest.mark.parametrize("name", ["winograd6_fp32", pytest.param("winograd_bf16", marks=HAS_BF16)])
def test_a_window_is_the_same_in_any_batch_and_with_any_number_of_threads(name: str) -> None:
    code = (
        "import hashlib, sys, torch, tests.networks.test_acceleration as t\n"
        "t.engines.fast.LEAST_CHANNELS = t.engines.fast.half.WINOGRAD_CHANNELS = 4\n"
        "name = sys.argv[1]\n"
        "x = t.images(3)\n"
        "for threads in (1, 2, 3):\n"
        "    torch.set_num_threads(threads)\n"
        "    fast = t.accelerate(t.generator(width=8), name)\n"
        "    for y in (fast(x), torch.cat([fast(part) for part in x.split(1)]), fast(x)):\n"
        "        print(hashlib.sha256(y.numpy().tobytes()).hexdigest())\n"
        "    assert torch.get_num_threads() == threads\n"
    )
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": "."}
    run = subprocess.run(
        [sys.executable, "-c", code, name], capture_output=True, text=True, check=True, env=environment
    )
    assert len(run.stdout.split()) == 9
    assert len(set(run.stdout.split())) == 1


def test_work_is_shared_in_order() -> None:
    assert share_out(lambda item: item + 1, [1, 2, 3]) == [2, 3, 4]
    assert share_out(lambda item: item, []) == []


def tried(monkeypatch: pytest.MonkeyPatch, seconds: dict[str, float], network: nn.Module | None = None) -> Accelerated:
    """A network in the fastest arithmetic, by a clock that says what it is told."""
    now = [0.0]

    def engine(name: str, *given) -> nn.Module:
        made = engines.engine(name, *given)
        made.register_forward_hook(lambda *_: now.__setitem__(0, now[0] + seconds[name]))
        return made

    monkeypatch.setattr(acceleration, "engine", engine)
    monkeypatch.setattr(acceleration.time, "perf_counter", lambda: now[0])
    return accelerate(network or generator(width=8), "fast")


@HAS_BF16
def test_the_fastest_that_is_close_enough_is_taken_and_named(monkeypatch, caplog) -> None:
    monkeypatch.setattr(logging.getLogger("bundle"), "propagate", True)
    monkeypatch.setattr(acceleration, "LEAST_PSNR", 40.0)  # of random weights
    monkeypatch.setattr(acceleration, "MOST_APART", 0.1)
    seconds = {"winograd_fp32": 0.4, "winograd6_fp32": 0.3, "bf16": 0.1, "winograd_bf16": 0.2}
    fast = tried(monkeypatch, seconds)
    assert fast.arithmetic == "the fastest that is close enough"
    with caplog.at_level(logging.INFO, "bundle"):
        found = fast(images(1))
    assert fast.choice.name == "bf16"
    assert fast.choice.seconds == pytest.approx(seconds)
    (told,) = (record.message for record in caplog.records)
    near = r"\(\d+ dB\)"
    times = f"winograd_fp32 400 ms, winograd6_fp32 300 ms {near}, bf16 100 ms {near}, winograd_bf16 200 ms {near}"
    assert re.fullmatch(rf"a window of 32×32 px takes {times}: --speed bf16 takes the fastest again", told)
    assert 40 < fast.choice.psnr["bf16"] < 70
    assert torch.equal(found, accelerate(generator(width=8), "bf16")(images(1)))
    assert fast.like(generator(width=8)).choice.name == "bf16"  # not timed again


@HAS_BF16
def test_what_is_too_far_from_exact_is_not_taken(monkeypatch, caplog) -> None:
    monkeypatch.setattr(logging.getLogger("bundle"), "propagate", True)
    network = generator(width=8)
    with torch.no_grad():
        network.layers[-2].weight *= 100  # so that what is rounded weighs a hundred times as much
    fast = tried(monkeypatch, {"winograd_fp32": 0.4, "winograd6_fp32": 0.3, "bf16": 0.1, "winograd_bf16": 0.2}, network)
    with caplog.at_level(logging.INFO, "bundle"):
        fast(images(1))
    assert fast.choice.name == "winograd6_fp32"
    assert "bf16 is too far from exact here:" in caplog.text


def test_a_name_that_this_machine_has_not_is_refused() -> None:
    with pytest.raises(InputError, match=r"speed is 'compiled', which this cpu has not for this network; it has "):
        accelerate(generator(), "compiled")


def test_what_is_tried_is_where_the_contrast_is() -> None:
    x = torch.zeros(2, 3, 20, 30)
    x[1, :, 10:, 10:20] = images(1, 10, 10)
    assert torch.equal(most_contrast(x, 10), x[1:, :, 10:20, 10:20])
    assert most_contrast(x[:1], 64).shape == (1, 3, 20, 30)
