"""Instance norm with the statistics of one section, for all windows and slices of a specimen."""

from __future__ import annotations

import copy
import io
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from monai.inferers import SlidingWindowInferer
from torch import nn

from bundle.common.errors import InputError
from bundle.networks import FieldGenerator, ResnetGenerator, UnetGenerator
from bundle.networks.accelerate import accelerate
from bundle.networks.dense_norm import normalised
from bundle.networks.engines import cpu_has_bf16
from bundle.networks.layers import is_instance_norm
from bundle.networks.sections import Sections, distance, regions, spread_over, starts
from bundle.networks.specimen_norm import (
    SpecimenInferer,
    SpecimenNetwork,
    SpecimenNorm,
    folded,
    moments,
    statistics_of,
    tiles,
)
from bundle.networks.specimen_volume import SpecimenVolume

pytestmark = pytest.mark.usefixtures("narrow_is_wide_enough")


def generator(**changes) -> ResnetGenerator:
    torch.manual_seed(0)
    return ResnetGenerator(**{"width": 4, "blocks": 2, **changes}).eval()


def image(height: int = 72, width: int = 56, seed: int = 1, scale: float = 1.0) -> torch.Tensor:
    return (torch.rand((1, 3, height, width), generator=torch.Generator().manual_seed(seed)) * 2 - 1) * scale


def sections(network: nn.Module, *images: torch.Tensor) -> Sections:
    specimen = SpecimenNetwork(network)
    sizes = np.array([each.shape[2:] for each in images])
    return Sections(torch.stack([specimen.learn(each) for each in images]), sizes)


def test_the_norm_by_hand():
    norm = SpecimenNorm(2, eps=0.0)
    x = torch.tensor([[[[0.0, 2.0]], [[1.0, 5.0]]]])  # means 1 and 3, deviations 1 and 2
    norm.begin()
    torch.testing.assert_close(norm(x).flatten(), torch.tensor([-1.0, 1.0, -1.0, 1.0]))
    statistics = norm.learnt()
    torch.testing.assert_close(statistics, torch.tensor([1.0, 3.0, 0.0, float(np.log(2.0))]))
    norm.settle(statistics)
    torch.testing.assert_close(norm(x + 2).flatten(), torch.tensor([1.0, 3.0, 0.0, 2.0]))
    relu = SpecimenNorm(2, eps=0.0, slope=0.0)
    relu.settle(statistics)
    torch.testing.assert_close(relu(x).flatten(), torch.tensor([0.0, 1.0, 0.0, 1.0]))


def test_two_images_count_as_one():
    norm, whole = SpecimenNorm(3, eps=0.0), torch.randn(1, 3, 8, 10)
    norm.begin()
    for part in whole.split(5, 3):
        norm(part)
    variance, mean = torch.var_mean(whole, (0, 2, 3), correction=0)
    torch.testing.assert_close(norm.learnt(), torch.cat([mean, variance.log() / 2]))


def test_a_small_deviation_is_found_beside_a_large_mean():
    norm, x = SpecimenNorm(1), 20 + 1e-3 * torch.randn(1, 1, 64, 64)
    norm.begin()
    norm(x)
    assert float(norm.learnt()[1].exp()) == pytest.approx(float((x.double().var() + 1e-5).sqrt()), rel=1e-3)


@pytest.mark.parametrize("speed", ["exact", "winograd6_fp32", "stock"])
@pytest.mark.parametrize("size", [(72, 56), (71, 53)])
def test_an_image_with_its_own_statistics_is_what_the_network_makes_of_it(speed, size):
    network = accelerate(generator(), speed)
    specimen, x = SpecimenNetwork(network), image(*size)
    specimen.settle(specimen.learn(x))
    torch.testing.assert_close(specimen(x), network(x), atol=1e-5, rtol=0)
    assert any(is_instance_norm(module) for module in network.modules())  # which stays as it was


@pytest.mark.parametrize("speed", ["bf16", "winograd_bf16"])
@pytest.mark.skipif(not cpu_has_bf16(), reason="this CPU does not compute in bf16")
def test_what_learnt_in_fp32_stains_in_half_precision_with_these_statistics_too(speed):
    network, x, other = generator(), image(), image(seed=2, scale=0.3)
    specimen, exact = SpecimenNetwork(accelerate(network, speed)), SpecimenNetwork(accelerate(network))
    statistics = exact.learn(other)
    torch.testing.assert_close(specimen.learn(other), statistics, atol=0, rtol=0)
    for each in (specimen, exact):
        each.settle(statistics)
    assert specimen.arithmetic.startswith("bf16")
    torch.testing.assert_close(specimen(x), exact(x), atol=0.08, rtol=0)
    with torch.no_grad():
        assert (network(x) - exact(x)).abs().max() > 0.5


