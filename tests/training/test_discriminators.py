"""What discriminators of a training learn from and see: by the paper's equations, and behind the mask."""

import numpy as np
import pytest
import torch
from torch import nn

from bundle.common.errors import InputError
from bundle.training.image_buffer import ImageBuffer
from bundle.training.losses import (
    AdversarialLoss,
    CycleLoss,
    ForwardAdversarialLoss,
    ForwardPixelLoss,
    GreyscaleLoss,
    IdentityLoss,
    Objective,
    PixelLoss,
)
from bundle.training.trainers import ConditionalTrainer, CycleTrainer
from bundle.training.translation import ConditionalTranslation, Networks, Translation
from tests.helpers.pointwise import DEFAULTS, TERMS, as_batch, as_function
from tests.helpers.pointwise import batch as batch
from tests.helpers.pointwise import networks as networks

BACKGROUND = torch.tensor([0.9, 0.8, 0.7], dtype=torch.float64).view(1, 3, 1, 1)


def trainer(networks, **options):
    optimizers = {
        "g": torch.optim.SGD([*networks.g_xy.parameters(), *networks.g_yx.parameters()], lr=0),
        **{name: torch.optim.SGD(getattr(networks, name).parameters(), lr=0) for name in ("d_x", "d_y")},
    }
    buffers = {side: ImageBuffer(0) for side in "xy"}
    return CycleTrainer("cpu", 1, [None], networks.named(), Objective(TERMS, DEFAULTS), optimizers, buffers, **options)


def test_discriminators_minimise_half_the_squared_error_of_real_and_generated(networks, batch):
    train = trainer(networks)
    losses = train.discriminator_gradients(train.translate(as_batch(batch)))
    f, g, dx, dy = map(as_function, networks.named().values())
    x, y = batch.x.numpy(), batch.y.numpy()
    assert losses["d_x"].item() == pytest.approx(((dx(x) - 1) ** 2).mean() / 2 + (dx(g(y)) ** 2).mean() / 2, abs=1e-6)
    assert losses["d_y"].item() == pytest.approx(((dy(y) - 1) ** 2).mean() / 2 + (dy(f(x)) ** 2).mean() / 2, abs=1e-6)
    assert networks.g_xy.weight.grad is None
    assert networks.g_yx.weight.grad is None


def seen_by(network):
    """What a network is given from now on."""
    images = []
    network.register_forward_pre_hook(lambda _, inputs: images.append(inputs[0].detach().clone()))
    return images


def test_a_discriminator_sees_background_where_nothing_is_shown(networks, batch):
    shown = batch.mask[:, None].double()
    seen = [seen_by(network) for network in (networks.d_x, networks.d_y)]
    backgrounds = {"background_x": BACKGROUND, "background_y": -BACKGROUND}
    translation = Translation(networks, batch.x, batch.y, shown=shown, **backgrounds)
    AdversarialLoss()(translation)
    inside = shown.bool().expand_as(batch.x)
    for (image,), fake, background in zip(
        seen, (translation.fake_x, translation.fake_y), backgrounds.values(), strict=True
    ):
        assert torch.equal(image[inside], fake[inside])
        assert torch.equal(image[~inside], background.expand_as(fake)[~inside])


@pytest.mark.parametrize("masked", [False, True])
def test_mask_discriminator_hides_the_outside_of_real_and_generated_images(masked, networks, batch):
    colour = BACKGROUND.flatten().tolist()
    train = trainer(networks, mask_discriminator=masked, background_x=colour, background_y=colour)
    seen = [seen_by(network) for network in (networks.d_x, networks.d_y)]
    translation = train.translate(as_batch(batch))
    train.generator_gradients(translation)
    train.discriminator_gradients(translation)
    outside = ~batch.mask[:, None].expand_as(batch.x)
    for images in seen:
        assert len(images) == 2  # generated, for the generators; real and generated in one, for the discriminator
        for image in torch.cat(images).split(len(outside)):
            hidden = torch.isclose(image, BACKGROUND.expand_as(image), atol=1e-6)
            assert hidden[outside].all() == masked
            assert not hidden[~outside].any()


