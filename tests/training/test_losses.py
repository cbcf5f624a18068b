"""The terms of the objective against the paper's equations, written out in numpy."""

import re

import numpy as np
import pytest
import torch
from skimage.metrics import structural_similarity
from torch import nn

from bundle.common import processes
from bundle.common.errors import InputError
from bundle.data.datalist import Datalist, Modality
from bundle.training.losses import (
    AdversarialLoss,
    CycleLoss,
    LeastSquares,
    Logarithmic,
    Objective,
    StructureLoss,
    greyscale_consistency,
    least_squares,
    masked_l1,
)
from bundle.training.translation import Translation
from tests.conftest import ROOT
from tests.helpers.pointwise import DEFAULTS, TERMS, as_function
from tests.helpers.pointwise import batch as batch
from tests.helpers.pointwise import networks as networks


def l1(image, other, mask):
    """Mean over what boolean indexing leaves: no product with the mask, no division by its sum."""
    return np.abs(image - other).transpose(1, 0, 2, 3)[:, mask].mean()


def eq_6(image, mask):
    r, g, b = (image[:, [channel]] for channel in range(3))
    return l1(r, g, mask) + l1(r, b, mask) + l1(g, b, mask)


# f = G_XY, g = G_YX, as in the paper
EQUATIONS = {
    "cycle": lambda f, g, dx, dy, x, y, m: l1(g(f(x)), x, m) + l1(f(g(y)), y, m),
    "adv": lambda f, g, dx, dy, x, y, m: ((dx(g(y)) - 1) ** 2).mean() + ((dy(f(x)) - 1) ** 2).mean(),
    "identity": lambda f, g, dx, dy, x, y, m: l1(f(y), y, m) + l1(g(x), x, m),
    "pixel": lambda f, g, dx, dy, x, y, m: l1(f(x), y, m) + l1(g(y), x, m),
    "grey": lambda f, g, dx, dy, x, y, m: eq_6(g(y), m),
}


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("name", EQUATIONS)
def test_a_term_is_its_equation(name, masked, networks, batch):
    mask = batch.mask if masked else torch.ones_like(batch.mask)
    translation = Translation(networks, batch.x, batch.y, mask=mask[:, None].double() if masked else None)
    functions = map(as_function, networks.named().values())
    expected = EQUATIONS[name](*functions, batch.x.numpy(), batch.y.numpy(), mask.numpy())
    assert TERMS[name](translation).item() == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("name", EQUATIONS)
def test_a_terms_gradient_reaches_both_generators(name, networks, batch):
    def value():
        return TERMS[name](Translation(networks, batch.x, batch.y))

    value().backward()
    for generator in (networks.g_xy, networks.g_yx):
        change = torch.randn_like(generator.weight) * 1e-6
        found = 0.0 if generator.weight.grad is None else (generator.weight.grad * change).sum().item()
        with torch.no_grad():
            generator.weight += change
            difference = value().item()
            generator.weight -= 2 * change
            difference -= value().item()
            generator.weight += change
        assert found == pytest.approx(difference / 2, rel=1e-3, abs=1e-12)
    assert networks.g_yx.weight.grad.abs().sum() > 0
    assert (networks.g_xy.weight.grad is None) == (name == "grey")  # eq. 6 is of G_YX alone


def test_least_squares_by_hand():
    scores = torch.tensor([[[[0.5, 2.0], [-1.0, 1.0]]]])
    assert least_squares(scores, 1).item() == pytest.approx((0.25 + 1 + 4 + 0) / 4)
    assert least_squares(scores, 0).item() == pytest.approx((0.25 + 4 + 1 + 1) / 4)


def test_masked_mean_is_over_the_pixels_inside():
    mask = torch.zeros(1, 1, 20, 20)
    mask[..., 0, :] = 1  # 5 %
    image, other = torch.ones(1, 3, 20, 20), torch.zeros(1, 3, 20, 20)
    assert masked_l1(image, other, mask).item() == 1
    assert masked_l1(image + 5 * (1 - mask), other, mask).item() == 1
    # 1 px of error 4 in one image and 3 px without error in the other: over the batch, (4 + 0 + 0 + 0) / 4
    few = torch.tensor([[1.0, 0, 0, 0], [0, 1, 1, 1]]).view(2, 1, 1, 4)
    error = torch.tensor([[4.0, 9, 9, 9], [9, 0, 0, 0]]).view(2, 1, 1, 4)
    assert masked_l1(error, torch.zeros_like(error), few).item() == 1


