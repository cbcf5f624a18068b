"""Windows stained with instance norm's statistics interpolated between them."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from monai.inferers import SlidingWindowInferer
from scipy.interpolate import RegularGridInterpolator
from torch import nn

from bundle.common.errors import InputError
from bundle.common.trained_bundle import engine_settings, stock_settings
from bundle.evaluation.truth import seam_index
from bundle.networks import FieldGenerator, ResnetGenerator, UnetGenerator, engines, instance_norm
from bundle.networks.accelerate import accelerate
from bundle.networks.dense_norm import DenseInferer, Statistics, instance_norms, normalised
from bundle.networks.engines import cpu_has_bf16
from bundle.staining.model import load_model
from bundle.staining.stainer import Windows
from tests.conftest import ROOT

WINDOW = 32

pytestmark = pytest.mark.usefixtures("narrow_is_wide_enough")


@pytest.fixture(scope="module")
def network() -> nn.Module:
    torch.manual_seed(0)
    return ResnetGenerator(width=4, blocks=2).eval()


def windows(step: int = WINDOW, batch: int = 4, window: int = WINDOW, **changes) -> SlidingWindowInferer:
    overlap = 1 - (step + 0.5) / window if step < window else 0.0
    return SlidingWindowInferer(window, batch, overlap, mode="gaussian", padding_mode="replicate", **changes)


def image(height: int = 72, width: int = 56, batch: int = 1) -> torch.Tensor:
    """Noise that grows brighter and stronger to the right."""
    noise = torch.rand((batch, 3, height, width), generator=torch.Generator().manual_seed(1)) * 2 - 1
    ramp = torch.linspace(0, 1, width)
    return (noise * (0.2 + 0.3 * ramp) + ramp - 0.5).clamp(-1, 1)


def apart(one: torch.Tensor, other: torch.Tensor) -> float:
    return float((one - other).abs().max())


def test_a_grid_of_two_by_two_windows_by_hand() -> None:
    statistics = Statistics()
    values = {(0, 0): 0.0, (0, 4): 1.0, (4, 0): 2.0, (4, 4): 3.0}  # windows of 4 px, their centres at 2 and 6
    for (row, column), value in values.items():
        statistics.found["norm", 0, row, column] = torch.tensor([[value], [10 + value]])
        statistics.starts[0][0].add(row)
        statistics.starts[0][1].add(column)
    place = [slice(0, 1), slice(None), slice(0, 4), slice(4, 8)]  # pixels at 0.5, 1.5, … down and 4.5, 5.5, … across
    mean, deviation = statistics.at_pixels("norm", place, (4, 4))
    across, down = np.array([0.625, 0.875, 1, 1]), np.array([0, 0, 0.125, 0.375])
    np.testing.assert_allclose(mean[..., 0], across + 2 * down[:, None], atol=1e-6)
    np.testing.assert_allclose(deviation, mean + 10, atol=1e-5)
    coarse, _ = statistics.at_pixels("norm", place, (2, 2))  # a layer of half the size: pixels at 1, 3 and 5, 7
    np.testing.assert_allclose(coarse[..., 0], [[0.75, 1], [1.25, 1.5]], atol=1e-6)


def test_an_uneven_grid_is_interpolated_as_scipy_does() -> None:
    rng = np.random.default_rng(0)
    starts, values = (np.array([0, 20, 33]), np.array([0, 24])), rng.normal(size=(3, 2, 2, 5))
    statistics = Statistics()
    for i, row in enumerate(starts[0]):
        for j, column in enumerate(starts[1]):
            statistics.found["norm", 3, row, column] = torch.from_numpy(values[i, j]).float()
    statistics.starts[3] = (set(starts[0]), set(starts[1]))
    place = [slice(3, 4), slice(None), slice(20, 52), slice(0, 32)]
    found = torch.stack(statistics.at_pixels("norm", place, (32, 32)), 2)
    centres = [each + 16 for each in starts]
    inside = [np.clip(np.arange(a, a + 32) + 0.5, c[0], c[-1]) for a, c in zip((20, 0), centres, strict=True)]
    grid = np.stack(np.meshgrid(*inside, indexing="ij"), -1)
    np.testing.assert_allclose(found, RegularGridInterpolator(centres, values)(grid), atol=1e-5)


@pytest.mark.parametrize("speed", ["exact", "winograd6_fp32", "stock"])
@pytest.mark.parametrize("shape", [(40, 48), (39, 47)])
def test_one_window_is_the_plain_network(network, speed, shape) -> None:
    x, fast = image(*shape), accelerate(network, speed)
    whole = SlidingWindowInferer(shape, 1, 0.0)
    assert apart(DenseInferer(whole)(x, fast), fast(x)) < 1e-5


def test_a_u_net_too() -> None:
    torch.manual_seed(0)
    network = UnetGenerator(width=4, patch_size=32).eval()
    x = image(64, 64)
    assert apart(DenseInferer(windows(window=64))(x, network), network(x)) < 1e-5


def test_where_all_windows_are_alike_nothing_changes(network) -> None:
    x = image(16, 16).repeat(1, 1, 5, 4)
    plain = windows(step=16)
    assert apart(DenseInferer(plain)(x, accelerate(network)), plain(x, accelerate(network))) < 1e-5


@pytest.mark.skipif(not cpu_has_bf16(), reason="this CPU has no bf16")
def test_an_arithmetic_whose_norms_take_no_statistics_is_refused(network) -> None:
    with pytest.raises(InputError, match="speed is 'bf16', whose norms take no statistics.*give --speed exact"):
        accelerate(network, "bf16", normalisation="dense")


@pytest.mark.parametrize("speed", ["exact", "stock"])
def test_neither_batch_nor_threads_nor_what_is_beside_it_matter(network, speed) -> None:
    x, fast = image(batch=2), accelerate(network, speed)
    x[1] = x[1].flip(-1)
    alone = torch.cat([DenseInferer(windows(step=24, batch=1))(each, fast) for each in x.split(1)])
    threads = torch.get_num_threads()
    try:
        for count in (1, 2):
            torch.set_num_threads(count)
            assert torch.equal(DenseInferer(windows(step=24, batch=5))(x, fast), alone)
    finally:
        torch.set_num_threads(threads)


def test_a_seam_between_windows_of_other_brightness_goes() -> None:
    norm = nn.Sequential(instance_norm(3), nn.Tanh())  # without convolution: the statistics alone make seams
    x = image(64, 64)
    as_8bit = lambda y: ((y[0] + 1) * 127.5).round().numpy().astype(np.uint8)
    plain, dense = (as_8bit(inferer(x, norm)) for inferer in (windows(), DenseInferer(windows())))
    assert seam_index(plain, WINDOW, WINDOW) > 1.3
    assert seam_index(dense, WINDOW, WINDOW) < 1.1


def test_windows_that_are_left_out_have_been_measured(network) -> None:
    x, inside = image(), np.zeros((1, 72, 56), bool)
    inside[0, 30:40, 30:40] = True
    told = windows(step=24, with_coord=True)
    cut, whole = Windows(network, inside), Windows(network)
    found, expected = (DenseInferer(told)(x, each) for each in (cut, whole))
    assert torch.equal(found[0, :, inside[0]], expected[0, :, inside[0]])
    assert cut.skipped > 0
    assert whole.skipped == 0


def test_the_network_is_left_as_it_was(network) -> None:
    fast = accelerate(network)
    x = image()
    before = fast(x)
    after = DenseInferer(windows())(x, fast)
    assert apart(after, before) > 1e-3
    assert torch.equal(fast(x), before)
    with pytest.raises(RuntimeError):
        DenseInferer(windows())(x[:, :1], fast)
    assert torch.equal(fast(x), before)


def test_half_precision_shares_the_statistics(network, monkeypatch) -> None:
    monkeypatch.setattr(engines, "cpu_has_half", lambda: True)
    fast = accelerate(network, "fast", normalisation="dense")
    names = list(instance_norms(fast.engine).values())
    assert len(names) == 2 * len(set(names)) == 2 * len(instance_norms(network))
    x = image()
    exact = DenseInferer(windows())(x, accelerate(network, "stock"))
    assert apart(DenseInferer(windows())(x, fast), exact) < 0.02
    # a window that overflows is computed again in fp32, and spoils its neighbours' statistics no longer
    with torch.no_grad():
        next(module for module in fast.engine.half_network.modules() if isinstance(module, nn.Conv2d)).weight.mul_(1e30)
    assert apart(DenseInferer(windows())(x, fast), exact) < 1e-4


def test_a_network_without_instance_norm_is_refused() -> None:
    with pytest.raises(InputError, match="this network has no instance norm; leave it at 'window'"):
        DenseInferer(windows())(image(), FieldGenerator(width=2, levels=1))
    with pytest.raises(InputError, match="this network has no instance norm"):
        normalised(windows(), "dense", halo=16)
    assert isinstance(normalised(windows(), "window", halo=16), SlidingWindowInferer)


def test_a_trained_bundle_takes_it_by_name_and_is_as_before_without(trained) -> None:
    pixels = np.random.default_rng(0).integers(8000, 32000, (1, 80, 70)).astype(np.uint16)
    ids = {"window": 32, "step": 24}
    plain, dense = (load_model(trained / "bundle", **ids, normalisation=name) for name in ("window", "dense"))
    assert type(plain.inferer) is SlidingWindowInferer
    assert isinstance(dense.inferer, DenseInferer)
    assert np.array_equal(load_model(trained / "bundle", **ids)(pixels), plain(pixels))
    assert not np.array_equal(dense(pixels), plain(pixels))
    with pytest.raises(RuntimeError) as caught:
        load_model(trained / "bundle", normalisation="warp")
    assert "normalisation is 'warp'; it must be one of window, dense, specimen." in str(caught.value.__cause__)


def test_it_is_part_of_what_a_picture_is_known_by() -> None:
    config = json.loads((ROOT / "configs" / "inference.json").read_text()) | {"sigma": 1.0}
    older = {key: value for key, value in config.items() if key != "normalisation"}
    dense = {**config, "normalisation": "dense"}
    levels = ("exact", 30000, 10000)
    assert engine_settings(config, *levels) == engine_settings(older, *levels) != engine_settings(dense, *levels)
    assert stock_settings(dense, 30000, 10000) == stock_settings(older, 30000, 10000)  # MONAI's own parts know it not
