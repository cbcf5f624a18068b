"""A network with a halo, in windows of any size: the bytes of one pass."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser
from monai.inferers import SimpleInferer, SlidingWindowInferer
from torch import nn

from bundle.common.errors import InputError
from bundle.common.trained_bundle import engine_settings, read_config
from bundle.data.load import load_datalist
from bundle.images.slides import read_slide, write_slide
from bundle.images.stained.stored import open_stain
from bundle.networks import FieldGenerator
from bundle.networks.accelerate import accelerate
from bundle.networks.checkpoints import save_tensors
from bundle.networks.engines import engines
from bundle.networks.halo import LEAST_READ, HaloInferer, Pointwise
from bundle.staining.model import load_model
from bundle.training import publish
from bundle.training.publish import halo_of, save_torchscript
from tests.conftest import run_bundle
from tests.helpers.volumes import make_voxels, stain, write_scan

SMALL = {"width": 4, "levels": 3, "middle": 1}
NETWORK = {"_target_": "bundle.networks.FieldGenerator", "in_channels": 3, "out_channels": 3, **SMALL}


def generator(**changes) -> FieldGenerator:
    torch.manual_seed(0)
    return FieldGenerator(**{**SMALL, **changes}).eval()


def image(height: int, width: int) -> torch.Tensor:
    return torch.rand((1, 3, height, width), generator=torch.Generator().manual_seed(1)) * 2 - 1


def linear(network: nn.Module) -> nn.Module:
    """The same in float64 with positive weights, without what could hide that a pixel matters."""
    for parent in list(network.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, nn.LayerNorm | nn.ReLU | nn.Tanh):
                setattr(parent, name, nn.Identity())
    for parameter in network.parameters():
        parameter.data.abs_()
    return network.double()


def reach(network: nn.Module) -> int:
    """px that a window needs beyond its edges, by gradient at the pixels along them."""
    needed = 0
    first = network.halo + 2 * network.multiple  # where a window may begin
    for pixel in (first, first + network.multiple - 1):
        x = torch.rand(1, 3, 2 * pixel, 2 * pixel, dtype=torch.float64, requires_grad=True)
        network(x)[0, :, pixel, pixel].sum().backward()
        for places in np.nonzero(x.grad[0].abs().sum(0).numpy()):
            needed = max(needed, first - places.min(), places.max() - (first + network.multiple - 1))
    return int(needed)


@pytest.mark.parametrize("sizes", [{}, {"levels": 2, "middle": 3}, {"levels": 4, "middle": 2}])
def test_no_source_pixel_beyond_the_halo_matters_and_some_in_it_do(sizes):
    network = linear(generator(**{**sizes, "width": 1}))
    assert network.halo - 3 * network.multiple < reach(network) <= network.halo


@pytest.mark.parametrize("side", [1, 8, 130, 256, 389, 517, 1024, 1100, 1537, 2048])
@pytest.mark.parametrize("window", [64, 256, 512, 1024])
def test_windows_cover_a_side_once_and_their_halos_end_where_it_does(side, window):
    spans = HaloInferer(window, halo=48, multiple=16).spans(side)
    numbers = np.arange(side)
    assert np.array_equal(np.concatenate([numbers[span.kept] for span in spans]), numbers)
    for span in spans:
        assert np.array_equal(numbers[span.read][span.cut], numbers[span.kept])
        assert span.kept.start % 16 == span.read.start % 16 == 0
        assert len(numbers[span.kept]) <= window
        assert span.read.start <= max(0, span.kept.start - 48)
        assert span.read.stop >= min(side, span.kept.stop + 48)
        assert span.read.stop == side or span.read.stop % 16 == 0
        assert len(numbers[span.read]) >= min(side, LEAST_READ)
        assert len(numbers[span.read]) <= max(window + 2 * 48, LEAST_READ + 16)


@pytest.mark.parametrize("speed", ["exact", "bf16"])
@pytest.mark.parametrize("size", [(517, 389), (90, 3300)])
def test_windows_give_the_bytes_of_one_pass(speed, size):
    network = accelerate(generator(), speed)
    whole = network(image(*size))
    for window in (128, 256, 512):
        made = HaloInferer(window, network.given.halo, network.given.multiple)(image(*size), network)
        assert torch.equal(made, whole)


def test_a_smaller_halo_would_not(monkeypatch):
    monkeypatch.setattr("bundle.networks.halo.LEAST_READ", 1)
    network, x = linear(generator(width=1)), image(8, 1100).double()
    short = (reach(network) - 1) // network.multiple * network.multiple
    with torch.no_grad():
        whole = network(x)
        for halo, right in ((network.halo, True), (short, False)):
            made = HaloInferer(256, halo, network.multiple)(x, network)
            assert torch.allclose(made, whole, rtol=1e-12, atol=0) == right


def test_half_precision_is_near_enough(monkeypatch):
    network, x = generator(width=16), image(256, 256)
    monkeypatch.setattr("bundle.networks.engines.cpu_has_half", lambda: False)
    monkeypatch.setattr("bundle.networks.engines.cpu_has_bf16", lambda: True)
    fast = accelerate(network, "bf16")
    assert fast.arithmetic.startswith("bf16")
    error = (fast(x) - accelerate(network)(x)).square().mean()
    assert 10 * torch.log10(4 / error) > 55  # of a range of 2
    monkeypatch.setattr("bundle.networks.engines.cpu_has_bf16", lambda: False)
    assert engines(network, torch.device("cpu")) == ["fp32"]


def test_a_pointwise_convolution_is_the_convolution():
    convolution = nn.Conv2d(5, 7, 1).requires_grad_(False)
    x = torch.randn(2, 5, 6, 9)
    torch.testing.assert_close(Pointwise(convolution)(x), convolution(x), atol=1e-6, rtol=0)


def test_the_number_of_threads_does_not_matter():
    # at this width PyTorch's own 1×1 convolutions round differently with two threads
    network = accelerate(generator(width=32))
    x, windows = image(140, 270), HaloInferer(136, network.given.halo, network.given.multiple)
    alone = [network(x), windows(x, network)]
    torch.set_num_threads(2)
    try:
        together = [network(x), windows(x, network)]
    finally:
        torch.set_num_threads(1)
    assert all(torch.equal(alone[0], other) for other in (alone[1], *together))


def test_windows_that_cannot_begin_where_they_must_are_refused():
    with pytest.raises(InputError, match="window is 250; .* begin at multiples of 8 px, so give 256"):
        HaloInferer(250, 40, 8)


def test_which_networks_have_one_is_known_without_drawing_weights():
    torch.manual_seed(0)
    state = torch.get_rng_state()
    assert halo_of(NETWORK) == {"halo": generator().halo, "multiple": 8}
    torch.set_rng_state(state)
    assert halo_of({"_target_": "bundle.networks.ResnetGenerator", "width": 4, "blocks": 1}) is None
    assert torch.equal(torch.get_rng_state(), state)


@pytest.fixture(scope="module")
def trained_field(trained, tmp_path_factory) -> Path:
    """What a training of a small network with a halo publishes; its weights are random."""
    run = tmp_path_factory.mktemp("field")
    weights = {name: generator().state_dict() for name in ("g_xy", "g_yx")}
    save_tensors(weights, run / "checkpoints" / "latest.pt")
    parser = ConfigParser({"train": {"networks": dict.fromkeys(weights)}})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(publish, "resolved", lambda name: dict(NETWORK))
        patch.setattr(publish, "current_parser", lambda: parser)
        publish.publish(load_datalist(trained.parent / "data"), str(run), "latest", 32, False, 0.5, "none")
    return run / "bundle"


def test_a_trained_bundle_says_how_to_smooth_before_it(trained_field, trained):
    for name in ("volume.json", "series.json"):
        ours, of_paper = (
            json.loads((root / "configs" / name).read_text()) for root in (trained_field, trained / "bundle")
        )
        assert (ours["sigma"], of_paper["sigma"]) == (0.5, 1.0)
        assert ours == of_paper | {"sigma": 0.5}


def test_a_trained_bundle_says_so(trained_field, trained):
    metadata = json.loads((trained_field / "configs" / "metadata.json").read_text())
    inference = json.loads((trained_field / "configs" / "inference.json").read_text())
    halo = generator().halo
    assert (metadata["halo"], metadata["multiple"]) == (inference["halo"], inference["multiple"]) == (halo, 8)
    assert (inference["window"], inference["step"]) == (1024, None)
    assert metadata["network_data_format"]["inputs"]["image"]["spatial_shape"] == ["8*n", "8*n"]
    model = load_model(trained_field)
    assert isinstance(model.inferer, HaloInferer)
    settings = engine_settings(read_config(trained_field), "exact", None, None)
    assert (settings["window"], settings["step"]) == (None, None)
    older = json.loads((trained / "bundle" / "configs" / "inference.json").read_text())
    assert (older["halo"], older["window"], older["step"]) == (None, 256, 64)
    assert "halo" not in json.loads((trained / "bundle" / "configs" / "metadata.json").read_text())
    assert isinstance(load_model(trained / "bundle").inferer, SlidingWindowInferer)


def test_a_slide_as_a_user_stains_it(trained_field, tmp_path):
    grey = np.random.default_rng(0).integers(0, 65536, (1, 517, 389)).astype(np.uint16)
    write_slide(tmp_path / "a.tif", grey)
    config, made = str(trained_field / "configs" / "inference.json"), []
    for window in ("256", "512", "null"):
        ids = {"input": tmp_path / "a.tif", "output_dir": tmp_path / window, "window": window, "device": "cpu"}
        done = run_bundle("inference", config, bundle_root=trained_field, **ids)
        assert done.returncode == 0, done.stderr
        made.append(read_slide(tmp_path / window / "a_stained.tif").pixels)
    assert np.ptp(made[0]) > 0
    assert np.array_equal(made[0], made[1])
    assert np.array_equal(made[0], made[2])
    assert np.array_equal(made[0], load_model(trained_field, speed="exact")(grey))


def stained_volumes(bundle: Path, folder: Path, shape: tuple[int, int, int], *windows: int, **ids) -> list[np.ndarray]:
    """One scan in windows of each size, and in whole slices."""
    scan, made = write_scan(folder / "scan.nii.gz", make_voxels(shape)), []
    for window in (*windows, None):
        stain(bundle, scan, folder / str(window), window=window, **ids)
        made.append(open_stain(folder / str(window) / "stained.ome.zarr").read((slice(None),) * 3))
    assert np.ptp(made[0]) > 0
    return made


def test_a_volume(trained_field, tmp_path):
    one, other, whole = stained_volumes(trained_field, tmp_path, (2, 560, 600), 256, 512)
    assert np.array_equal(one, whole)
    assert np.array_equal(other, whole)
    stain(trained_field, tmp_path / "scan.nii.gz", tmp_path / "preview", speed="preview")
    made = json.loads((tmp_path / "preview" / "volume.json").read_text())["fingerprint"]
    assert (made["window"], made["step"]) == (1024, None)


def test_a_volume_along_three_axes(trained_field, tmp_path, monkeypatch):
    monkeypatch.setattr(
        "bundle.networks.halo.LEAST_READ", 1
    )  # small slices are cut, though kernels then round otherwise
    one, other, whole = stained_volumes(trained_field, tmp_path, (10, 24, 530), 64, 256, axes="zyx")
    for made in (one, other):
        apart = np.abs(made.astype(int) - whole)
        assert apart.max() <= 1
        assert (apart > 0).mean() < 1e-4


def test_windows_without_sample_are_left_out(trained_field, tmp_path):
    bundle, levels = tmp_path / "bundle", {"bone_intensity": 30000, "background_intensity": 10000}
    shutil.copytree(trained_field, bundle)
    content = json.loads((bundle / "configs" / "inference.json").read_text())
    content["source"] |= levels
    (bundle / "configs" / "inference.json").write_text(json.dumps({**content, **levels}))
    z, y, x = np.mgrid[:20, :64, :300] + 0.5
    ball = (z - 10) ** 2 + (y - 30) ** 2 + (x - 60) ** 2 < 8**2
    scan = write_scan(tmp_path / "scan.nii.gz", np.where(ball, 30000, 10000).astype(np.uint16))
    made = []
    for window in (64, None):
        stain(bundle, scan, tmp_path / str(window), window=window, hull=True, background_rgb=[250, 240, 230])
        made.append(open_stain(tmp_path / str(window) / "stained.ome.zarr").read((slice(None),) * 3))
    assert np.array_equal(*made)
    spent = json.loads((tmp_path / "64" / "volume.json").read_text())["spent"]
    assert spent["windows_skipped"] >= 3 * 20  # of five along x


def test_torchscript_is_written_and_gives_the_image(tmp_path):
    network = generator()
    save_tensors(network.state_dict(), tmp_path / "model.pt")
    save_torchscript(NETWORK, network.state_dict(), tmp_path / "model.ts")
    x = image(70, 91)
    with torch.no_grad():
        assert torch.equal(torch.jit.load(str(tmp_path / "model.ts"))(x), network(x))


def test_monai_s_own_parts_take_a_slice_in_one_pass(trained_field):
    parser = ConfigParser()
    parser.read_config([str(trained_field / "configs" / name) for name in ("inference.json", "series.json")])
    parser.update({"bundle_root": str(trained_field), "device": "cpu"})
    volume = torch.stack([image(70, 91)[0] * scale for scale in (0.5, 1.0)])[None].transpose(1, 2)
    network = parser.get_parsed_content("network")
    with torch.no_grad():
        made = parser.get_parsed_content("inferer")(volume, network)
        expected = load_model(trained_field, speed="stock").accelerated(volume[0].transpose(0, 1))
    assert torch.equal(made[0].transpose(0, 1), expected)
    assert isinstance(load_model(trained_field, speed="stock").inferer, SimpleInferer)
