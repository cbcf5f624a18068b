"""Faster arithmetic for training: the same function and gradients, and a choice that changes nothing and is kept."""

import copy
import logging
import time

import pytest
import torch
from ignite.engine import Events
from monai.networks.nets import PatchDiscriminator
from torch import nn

from bundle.common.errors import InputError
from bundle.networks import FieldGenerator, ResnetGenerator, UnetGenerator, arithmetic, score
from bundle.networks.arithmetic import Arithmetic
from bundle.networks.fast.training_layers import TwinEnlarged, TwinNarrow, TwinNorm, TwinWinograd
from tests.helpers.training import differences, latest, make_trainer, stop_at

CPU = torch.device("cpu")
NETWORKS = {
    "generator": lambda: ResnetGenerator(width=16, blocks=2),
    "transposed": lambda: ResnetGenerator(width=16, blocks=1, upsampling="transposed"),
    "field": lambda: FieldGenerator(width=8, levels=2),
    "u-net": lambda: UnetGenerator(width=8, patch_size=32, dropout=0.0),
    "discriminator": lambda: PatchDiscriminator(2, 16, 3, 1, 3, norm="INSTANCE", bias=True),
}


def gradients(network, weights, x, upper):
    """Output, and gradients of input and weights."""
    x = x.clone().requires_grad_()
    y = score(network, x)
    return [y, *torch.autograd.grad(y, [x, *weights], upper.to(y.dtype))]


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("kind", arithmetic.TWINS)
def test_a_twin_computes_the_network_and_its_gradients(name, kind):
    torch.manual_seed(0)
    network = NETWORKS[name]()
    x = torch.rand(3, 3, 32, 32) * 2 - 1
    exact = copy.deepcopy(network).double()
    upper = torch.randn_like(score(exact, x.double()))
    expected = gradients(exact, list(exact.parameters()), x.double(), upper)
    found = gradients(arithmetic.apply(network, kind), list(network.parameters()), x, upper)
    assert all(value.dtype == torch.float32 for value in found)
    scale = max(float(value.norm()) for value in expected[2:])
    limits = (1e-5, 1e-4) if kind == "winograd_fp32" else (0.05, 0.4)  # bf16 flips ReLUs: autocast errs as much
    assert float((found[0] - expected[0]).norm() / expected[0].norm()) < limits[0]
    for one, other in zip(found[1:], expected[1:], strict=True):
        # instance norm takes away what some biases do, and what is left of their gradients is rounding
        assert float((one - other).norm()) < limits[1] * max(float(other.norm()), 0.01 * scale)


def patch(kind: str) -> torch.Tensor:
    """White glass as a camera sees it, or a part of a patch of it."""
    x = torch.tensor([0.91, 0.83, 0.87]).view(1, 3, 1, 1).expand(1, 3, 64, 64).clone()
    if kind == "half":
        x[..., 32:] = 0.3 * torch.randn(1, 3, 64, 32)
    elif kind == "noise":
        x += 0.008 * torch.randn_like(x)  # a grey level of 256
    elif kind == "one pixel":
        x[..., 20, 30] = 0.5
    return x


@pytest.mark.parametrize("kind", [*arithmetic.TWINS, "autocast"])
@pytest.mark.parametrize("image", ["flat", "noise", "one pixel", "half"])
@pytest.mark.parametrize("upsampling", ["nearest", "transposed"])
def test_gradients_of_white_glass_are_those_of_float64(kind, image, upsampling):
    torch.manual_seed(0)
    network = ResnetGenerator(width=32, blocks=4, upsampling=upsampling)
    for name, weight in network.named_parameters():
        if name.endswith("bias"):
            nn.init.normal_(weight, 0, 0.05)
    x, upper, exact = patch(image), torch.rand(1, 3, 64, 64), copy.deepcopy(network).double()
    for layer in exact.modules():
        if isinstance(layer, nn.GroupNorm):  # or float64 takes its own rounding of a flat channel for an image
            layer.register_forward_pre_hook(lambda _, given: given[0] - given[0][:, :, :1, :1].detach())
    right = gradients(exact, list(exact.parameters()), x.double(), upper)
    found = gradients(arithmetic.apply(network, kind), list(network.parameters()), x, upper)
    of_weights = [torch.cat([value.flatten() for value in values[2:]]) for values in (found, right)]
    limit = 0.005 if image == "flat" or kind == "winograd_fp32" else 0.3  # measured 0.002 and 0.19
    assert float((of_weights[0] - of_weights[1]).norm() / of_weights[1].norm()) < limit
    assert float(found[1].norm()) <= 1.2 * float(right[1].norm())  # 0 of a flat image


