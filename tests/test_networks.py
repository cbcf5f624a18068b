"""Sizes, receptive field and initial weights of the networks, against published figures and torch's own layers."""

import json

import numpy as np
import pytest
import torch
from conftest import ROOT
from monai.networks.nets import PatchDiscriminator
from torch import nn

from bundle.errors import InputError
from bundle.networks import UPSAMPLING, ResidualBlock, ResnetGenerator, instance_norm, score

ARGUMENTS = {
    key: value
    for key, value in json.loads((ROOT / "configs/train.json").read_text())["d_x"].items()
    if key != "_target_"
}


def parameters(network):
    return sum(parameter.numel() for parameter in network.parameters())


def small(upsampling="nearest"):
    torch.manual_seed(0)
    return ResnetGenerator(width=4, blocks=2, upsampling=upsampling)


def discriminator(channels):
    torch.manual_seed(0)
    return PatchDiscriminator(**{**ARGUMENTS, "channels": channels})


@pytest.mark.parametrize("upsampling", UPSAMPLING)
def test_default_generator_has_the_published_number_of_parameters(upsampling):
    assert parameters(ResnetGenerator(upsampling=upsampling)) == 11_378_179


def test_configured_discriminator_has_the_published_number_of_parameters():
    assert parameters(discriminator(64)) == 2_764_737


def test_discriminator_is_a_70_px_patchgan_with_30_scores_at_256():
    network = discriminator(4).double()
    for module in list(network.modules()):  # instance norm would spread every gradient over the whole image
        for name, child in module.named_children():
            if isinstance(child, nn.InstanceNorm2d):
                setattr(module, name, nn.Identity())
    image = torch.rand(1, 3, 256, 256, dtype=torch.float64, requires_grad=True)
    scores = score(network, image)
    assert scores.shape == (1, 1, 30, 30)
    scores[0, 0, 15, 15].backward()
    reached = (image.grad[0].abs().sum(0) > 0).numpy()
    rows, columns = np.flatnonzero(reached.any(1)), np.flatnonzero(reached.any(0))
    assert (np.ptp(rows) + 1, np.ptp(columns) + 1, reached.sum()) == (70, 70, 70 * 70)


@pytest.mark.parametrize("upsampling", UPSAMPLING)
def test_initial_weights_are_normal_with_a_deviation_of_two_hundredths(upsampling):
    torch.manual_seed(0)
    generator = ResnetGenerator(blocks=1, upsampling=upsampling)
    convolutions = [module for module in generator.modules() if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d))]
    large = [module.weight.detach().flatten() for module in convolutions if module.weight.numel() > 50_000]
    assert len(large) == 6
    for weights in large:
        assert abs(weights.mean()) < 5 * 0.02 / len(weights) ** 0.5
        assert weights.std().item() == pytest.approx(0.02, rel=0.02)
        assert (weights.abs() < 0.02).float().mean().item() == pytest.approx(0.6827, abs=0.01)  # of a normal
    assert all((module.bias == 0).all() for module in convolutions)


@pytest.mark.parametrize("upsampling", UPSAMPLING)
@pytest.mark.parametrize("size", [(8, 8), (37, 50), (32, 33), (64, 48)])
def test_an_image_comes_back_at_its_size_as_the_layers_give_it(size, upsampling):
    generator, image = small(upsampling).eval(), torch.rand(2, 3, *size) * 2 - 1
    padding = [(0, 0), (0, 0), *((0, -side % 4) for side in size)]
    padded = torch.from_numpy(np.pad(image.numpy(), padding, mode="edge"))
    with torch.no_grad():
        output = generator(image)
        assert output.shape == image.shape
        assert torch.equal(output, generator.layers(padded)[:, :, : size[0], : size[1]])
    assert 0 < output.abs().max() <= 1


def test_group_norm_of_one_channel_is_instance_norm():
    image = torch.randn(2, 6, 9, 11, generator=torch.Generator().manual_seed(0)) * 3 + 1
    assert torch.allclose(instance_norm(6)(image), nn.InstanceNorm2d(6)(image), atol=1e-6)
    assert parameters(instance_norm(6)) == 0


def test_a_residual_block_adds_to_its_input():
    block, image = ResidualBlock(4), torch.rand(1, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    assert not torch.equal(block(image), image)
    block.body[-1] = nn.Identity()
    for parameter in block.parameters():
        nn.init.zeros_(parameter)
    assert torch.equal(block(image), image)


@pytest.mark.parametrize(
    ("argument", "value"),
    [("width", 0), ("width", -4), ("width", 2.0), ("width", "64"), ("blocks", 0), ("upsampling", "bilinear")],
)
def test_impossible_architectures_are_refused(argument, value):
    with pytest.raises(InputError, match=f"{argument} is {value!r}"):
        ResnetGenerator(**{"width": 4, "blocks": 1, argument: value})


def test_score_takes_the_last_of_a_list_and_a_tensor_as_it_is():
    image = torch.arange(6.0).view(1, 1, 2, 3)
    assert torch.equal(score(lambda x: [x + 1, x + 2], image), image + 2)
    assert torch.equal(score(lambda x: x + 1, image), image + 1)


@pytest.mark.parametrize("upsampling", UPSAMPLING)
def test_torchscript_gives_the_same_image_at_any_size(upsampling, tmp_path):
    generator = small(upsampling).eval()
    torch.jit.script(generator).save(str(tmp_path / "model.ts"))
    scripted = torch.jit.load(str(tmp_path / "model.ts"))
    for size in ((32, 32), (37, 50)):
        image = torch.rand(1, 3, *size) * 2 - 1
        with torch.no_grad():
            assert torch.allclose(scripted(image), generator(image), atol=1e-6)