def test_full_mask_and_no_mask_equal_torch_l1_loss(batch):
    expected = nn.L1Loss()(batch.x, batch.y).item()
    assert masked_l1(batch.x, batch.y, None).item() == pytest.approx(expected)
    assert masked_l1(batch.x, batch.y, torch.ones(2, 1, 16, 20)).item() == pytest.approx(expected)


def test_empty_mask_gives_zero_and_no_gradient(batch):
    image = batch.x.requires_grad_()
    loss = masked_l1(image, batch.y, torch.zeros(2, 1, 16, 20))
    loss.backward()
    assert loss.item() == 0
    assert (image.grad == 0).all()


def test_logarithmic_by_hand():
    # D is the sigmoid of a score, so scores of log 3 and −log 3 mean 3/4 and 1/4
    real, generated = torch.tensor([np.log(3.0), -np.log(3.0)]), torch.tensor([0.0, np.log(3.0)])
    discriminator = -((np.log(3 / 4) + np.log(1 / 4)) / 2 + (np.log(1 / 2) + np.log(1 / 4)) / 2) / 2
    assert Logarithmic().discriminator(real, generated).item() == pytest.approx(discriminator)
    assert Logarithmic().generator(generated).item() == pytest.approx(-(np.log(1 / 2) + np.log(3 / 4)) / 2)
    printed = (np.log(1 / 2) + np.log(1 / 4)) / 2
    assert Logarithmic(saturating=True).generator(generated).item() == pytest.approx(printed)


def test_logarithmic_still_teaches_where_the_discriminator_is_sure():
    gradients = []
    for saturating in (False, True):
        score = torch.full((1, 1, 2, 2), -20.0, requires_grad=True)
        Logarithmic(saturating).generator(score).backward()
        gradients.append(score.grad.abs().max().item())
    assert gradients[0] == pytest.approx(1 / 4)
    assert gradients[1] < 1e-8


def test_trainer_and_objective_share_the_criterion(networks, batch):
    terms = {"adv": AdversarialLoss(Logarithmic())}
    f, g, d_x, d_y = map(as_function, networks.named().values())
    value = Objective(terms, {"adv": 1})(Translation(networks, batch.x, batch.y))[0].item()
    scores = [d_y(f(batch.x.numpy())), d_x(g(batch.y.numpy()))]
    assert value == pytest.approx(sum(np.log1p(np.exp(-score)).mean() for score in scores))
    assert isinstance(Objective(terms, {"adv": 1}).criterion, Logarithmic)
    assert isinstance(Objective({"cycle": CycleLoss()}, {"cycle": 1}).criterion, LeastSquares)


@pytest.mark.parametrize(
    ("term", "channels", "paired", "said"),
    [
        ("identity", (3, 2), False, "lambda_identity is 1, but IHC has 3 channel(s) and IF 2"),
        ("grey", (3, 2), False, "lambda_grey is 1, but IHC has 3 channel(s) and IF 2"),
        ("pixel", (3, 3), False, "lambda_pixel is 1, but the images are not paired"),
        ("identity", (2, 3), True, "lambda_identity is 1, but IHC has 2 channel(s) and IF 3"),
        ("grey", (5, 3), True, "lambda_grey is 1, but IHC has 5 channel(s) and IF 3, so IHC need not be grey; set it"),
        ("identity", (1, 3), True, None),
        ("pixel", (5, 3), True, None),
        ("grey", (1, 3), True, None),
        ("grey", (3, 3), True, None),
        ("cycle", (3, 2), False, None),
        ("pixel", (1, 3), True, None),
    ],
)
def test_terms_that_make_no_sense_on_the_data_are_refused(term, channels, paired, said):
    source, target = (Modality(name, number, 0, 255) for name, number in zip(("IHC", "IF"), channels, strict=True))
    data = Datalist(ROOT, 0.5, source, target, paired=paired)
    if said is None:
        assert Objective({term: TERMS[term]}, {term: 1}, data).terms
    else:
        with pytest.raises(InputError, match=re.escape(said)):
            Objective({term: TERMS[term]}, {term: 1}, data)
    assert Objective({term: TERMS[term], "cycle": CycleLoss()}, {term: 0, "cycle": 1}, data).terms