def test_the_mask_leaves_the_discriminators_alone_unless_asked(networks, batch):
    train = trainer(networks, masked_loss=True)
    translation = train.translate(as_batch(batch))
    plain = Translation(networks, batch.x, batch.y)
    assert torch.equal(AdversarialLoss()(translation), AdversarialLoss()(plain))
    for loss in (CycleLoss(), IdentityLoss(), PixelLoss(), GreyscaleLoss()):
        assert not torch.isclose(loss(translation), loss(plain))


def forward_equations(networks, batch, mask):
    f, d = as_function(networks.g_xy), networks.d_y
    x, y = batch.x.numpy(), batch.y.numpy()
    fake = f(x)
    weight, bias = d.weight.detach().numpy()[:, :, 0, 0], d.bias.detach().numpy()
    judged = np.einsum("oc,bchw->bohw", weight, np.concatenate([x, fake], axis=1)) + bias[:, None, None]
    adversarial = ((judged - 1) ** 2).mean()  # eq. 8
    pixel = (np.abs(fake - y) * mask[:, None]).sum() / (3 * mask.sum())  # eq. 9
    return adversarial, pixel


def test_pix2pix_s_terms_are_equations_8_and_9(batch):
    torch.manual_seed(0)
    networks = Networks(g_xy=nn.Conv2d(3, 3, 1, dtype=torch.float64), d_y=nn.Conv2d(6, 1, 1, dtype=torch.float64))
    translation = ConditionalTranslation(networks, batch.x, batch.y, mask=batch.mask[:, None].double())
    adversarial, pixel = forward_equations(networks, batch, batch.mask.numpy())
    assert ForwardAdversarialLoss()(translation).item() == pytest.approx(adversarial, abs=1e-9)
    assert ForwardPixelLoss()(translation).item() == pytest.approx(pixel, abs=1e-9)


def one_way(**weights):
    torch.manual_seed(0)
    networks = {"g_xy": nn.Conv2d(3, 3, 1, dtype=torch.float64), "d_y": nn.Conv2d(6, 1, 1, dtype=torch.float64)}
    optimizers = {
        "g": torch.optim.SGD(networks["g_xy"].parameters(), lr=0),
        "d_x": None,
        "d_y": torch.optim.SGD(networks["d_y"].parameters(), lr=0),
    }
    terms = {"adv": ForwardAdversarialLoss(), "pixel": ForwardPixelLoss(), "cycle": TERMS["cycle"]}
    objective = Objective(terms, {"adv": 1, "pixel": 20, "cycle": 0, **weights})
    buffers = {"x": None, "y": ImageBuffer(0)}
    return ConditionalTrainer("cpu", 1, [None], networks, objective, optimizers, buffers)


def test_a_conditional_discriminator_judges_pairs_real_and_generated(batch):
    train = one_way()
    losses = train.discriminator_gradients(train.translate(as_batch(batch)))
    assert set(losses) == {"d_y"}
    weight = train.networks.d_y.weight.detach().numpy()[:, :, 0, 0]
    bias = train.networks.d_y.bias.detach().numpy()[:, None, None]
    judge = lambda image: np.einsum("oc,bchw->bohw", weight, np.concatenate([batch.x.numpy(), image], 1)) + bias
    fake = as_function(train.networks.g_xy)(batch.x.numpy())
    expected = ((judge(batch.y.numpy()) - 1) ** 2).mean() / 2 + (judge(fake) ** 2).mean() / 2
    assert losses["d_y"].item() == pytest.approx(expected, abs=1e-9)
    assert set(train.state_parts()) == {"g_xy", "d_y", "optimizer_g", "optimizer_d_y", "buffer_y", "arithmetic"}


def test_a_term_that_needs_a_network_that_is_not_there_is_refused():
    with pytest.raises(InputError, match="lambda_cycle is 6, but this method has no g_yx; set it to 0"):
        one_way(cycle=6)


def test_the_discriminators_are_frozen_while_the_generator_learns(batch):
    train = one_way()
    train.generator_gradients(train.translate(as_batch(batch)))
    assert all(weight.grad is None and weight.requires_grad for weight in train.networks.d_y.parameters())
    assert train.networks.g_xy.weight.grad.abs().sum() > 0
