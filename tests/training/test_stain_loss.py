"""The term that says which channel carries which stain."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from skimage.color import rgb2hed

from bundle.common.errors import InputError
from bundle.data.datalist import Modality
from bundle.images import stain_vectors
from bundle.training.losses import AdversarialLoss, Objective
from bundle.training.stain_loss import StainLoss, correlation, densities

CARRIERS = {"DAPI": "hematoxylin", "membrane": "DAB"}
IHC = Modality("IHC", 3, 0, 255)
IF = Modality("IF", 2, 0, 255, channel_names=("DAPI", "membrane"))


def data(source: Modality = IHC, target: Modality = IF) -> SimpleNamespace:
    return SimpleNamespace(source=source, target=target, paired=False)


def smooth(seed: int, channels: int) -> np.ndarray:
    """(C, 64, 64), 0 to 1, features of several px."""
    noise = np.random.default_rng(seed).standard_normal((channels, 64, 64))
    found = gaussian_filter(noise, (0, 4, 4))
    low, high = (end(axis=(1, 2), keepdims=True) for end in (found.min, found.max))
    return (found - low) / (high - low)


def scene(seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Fluorescence of two channels and IHC mixed of the same two: (1, 2, 64, 64) and (1, 3, 64, 64) in [−1, 1]."""
    light = smooth(seed, 2)
    rgb = stain_vectors.mixed(np.stack([light[0], 0 * light[0], light[1]]))
    return tuple(torch.from_numpy(one).float()[None] for one in (2 * light - 1, rgb / 127.5 - 1))


def loss(x, y, fake_x, fake_y, **ids) -> float:
    return float(StainLoss(CARRIERS, data(), **ids)(SimpleNamespace(x=x, y=y, fake_x=fake_x, fake_y=fake_y)))


def test_densities_are_those_of_colour_deconvolution():
    rgb = np.random.default_rng(0).integers(30, 256, (3, 8, 9), np.uint8)
    found = densities(torch.from_numpy(rgb / 127.5 - 1)[None])[0].numpy()
    assert found == pytest.approx(stain_vectors.densities(rgb), abs=1e-4)
    theirs = rgb2hed(rgb.transpose(1, 2, 0)).transpose(2, 0, 1)
    assert np.corrcoef(found[theirs > 0], theirs[theirs > 0])[0, 1] > 0.9999


def test_correlation_is_numpy_s():
    first, second = (torch.from_numpy(np.kron(smooth(seed, 1)[:, ::4, ::4], np.ones((4, 4))))[None] for seed in (1, 2))
    expected = np.corrcoef(first.ravel(), second.ravel())[0, 1]
    assert float(correlation(first, second)) == pytest.approx(expected, abs=0.01)
    assert float(correlation(first, 0 * first)) == 0


def test_it_is_0_where_channels_carry_their_stains_and_large_where_they_are_swapped_or_inverted():
    (light, rgb), (other, tissue) = scene(3), scene(4)
    assert loss(rgb, other, tissue, light) < 0.1
    assert loss(rgb, other, tissue, light.flip(1)) > 0.8  # channels exchanged in one direction
    assert loss(rgb, other, tissue, -light) > 1.9  # light and dark
    assert loss(-rgb, other, -tissue, light, inverted=True) == pytest.approx(loss(rgb, other, tissue, light))


def test_a_generator_is_pulled_to_the_stains():
    light, rgb = scene(5)
    made = torch.zeros_like(light).requires_grad_()
    optimiser = torch.optim.Adam([made], 0.05)
    for _ in range(60):
        found = StainLoss(CARRIERS, data())(SimpleNamespace(x=rgb, y=light, fake_x=rgb, fake_y=made))
        optimiser.zero_grad()
        found.backward()
        optimiser.step()
    assert float(correlation(made, light).min()) > 0.8
    black = torch.full_like(rgb, -1).requires_grad_()
    StainLoss(CARRIERS, data())(SimpleNamespace(x=rgb, y=light, fake_x=black, fake_y=light)).backward()
    assert torch.isfinite(black.grad).all()


@pytest.mark.parametrize(
    ("carriers", "declared", "message"),
    [
        (
            {"nuclei": "DAB"},
            data(),
            "lambda_stain is 1, but carriers has 'nuclei': 'DAB'; the channels are DAPI, membrane",
        ),
        (
            {"DAPI": "Giemsa"},
            data(),
            "carriers has 'DAPI': 'Giemsa'; the channels are DAPI, membrane, the stains hemat",
        ),
        ({}, data(), "carriers is {}; give channels their stains, --carriers '{DAPI: hematoxylin}'"),
        (None, data(), "carriers is None; give channels"),
        (
            CARRIERS,
            data(target=Modality("IF", 2, 0, 255)),
            "the datalist names no channels of IF; give it channel_names",
        ),
        (CARRIERS, data(target=IHC), "it goes from a brightfield source to fluorescence"),
    ],
)
def test_what_makes_no_sense_is_refused_only_if_it_has_a_weight(carriers, declared, message):
    terms = {"adv": AdversarialLoss(), "stain": StainLoss(carriers, declared)}
    with pytest.raises(InputError) as caught:
        Objective(terms, {"adv": 1, "stain": 1}, declared)
    assert message in str(caught.value)
    assert set(Objective(terms, {"adv": 1, "stain": 0}, declared).terms) == {"adv"}