@pytest.mark.skipif(not cpu_has_bf16(), reason="this CPU does not compute in bf16")
def test_a_slide_by_itself_is_learnt_in_the_arithmetic_that_stains_it():
    network, x = generator(), image(150, 130)
    half = accelerate(network, "bf16")
    assert half.learner is half.engine
    found = SpecimenInferer(48, 48, 4)(x, half)
    torch.testing.assert_close(found, SpecimenInferer(48, 48, 4)(x, accelerate(network)), atol=0.08, rtol=0)
    torch.testing.assert_close(found, half(x), atol=0.08, rtol=0)  # its own statistics are those of all of it


@pytest.mark.parametrize("channels", [3, 40])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_moments_of_any_layout(channels, layout):
    x = (torch.randn(2, channels, 9, 7) + 100).contiguous(memory_format=layout)
    variance, mean = torch.var_mean(x.double(), (0, 2, 3), correction=0)
    torch.testing.assert_close(moments(x, 100), torch.stack([mean, variance]), atol=1e-5, rtol=1e-6)


@pytest.mark.parametrize("upsampling", ["nearest", "transposed"])
def test_convolutions_do_the_work_of_norms_with_given_statistics(upsampling):
    network, x, other = generator(upsampling=upsampling), image(), image(seed=2, scale=0.3)
    specimen = SpecimenNetwork(network)
    statistics = specimen.learn(other)
    specimen.settle(statistics)
    own = folded(network, statistics)
    assert not any(isinstance(module, nn.GroupNorm | SpecimenNorm) for module in own.modules())
    with torch.no_grad():
        torch.testing.assert_close(own(x), specimen(x), atol=1e-5, rtol=0)


def test_with_those_of_another_it_is_what_instance_norm_would_be_with_them():
    network, x, other = generator(), image(), image(seed=2, scale=0.3)
    specimen = SpecimenNetwork(network)
    specimen.settle(specimen.learn(other))
    found: dict[nn.Module, tuple[torch.Tensor, torch.Tensor]] = {}

    def meet(norm, given, made):
        if norm in found:
            mean, variance = found[norm]
            return (given[0] - mean) / (variance + norm.eps).sqrt()
        variance, mean = torch.var_mean(given[0], (2, 3), correction=0, keepdim=True)
        found[norm] = (mean, variance)
        return made

    for module in network.modules():
        if is_instance_norm(module):
            module.register_forward_hook(meet)
    with torch.no_grad():
        network(other)
        torch.testing.assert_close(specimen(x), network(x), atol=1e-5, rtol=0)


def linear(network: nn.Module) -> nn.Module:
    """The same with positive weights, without what could hide that a pixel matters."""
    for parent in list(network.modules()):
        for name, child in list(parent.named_children()):
            if is_instance_norm(child) or isinstance(child, nn.ReLU | nn.Tanh):
                setattr(parent, name, nn.Identity())
    for parameter in network.parameters():
        parameter.data.abs_()
    return network.double()


@pytest.mark.parametrize(
    "sizes",
    [{"blocks": 1}, {"blocks": 3}, {"halvings": 3, "skips": True}, {"upsampling": "transposed"}, {"halvings": 1}],
)
def test_no_source_pixel_beyond_the_reach_matters_and_some_near_it_do(sizes):
    network = linear(generator(width=1, **sizes))
    first, needed = network.reach + 4 * network.multiple, 0
    first += -first % network.multiple
    for pixel in (first, first + network.multiple - 1):
        x = torch.rand(1, 3, 2 * pixel, 2 * pixel, dtype=torch.float64, requires_grad=True)
        network(x)[0, :, pixel, pixel].sum().backward()
        for places in np.nonzero(x.grad[0].abs().sum(0).numpy()):
            needed = max(needed, first - places.min(), places.max() - (first + network.multiple - 1))
    assert network.reach - 3 * network.multiple < needed <= network.reach


@pytest.mark.parametrize("speed", ["exact", "winograd6_fp32", "stock"])
@pytest.mark.parametrize("size", [(517, 389), (120, 1300)])
def test_windows_of_every_size_give_the_same_bytes(speed, size):
    network = accelerate(generator(), speed)
    made = [SpecimenInferer(window, 48, 4)(image(*size), network) for window in (96, 250, 512, 2048)]
    specimen = SpecimenNetwork(network)
    specimen.settle(specimen.learn(image(*size)))
    torch.testing.assert_close(made[0], specimen(image(*size)), atol=1e-5, rtol=0)
    assert all(torch.equal(made[0], other) for other in made[1:])


