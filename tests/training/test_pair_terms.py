"""Pair terms that forgive misregistration: planted displacements are found, and cost nothing."""

import numpy as np
import pytest
import torch
from scipy.ndimage import grey_dilation, grey_erosion, map_coordinates
from torch.nn import functional as F  # noqa: N812

from bundle.common.errors import InputError
from bundle.preparation.dataset_variants import displacement as misalignment
from bundle.training.block_matching import displacement, resampled
from bundle.training.losses import masked_l1
from bundle.training.pair_terms import RegisteredPixelLoss
from bundle.training.translation import Networks, Translation

PLAIN = {"reach_px": 0, "extremes": 0}


def texture(size: int = 160, seed: int = 0) -> torch.Tensor:
    torch.manual_seed(seed)
    coarse = F.interpolate(torch.randn(2, 3, size // 5, size // 5), size=(size, size), mode="bicubic")
    return torch.tanh(0.5 * coarse + 0.1 * torch.randn(2, 3, size, size))


def loss_of(image, target, mask=None, **arguments):
    translation = Translation(Networks(g_xy=torch.nn.Identity()), image, target, mask=mask)
    return RegisteredPixelLoss(**arguments)(translation)


@pytest.mark.parametrize("shift", [(0, 0), (3, -4), (-2.5, 1.5), (6, 6)])
def test_a_planted_shift_is_found(shift):
    whole = texture()
    image = whole[..., 16:144, 16:144]
    field = torch.tensor(shift, dtype=torch.float32).view(1, 2, 1, 1).expand(2, 2, 160, 160)
    moved = resampled(whole, -field)[..., 16:144, 16:144]
    found = displacement(image, moved, torch.ones(2, 1, 128, 128))[..., 16:112, 16:112]
    assert (found - torch.tensor(shift).view(1, 2, 1, 1)).abs().mean() < 0.5
    assert (found - torch.tensor(shift).view(1, 2, 1, 1)).abs().max() < 1.0


def test_a_planted_warp_costs_a_small_part_of_what_it_costs_a_pixel_term():
    image = texture(128)
    places = np.indices((128, 128)) + misalignment((128, 128), 3.0, np.random.default_rng(1))
    moved = torch.tensor(
        np.stack([[map_coordinates(c, places, order=1, mode="nearest") for c in each] for each in image.numpy()])
    )
    mask = torch.zeros(2, 1, 128, 128)
    mask[..., 12:-12, 12:-12] = 1
    plain, forgiving = (loss_of(image, moved, mask, extremes=0, reach_px=reach, block_px=32) for reach in (0, 8))
    assert forgiving < 0.45 * plain


def test_without_structure_nothing_moves():
    flat = torch.zeros(1, 3, 64, 64)
    assert displacement(flat, flat + 0.3, torch.ones(1, 1, 64, 64)).abs().max() < 1e-3


def test_what_the_mask_hides_does_not_pull():
    image = texture()[..., :128, :128]
    moved = torch.roll(image, (0, 4), (2, 3))
    mask = torch.ones(2, 1, 128, 128)
    mask[..., :64, :] = 0
    garbage = moved.clone()
    garbage[..., :64, :] = texture(seed=5)[..., :64, :128]
    found = [displacement(image, other, mask)[..., 88:120, 24:104] for other in (moved, garbage)]
    torch.testing.assert_close(*found)


def test_resampled_is_scipys_map_coordinates():
    image, field = texture(40)[:1], 3 * torch.randn(1, 2, 40, 40)
    places = np.indices((40, 40)) + field[0].numpy()
    expected = [map_coordinates(channel, places, order=1, mode="nearest") for channel in image[0].numpy()]
    np.testing.assert_allclose(resampled(image, field)[0], expected, atol=1e-4)


@pytest.mark.parametrize("masked", [False, True])
def test_without_reach_and_extremes_it_is_equation_9(masked):
    image, target = texture(32), texture(32, 1)
    mask = (torch.rand(2, 1, 32, 32) < 0.4).float() if masked else None
    assert loss_of(image, target, mask, **PLAIN) == masked_l1(image, target, mask)


def test_extremes_are_scipys_grey_morphology():
    image, target = texture(32), texture(32, 1)
    square = {"size": (1, 1, 5, 5), "mode": "nearest"}
    expected = np.abs(image - target).numpy().mean()
    for extreme in (grey_dilation, grey_erosion):
        expected += 0.7 / 2 * np.abs(extreme(image.numpy(), **square) - extreme(target.numpy(), **square)).mean()
    found = loss_of(image, target, reach_px=0, extremes=0.7, extreme_px=5)
    assert found.item() == pytest.approx(expected, rel=1e-5)


def test_a_spot_beside_its_place_beats_no_spot():
    """The reason for the extremes: to a pixel term a spot two pixels off is worse than none."""
    target = torch.full((1, 3, 33, 33), 0.5)
    beside = target.clone()
    target[..., 16:18, 16:18] = -0.5
    beside[..., 16:18, 18:20] = -0.5
    none = torch.full_like(target, 0.5)
    pixels = [loss_of(image, target, **PLAIN).item() for image in (beside, none)]
    extremes = [loss_of(image, target, reach_px=0, extreme_px=5, extremes=1).item() for image in (beside, none)]
    assert pixels[0] == pytest.approx(2 * pixels[1])
    assert extremes[0] < extremes[1]


def test_the_gradient_reaches_the_generator_and_not_the_field():
    image, target = texture(64).requires_grad_(), texture(64, 1)
    loss_of(image, target).backward()
    assert image.grad is not None
    assert torch.isfinite(image.grad).all()
    assert image.grad.abs().sum() > 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"reach_px": 3}, "reach_px is 3; it must be 0 or a whole even number"),
        ({"reach_px": -2}, "reach_px is -2"),
        ({"block_px": 4}, "block_px is 4"),
        ({"extreme_px": 2}, "extreme_px is 2; it must be a whole odd number"),
        ({"extremes": -1}, "extremes is -1"),
        ({"rest": float("nan")}, "rest is nan"),
    ],
)
def test_arguments_that_make_no_sense(arguments, message):
    with pytest.raises(InputError, match=message):
        RegisteredPixelLoss(**arguments)