def test_a_twin_has_the_networks_own_weights_and_fast_layers():
    network = ResnetGenerator(width=32, blocks=1)
    names = list(network.state_dict())
    shards = arithmetic.apply(network, "winograd_bf16")
    kinds = [type(layer) for layer in shards.twin.modules()]
    assert (kinds.count(TwinWinograd), kinds.count(TwinNorm), kinds.count(TwinNarrow)) == (4, 7, 1)
    assert {id(weight) for weight in shards.parameters()} == {id(weight) for weight in network.parameters()}
    assert list(network.state_dict()) == names
    assert not any(isinstance(layer, TwinWinograd) for layer in network.modules())


def test_the_last_layer_of_the_u_net_is_computed_on_the_small_image():
    network = UnetGenerator(width=4, patch_size=32)
    shards = arithmetic.apply(network, "winograd_fp32")
    assert [type(layer) for layer in shards.twin.final] == [nn.Identity, nn.Identity, TwinEnlarged, nn.Tanh]
    layer = shards.twin.final[2]
    layer.current = layer.derive()
    x = torch.randn(2, 8, 5, 7)
    torch.testing.assert_close(layer(x), network.final[:3](x))


def test_weights_that_change_are_seen_and_frozen_ones_get_no_gradient():
    torch.manual_seed(0)
    network = PatchDiscriminator(2, 4, 3, 1, 2, norm="INSTANCE", bias=True)
    shards = arithmetic.apply(network, "winograd_fp32")
    x = torch.rand(2, 3, 32, 32).requires_grad_()
    network.requires_grad_(False)
    shards(x).sum().backward()
    assert x.grad is not None
    assert all(weight.grad is None for weight in network.parameters())
    network.requires_grad_(True)
    with torch.no_grad():
        for weight in network.parameters():
            weight.mul_(0.5)
    assert torch.allclose(shards(x), score(network, x), atol=1e-5)
    shards(x).sum().backward()
    assert all(weight.grad is not None for weight in network.parameters())


def losses_of(dataset, output, **ids):
    """The total loss of each step of a short training."""
    trainer, losses = make_trainer(dataset, output, width=8, **ids), []
    trainer.add_event_handler(Events.ITERATION_COMPLETED, lambda engine: losses.append(engine.state.output["loss"]))
    trainer.run()
    return losses


@pytest.fixture
def bf16(monkeypatch):
    """A CPU that computes in bf16 is simulated where there is none, so slower and to the same rounding."""
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: True)


@pytest.mark.usefixtures("bf16")
def test_a_training_learns_in_every_arithmetic_what_it_learns_in_plain_fp32(dataset, tmp_path):
    plain, *others = (losses_of(dataset, tmp_path / kind, precision=kind) for kind in ("fp32", *arithmetic.TWINS))
    assert max(plain) - min(plain) > 1
    assert others[0][:4] == pytest.approx(plain[:4], rel=1e-4)  # later ones part, as those of two machines do
    assert others[0] == pytest.approx(plain, rel=0.02)
    assert others[1] == pytest.approx(plain, rel=0.1)  # weights that are not seen to change would be 0.18 off
    assert others[2] == pytest.approx(plain, rel=0.1)


@pytest.fixture
def two_threads():
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(1)


def test_shares_of_two_threads_give_what_one_gives_and_the_same_each_time(two_threads):
    torch.manual_seed(0)
    network = UnetGenerator(width=4, patch_size=32, dropout=0.5)
    x, shards = torch.rand(3, 3, 32, 32), arithmetic.apply(network, "winograd_fp32")
    runs = []
    for _ in range(3):
        torch.manual_seed(1)
        y = shards(x)
        runs.append([y, *torch.autograd.grad(y.square().sum(), list(network.parameters()))])
    assert all(torch.equal(one, other) for again in runs[1:] for one, other in zip(runs[0], again, strict=True))
    plain = ResnetGenerator(width=4, blocks=1)
    fast = arithmetic.apply(plain, "winograd_fp32")
    one = torch.autograd.grad(fast(x).square().sum(), list(plain.parameters()))
    torch.set_num_threads(1)
    other = torch.autograd.grad(fast(x).square().sum(), list(plain.parameters()))
    largest = max(float(value.abs().max()) for value in other)
    assert max(float((a - b).abs().max()) for a, b in zip(one, other, strict=True)) < 1e-5 * largest


def test_autocast_and_compile_as_on_a_gpu(monkeypatch):
    compiled = []
    monkeypatch.setattr(torch, "compile", lambda network: compiled.append(network) or network)
    network = ResnetGenerator(width=8, blocks=1)
    x = torch.rand(2, 3, 32, 32) * 2 - 1
    for kind in ("autocast", "compiled"):
        y = arithmetic.apply(network, kind)(x)
        assert y.dtype == torch.float32
        assert float((y - network(x)).abs().max()) < 0.05
        y.sum().backward()
    (twin,) = compiled
    assert {id(weight) for weight in twin.parameters()} == {id(weight) for weight in network.parameters()}