def test_each_image_of_a_batch_has_its_own():
    network, batch = accelerate(generator()), torch.cat([image(), image(seed=2, scale=0.2)])
    windows = SpecimenInferer(96, 48, 4)
    torch.testing.assert_close(windows(batch, network), network(batch), atol=1e-5, rtol=0)


def test_what_is_larger_than_one_pass_is_learnt_in_tiles(monkeypatch):
    monkeypatch.setattr("bundle.networks.specimen_norm.LARGEST", 40)
    assert [tuple(part.shape[2:]) for part in tiles(image(72, 56))] == [(36, 28)] * 4
    network, x = generator(blocks=1), image(16, 16).repeat(1, 1, 4, 4)
    whole, tiled = SpecimenNetwork(network), SpecimenNetwork(network)
    parts = tiled.learn(x)
    monkeypatch.setattr("bundle.networks.specimen_norm.LARGEST", 640)
    assert float((parts - whole.learn(x)).abs().median()) < 0.05  # but for what lies at the tiles' edges


def test_where_sections_are_looked_for():
    assert spread_over(3) == [0, 1, 2]
    assert spread_over(48, 4) == [6, 18, 30, 42]
    assert starts(100, 95) == starts(100, 100) == starts(100, 130) == [0]
    assert starts(100, 40) == [0, 20, 40, 60]
    for side, window in ((1200, 500), (97, 13), (640, 570)):
        found = starts(side, window)
        assert (found[0], found[-1]) == (0, side - window)
        assert max(np.diff(found)) <= window / 2 + 1
    assert regions(50, 60, (50, 70)) == [(0, 0, 50, 60)]
    assert regions(50, 60, (25, 60)) == [(0, 0, 50, 60), (0, 0, 25, 60), (12, 0, 25, 60), (25, 0, 25, 60)]


def test_distances_by_hand():
    learnt = torch.tensor([[0.0, 0.0], [2.0, 0.0], [1.0, 9.0]])
    known = Sections(learnt, np.array([[40, 50], [60, 70], [50, 60]]))
    assert known.size == (50, 60)
    spread = learnt.std(0) + 1e-3
    by_hand = np.sqrt(((learnt[0] - learnt[1]) / spread).square().mean())
    assert known.usual == pytest.approx(by_hand)  # two of the three are that far from their nearest
    assert known.distance(learnt[2]) == 0
    assert distance(torch.tensor([0.0, 1.0]), learnt, torch.ones(2)) == pytest.approx(np.sqrt(0.5))
    assert Sections(learnt[:2], known.sizes[:2]).usual == float("inf")
    assert Sections(learnt[:1].repeat(3, 1), known.sizes).usual == float("inf")  # all the same: nothing is far


def test_how_far_an_image_is_from_the_sections_is_noted():
    network = generator()
    known = sections(network, *(image(seed=seed) for seed in range(6)))
    windows = SpecimenInferer(96, 48, 4)
    windows.sections = known
    windows(image(seed=9), network)
    assert windows.ratio < 2.5
    windows(torch.cat([image(seed=9), image(seed=9, scale=0.2) + 0.7]), network)
    assert windows.ratio > 2.5  # the farthest counts
    assert windows.ratio_of(image(seed=9, scale=0.2) + 0.7, network) == windows.ratio


def test_sections_are_kept_and_broken_ones_are_refused(tmp_path):
    known = sections(generator(), image(), image(seed=2))
    known.save(tmp_path / "sections.npz")
    number = statistics_of(generator())
    again = Sections.load(str(tmp_path / "sections.npz"), number)
    assert torch.equal(again.statistics, known.statistics)
    assert again.size == (72, 56)
    content = (tmp_path / "sections.npz").read_bytes()
    (tmp_path / "cut.npz").write_bytes(content[:200])
    np.savez(tmp_path / "other.npz", statistics=np.zeros(3))
    np.savez(tmp_path / "nan.npz", statistics=np.full((1, 4), np.nan, np.float32), sizes=np.ones((1, 2)))
    np.savez(tmp_path / "code.npz", statistics=np.array([print], object), sizes=np.ones((1, 2)))
    for name in ("cut", "other", "nan", "code", "none"):
        with pytest.raises(InputError, match=f"{name}.npz holds no statistics of sections"):
            Sections.load(tmp_path / f"{name}.npz", number)
    with pytest.raises(InputError, match=rf"\({number} statistics of each, where this network has {number + 8}\)"):
        Sections.load(tmp_path / "sections.npz", number + 8)