def test_greyscale_by_hand_and_only_for_three_channels():
    pixel = torch.tensor([0.1, 0.4, -0.2]).view(1, 3, 1, 1)
    assert greyscale_consistency(pixel).item() == pytest.approx(0.3 + 0.3 + 0.6)
    assert greyscale_consistency(torch.full((1, 3, 4, 4), 0.3)).item() == 0
    with pytest.raises(ValueError, match="3 channels, got 1"):
        greyscale_consistency(torch.zeros(1, 1, 4, 4))


def test_structure_is_scikit_images_ssim_of_the_cycles(networks, batch):
    # MONAI uses only windows that fit; scikit-image crops its mean to the same ones, so the two agree in full
    f, g, _, _ = map(as_function, networks.named().values())
    gaussian = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "data_range": 1}

    def mean_ssim(images, others):
        return np.mean(
            [structural_similarity(*pair, channel_axis=0, **gaussian) for pair in zip(images, others, strict=True)]
        )

    x, y = batch.x.numpy(), batch.y.numpy()
    in_0_1 = [((image + 1) / 2, (other + 1) / 2) for image, other in ((g(f(x)), x), (f(g(y)), y))]
    expected = 2 - sum(mean_ssim(*pair) for pair in in_0_1)
    assert StructureLoss()(Translation(networks, batch.x, batch.y)).item() == pytest.approx(expected, abs=1e-5)


def test_objective_is_the_weighted_sum_and_reports_terms_unweighted():
    terms = {"one": lambda _: torch.tensor(3.0, requires_grad=True), "two": lambda _: torch.tensor(0.5)}
    total, values = Objective(terms, {"one": 2, "two": 10})(None)
    assert total.item() == 11
    assert {name: value.item() for name, value in values.items()} == {"one": 3, "two": 0.5}
    assert total.requires_grad
    assert not values["one"].requires_grad


@pytest.mark.parametrize(
    ("weights", "passes"),
    [
        (DEFAULTS, (3, 3, 1, 1)),
        ({**DEFAULTS, "identity": 0}, (2, 2, 1, 1)),
        ({**DEFAULTS, "structure": 1}, (3, 3, 1, 1)),
        ({"cycle": 1}, (2, 2, 0, 0)),
        ({"pixel": 6}, (1, 1, 0, 0)),
        ({"grey": 1}, (0, 1, 0, 0)),
        ({"adv": 1}, (1, 1, 1, 1)),
    ],
)
def test_a_term_of_weight_zero_costs_no_forward_pass(weights, passes, networks, batch):
    count = dict.fromkeys(networks.named(), 0)
    for name, network in networks.named().items():
        network.register_forward_hook(lambda *_, name=name: count.update({name: count[name] + 1}))
    weights = {**dict.fromkeys(TERMS, 0), **weights}
    _, values = Objective(TERMS, weights)(Translation(networks, batch.x, batch.y))
    assert tuple(count.values()) == passes
    assert set(values) == {name for name, weight in weights.items() if weight}


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ({"adv": 1}, "the weights are for"),
        ({**DEFAULTS, "extra": 1}, "extra"),
        ({**DEFAULTS, "cycle": -1}, "lambda_cycle is -1"),
        ({**DEFAULTS, "cycle": "6"}, "lambda_cycle is '6'"),
        ({**DEFAULTS, "cycle": float("nan")}, "lambda_cycle is nan"),
        (dict.fromkeys(DEFAULTS, 0), "every lambda"),
    ],
)
def test_impossible_weights_are_refused(weights, message):
    with pytest.raises(InputError, match=message):
        Objective(TERMS, weights)


def test_masked_l1_of_two_processes_has_the_mean_of_one(monkeypatch):
    generator = torch.Generator().manual_seed(0)
    image, other = (torch.rand(4, 3, 6, 6, generator=generator) for _ in range(2))
    mask = (torch.arange(4).view(4, 1, 1, 1) > torch.arange(6)).float().expand(4, 1, 6, 6)  # much more in the last
    alone = masked_l1(image, other, mask)
    monkeypatch.setattr(processes, "processes", lambda: 2)
    monkeypatch.setattr(processes, "summed", lambda own: mask.sum())
    parts = [masked_l1(*(images.chunk(2)[rank] for images in (image, other, mask))) for rank in range(2)]
    assert parts[0] < parts[1] / 2
    assert torch.allclose(sum(parts) / 2, alone)
