"""Sizes, receptive field and initial weights of the networks, against published figures and torch's own layers."""

import json

import numpy as np
import pytest
import torch
from monai.networks.nets import PatchDiscriminator
from torch import nn

from bundle.common.errors import InputError
from bundle.networks import (
    UPSAMPLING,
    ResidualBlock,
    ResnetGenerator,
    UnetGenerator,
    instance_norm,
    score,
    unet_levels,
)
from tests.conftest import ROOT

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
    return PatchDiscriminator(**{**ARGUMENTS, "channels": channels, "in_channels": 3})


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


@pytest.mark.parametrize(("patch", "levels"), [(256, 8), (512, 8), (128, 7), (320, 6), (96, 5), (32, 5)])
def test_the_u_net_halves_a_patch_as_often_as_it_can(patch, levels):
    assert unet_levels(patch) == levels
    torch.manual_seed(0)
    network = UnetGenerator(width=2, patch_size=patch)
    shapes = []
    for layer in network.down:
        layer.register_forward_hook(lambda module, inputs, output: shapes.append(output.shape[-1]))
    assert network(torch.zeros(1, 3, patch, patch)).shape == (1, 3, patch, patch)
    assert shapes == [patch // 2**level for level in range(1, levels + 1)]


@pytest.mark.parametrize("patch", [250, 48, 16])
def test_the_u_net_refuses_other_patches_with_the_list(patch):
    with pytest.raises(InputError, match=f"patch_size is {patch}; .* multiples of 32: 32, 64, 96, 128"):
        UnetGenerator(patch_size=patch)


def test_the_u_net_is_the_cited_implementation_s():
    """Linder-Norén 2019: channels and dropout level by level, no norm in the first and last of the encoder."""
    network = UnetGenerator()
    described = []
    for layer in [*network.down, *network.up]:
        parts = list(layer.layers)
        normed = any(isinstance(part, nn.GroupNorm) for part in parts)
        dropped = [part.p for part in parts if isinstance(part, nn.Dropout)]
        described.append((parts[0].in_channels, parts[0].out_channels, normed, dropped))
    down = [(3, 64, False, []), (64, 128, True, []), (128, 256, True, []), (256, 512, True, [0.5])]
    down += [(512, 512, True, [0.5])] * 3 + [(512, 512, False, [0.5])]
    up = [(512, 512, True, [0.5])] + [(1024, 512, True, [0.5])] * 3
    up += [(1024, 256, True, []), (512, 128, True, []), (256, 64, True, [])]
    assert described == down + up
    assert [type(part).__name__ for part in network.final] == ["Upsample", "ZeroPad2d", "Conv2d", "Tanh"]


def test_the_u_net_takes_any_size_once_trained():
    network = UnetGenerator(width=2, patch_size=32).eval()
    image = torch.rand(1, 3, 70, 41) * 2 - 1
    whole = network(torch.nn.functional.pad(image, [0, 23, 0, 26], mode="replicate"))
    torch.testing.assert_close(network(image), whole[..., :70, :41])


def liu(**arguments):
    torch.manual_seed(0)
    more = {"halvings": 3, "skips": True, "slope": 0.2, "initialisation": "xavier", "upsampling": "transposed"}
    return ResnetGenerator(**{"width": 4, "blocks": 10, **more, **arguments})


def test_liu_s_generator_takes_288_px_to_36_and_back():
    sizes, kinds = [], []
    network = liu().eval()
    for module in network.modules():
        if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d)):
            module.register_forward_hook(
                lambda layer, _, out: sizes.append((layer.kernel_size[0], layer.stride[0], out.shape[-1]))
            )
        kinds.append(type(module))
    with torch.no_grad():
        assert network(torch.zeros(1, 3, 288, 288)).shape == (1, 3, 288, 288)
    down, up = [(7, 1, 288), (3, 2, 144), (3, 2, 72), (3, 2, 36)], [(3, 2, 72), (3, 2, 144), (3, 2, 288), (7, 1, 288)]
    assert sizes == down + [(3, 1, 36)] * 20 + up
    assert kinds.count(nn.LeakyReLU) == 4 + 10 + 3
    assert nn.ReLU not in kinds
    assert kinds.count(nn.GroupNorm) == 4 + 20 + 3
    assert network.layers[-1].__class__ is nn.Tanh


@pytest.mark.parametrize("upsampling", UPSAMPLING)
def test_skips_are_a_u_net_written_out_by_hand(upsampling):
    network = liu(blocks=1, upsampling=upsampling, in_channels=2, out_channels=5).eval()
    image = torch.rand(1, 2, 24, 32) * 2 - 1
    steps = 4 if upsampling == "nearest" else 3
    parts = list(network.layers)
    stem, first, second, third, block = parts[:4], parts[4:7], parts[7:10], parts[10:13], parts[13]
    ups = [parts[14 + steps * n : 14 + steps * (n + 1)] for n in range(3)]
    last = parts[14 + 3 * steps :]

    def through(layers, x):
        for layer in layers:
            x = layer(x)
        return x

    with torch.no_grad():
        e0 = through(stem, image)
        e1 = through(first, e0)
        e2 = through(second, e1)
        x = block(through(third, e2))
        for layers, kept in zip(ups, (e2, e1, e0), strict=True):
            x = torch.cat([through(layers, x), kept], dim=1)
        assert torch.equal(network(image), through(last, x))


def test_skips_of_odd_sizes_and_as_torchscript():
    network = liu(blocks=1).eval()
    image = torch.rand(2, 3, 37, 50) * 2 - 1
    with torch.no_grad():
        padded = network(nn.functional.pad(image, (0, 6, 0, 3), mode="replicate"))[..., :37, :50]
        assert torch.equal(network(image), padded)
        assert torch.equal(torch.jit.script(network)(image), padded)


def test_xavier_has_the_variance_of_glorot_and_bengio():
    convolution = liu(width=32, blocks=1).layers[13].body[1]
    assert convolution.weight.std().item() == pytest.approx((2 / (9 * 256 + 9 * 256)) ** 0.5, rel=0.02)
    assert convolution.bias.abs().max() == 0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"halvings": 0}, "halvings is 0"),
        ({"slope": 1.5}, "slope is 1.5"),
        ({"initialisation": "he"}, "initialisation is 'he'; it must be one of normal, xavier"),
    ],
)
def test_liu_s_arguments_are_checked(arguments, said):
    with pytest.raises(InputError, match=said):
        liu(**arguments)