def zipped(path: Path, members: dict[str, bytes], broken: tuple[int, int] = (0, 0)) -> None:
    """Write an archive, deflated, in which bytes from one place to another are others."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in members.items():
            file.writestr(name, content)
    start, stop = broken
    content = path.read_bytes()
    path.write_bytes(content[:start] + bytes([255] * (stop - start)) + content[stop:])


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("statistics", np.zeros((0, 8), np.float32), r"shape \(0, 8\)"),
        ("statistics", np.zeros((5, 0), np.float32), "0 statistics of each, where this network has 8"),
        ("statistics", np.zeros((65, 8), np.float32), r"shape \(65, 8\)"),
        ("statistics", np.full((5, 8), 3e38, np.float32), "values that no section has"),
        ("statistics", np.full((5, 8), "a"), "statistics are <U1 and sizes int64"),
        ("statistics", np.zeros((5, 8), np.complex64), "statistics are complex64"),
        ("statistics", np.zeros((5, 8), int), "statistics are int64"),
        ("sizes", np.full((5, 2), np.inf), "sizes float64"),
        ("sizes", np.full((5, 2), 0), "values that no section has"),
        ("sizes", np.full((5, 2), -48), "values that no section has"),
    ],
)
def test_sections_that_no_training_writes_are_refused(tmp_path, name, value, told):
    content = {"statistics": np.zeros((len(value), 8), np.float32), "sizes": np.full((len(value), 2), 48)}
    np.savez(tmp_path / "sections.npz", **(content | {name: value}))
    with pytest.raises(InputError, match=rf"sections.npz holds no statistics of sections \(.*{told}"):
        Sections.load(tmp_path / "sections.npz", 8)


def test_an_archive_that_its_readers_stumble_over_is_refused(tmp_path):
    array, huge = io.BytesIO(), io.BytesIO()
    np.save(array, np.arange(400.0))
    np.lib.format.write_array_header_1_0(huge, {"descr": "<f4", "fortran_order": False, "shape": (1 << 40, 8)})
    zipped(tmp_path / "deflated.npz", {"statistics.npy": array.getvalue()}, broken=(60, 300))
    zipped(tmp_path / "huge.npz", {"statistics.npy": huge.getvalue()})
    zipped(tmp_path / "garbage.npz", {"statistics.npy": b"garbage", "sizes.npy": b""})
    np.save(tmp_path / "array.npy", np.zeros(3))
    for name in ("deflated.npz", "huge.npz", "garbage.npz", "array.npy"):
        with pytest.raises(InputError, match=rf"{name} holds no statistics of sections \(.+\); copy it from the run"):
            Sections.load(tmp_path / name, 8)


def test_a_volume_in_torchscript_is_stained_by_its_section(tmp_path):
    network, known = generator(), [image(64, 56, seed) for seed in range(3)]
    volume = torch.stack([image(64, 56, seed + 10, scale=0.1) for seed in range(9)], 2)
    volume[:, :, 6] = known[1]
    script = torch.jit.script(SpecimenVolume(network, sections(network, *known)).eval())
    script.save(str(tmp_path / "volume.ts"))
    specimen = SpecimenNetwork(network)
    specimen.settle(specimen.learn(known[1]))
    with torch.inference_mode():
        loaded = torch.jit.load(str(tmp_path / "volume.ts"))
        made = loaded(volume)
        assert torch.equal(loaded(known[0]), network(known[0]))  # a single image as ever, and after a volume too
        for place in (0, 6, 8):
            torch.testing.assert_close(made[:, :, place], specimen(volume[:, :, place]), atol=1e-5, rtol=0)


def test_what_cannot_be_had_is_refused():
    windows = SlidingWindowInferer(256, 1, 0.0)
    with pytest.raises(InputError, match="normalisation is 'specimen', but this network has no instance norm"):
        normalised(windows, "specimen", halo=48, network=FieldGenerator(width=4))
    with pytest.raises(InputError, match="'specimen', but a UnetGenerator sees all of a window; leave it at 'window'"):
        normalised(windows, "specimen", network=UnetGenerator(width=4, patch_size=32))
    with pytest.raises(
        InputError, match="but the bundle's inference.json is of an earlier version, .* --resume changed"
    ):
        normalised(windows, "specimen")
    with pytest.raises(InputError, match="no instance norm"):
        SpecimenNetwork(nn.Conv2d(3, 3, 1))
    with pytest.raises(InputError, match="is 'window', but windows of 1024 px side by side are for 'specimen'; give "):
        normalised(SlidingWindowInferer(1024, 1, 0.0), "window", network=generator())
    made = normalised(windows, "specimen", network=generator())
    assert isinstance(made, SpecimenInferer)
    assert (made.window, made.halo, made.multiple, made.sections) == (240, 48, 48, None)


def test_a_copy_of_its_weights_is_made():
    network = generator()
    specimen, before = SpecimenNetwork(network), copy.deepcopy(network.state_dict())
    specimen.settle(specimen.learn(image()))
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert set(specimen.plain.state_dict()) == set(before)  # statistics are no weights