def test_the_fastest_is_chosen_and_one_that_fails_is_left_out(monkeypatch, caplog):
    seconds = {"fp32": 0.02, "autocast": 0.005, "compiled": 0.0}
    monkeypatch.setattr(arithmetic, "candidates", lambda device, compiled: list(seconds))

    def step_with(name):
        if name == "compiled":
            raise RuntimeError("no compiler\nmore")
        time.sleep(seconds[name])

    settled = Arithmetic("fast", CPU)
    with caplog.at_level(logging.INFO, "bundle"):
        settled.settle(step_with)
    assert settled.chosen == "autocast"
    assert set(settled.seconds) == {"fp32", "autocast"}
    assert "compiled does not work here (no compiler); it is left out." in caplog.text
    seconds["autocast"] = 0.05
    settled.settle(step_with)
    assert settled.chosen == "autocast", "it is kept for the run's life"
    slower = Arithmetic("fast", CPU)
    slower.settle(step_with)
    assert slower.chosen == "fp32", "never a mode that is slower"


def test_if_nothing_fits_into_memory_sizes_that_would_are_named(dataset, tmp_path, monkeypatch):
    trainer = make_trainer(dataset, tmp_path / "run", precision="fast")

    def refuse(translation):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(trainer, "generators_loss", refuse)
    with pytest.raises(InputError, match="batch_size"):
        trainer.settle()


def test_plain_fp32_times_nothing_and_an_unknown_precision_is_refused():
    plain = Arithmetic("fp32", CPU)
    plain.settle(lambda name: pytest.fail("timed"))
    assert plain.chosen == "fp32"
    for unknown in ("tf32", "autocast", "compiled"):
        with pytest.raises(
            InputError, match=f"precision is '{unknown}'; it must be fast, half, or an arithmetic of this cpu"
        ):
            Arithmetic(unknown, CPU)
    assert "compiled" not in arithmetic.candidates(torch.device("cuda"), False)
    assert "compiled" in arithmetic.candidates(torch.device("cuda"), True)


def test_choosing_changes_nothing_and_a_resume_keeps_the_choice(dataset, tmp_path, monkeypatch):
    monkeypatch.setattr(arithmetic, "ROUNDS", 1)
    monkeypatch.setattr(arithmetic, "candidates", lambda device, compiled: ["fp32", "winograd_fp32"])
    monkeypatch.setattr(arithmetic, "_timed", lambda step_with, name, device: (step_with(name) or -len(name), None))
    ids = {"precision": "fast", "epochs": 2}
    trainer = make_trainer(dataset, tmp_path / "run", **ids)
    before, drawn = copy.deepcopy(trainer.networks.g_xy.state_dict()), torch.get_rng_state()
    trainer.settle()
    assert trainer.arithmetic.chosen == "winograd_fp32"
    assert all(torch.equal(value, before[key]) for key, value in trainer.networks.g_xy.state_dict().items())
    assert torch.equal(drawn, torch.get_rng_state())
    assert not any(buffer.images for buffer in trainer.buffers.values())
    assert not trainer.optimizers["g"].state
    trainer.run()
    monkeypatch.setattr(arithmetic, "_timed", lambda step_with, name, device: (len(name), None))
    resumed = make_trainer(dataset, tmp_path / "run", resume=True, **ids)
    resumed.run()
    assert resumed.arithmetic.chosen == "winograd_fp32"


@pytest.mark.usefixtures("bf16", "two_threads")
def test_a_resumed_run_in_bf16_on_two_threads_has_the_bits_of_an_uninterrupted_one(dataset, tmp_path):
    ids = {"precision": "winograd_bf16", "width": 8, "patches_per_pair": 6}
    make_trainer(dataset, tmp_path / "whole", **ids).run()
    part = make_trainer(dataset, tmp_path / "part", **ids)
    stop_at(part, 8)
    part.run()
    assert latest(tmp_path / "part")["iteration"] == 8
    make_trainer(dataset, tmp_path / "part", resume=True, **ids).run()
    assert differences(latest(tmp_path / "whole"), latest(tmp_path / "part")) == []


def test_a_network_of_unknown_layers_still_has_a_twin():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 8, 3, padding="same", padding_mode="reflect"), nn.PReLU(), nn.AvgPool2d(2))
    x = torch.rand(2, 3, 16, 16)
    assert torch.allclose(arithmetic.apply(network, "winograd_fp32")(x), network(x), atol=1e-6)


@pytest.mark.parametrize(
    ("device", "has_bf16", "chosen"), [("cpu", True, "bf16"), ("cpu", False, "fp32"), ("cuda", False, "autocast")]
)
def test_half_is_what_the_device_computes(device, has_bf16, chosen, monkeypatch):
    monkeypatch.setattr(arithmetic, "cpu_has_bf16", lambda: has_bf16)
    assert arithmetic.Arithmetic("half", torch.device(device)).chosen == chosen
