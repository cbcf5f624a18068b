"""A generator whose stain depends on its field alone: what a pixel sees, and that windows of any size agree."""

import pytest
import torch

from bundle.common.errors import InputError
from bundle.networks import FieldGenerator

SIZES = [(2, 1), (3, 2), (4, 2), (1, 3), (2, 4)]  # levels, middle


def made(seed=0, **arguments) -> FieldGenerator:
    torch.manual_seed(seed)
    return FieldGenerator(**{"width": 2, **arguments}).double().eval()


@pytest.mark.parametrize(("levels", "middle"), SIZES)
def test_a_pixel_sees_its_halo_and_no_further(levels, middle):
    network = made(levels=levels, middle=middle)
    multiple, halo = network.multiple, network.halo
    begin = halo + multiple
    image = torch.randn(1, 3, 2 * begin + multiple, 2 * begin + multiple, dtype=torch.double, requires_grad=True)
    window = slice(begin, begin + multiple)
    seen = torch.autograd.grad(network(image)[..., window, window].abs().sum(), image)[0].abs().sum((0, 1))
    for axis in (0, 1):
        places = seen.sum(axis).nonzero().flatten()
        reach = max(begin - int(places.min()), int(places.max()) - (begin + multiple - 1))
        assert halo - multiple < reach <= halo  # no further, and the next smaller multiple would be too little


def test_windows_with_a_halo_are_the_whole():
    network = made(levels=2, middle=1)
    whole, halo = torch.randn(1, 3, 90, 117, dtype=torch.double), network.halo
    with torch.no_grad():
        expected = network(whole)
        for top, left, side in ((0, 0, 32), (32, 64, 40), (64, 40, 48)):
            begin = max(top - halo, 0), max(left - halo, 0)
            seen = whole[..., begin[0] : top + side + halo, begin[1] : left + side + halo]
            window = network(seen)[..., top - begin[0] :, left - begin[1] :][..., :side, :side]
            wanted = expected[..., top : top + side, left : left + side]
            torch.testing.assert_close(window, wanted, rtol=0, atol=1e-12)
            assert window.shape == wanted.shape


def test_what_else_is_in_the_window_does_not_matter():
    network, image = made(levels=2, middle=1), torch.randn(1, 3, 128, 64, dtype=torch.double)
    other = image.clone()
    other[..., 64 + network.halo :, :] = 3.0  # a screw, say
    with torch.no_grad():
        assert torch.equal(network(image)[..., :64, :], network(other)[..., :64, :])


def test_the_source_is_standardised():
    image = torch.rand(1, 3, 16, 16, dtype=torch.double)
    plain, told = made(levels=1, middle=1), made(levels=1, middle=1, statistics=[-0.4, 0.25])
    with torch.no_grad():
        torch.testing.assert_close(told(0.25 * image - 0.4), plain(image), rtol=0, atol=1e-12)


def test_any_size_and_torchscript():
    network = FieldGenerator(width=2, levels=3).eval()
    image = torch.rand(2, 3, 37, 21)
    with torch.no_grad():
        stain = network(image)
        torch.testing.assert_close(torch.jit.script(network)(image), stain)
    assert stain.shape == (2, 3, 37, 21)
    assert stain.abs().max() < 1


def test_it_has_no_statistics_of_the_window():
    names = {type(module).__name__ for module in FieldGenerator(width=2).modules()}
    assert not [name for name in names if "BatchNorm" in name or "InstanceNorm" in name or "GroupNorm" in name]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"width": 0}, "width is 0"),
        ({"levels": 1.5}, "levels is 1.5"),
        ({"middle": True}, "middle is True"),
        ({"statistics": (0.1, 0.0)}, "the second, the deviation, must be above 0"),
    ],
)
def test_arguments_that_make_no_sense(arguments, message):
    with pytest.raises(InputError, match=message):
        FieldGenerator(**arguments)


def test_a_flat_source_gets_a_flat_stain_whatever_the_weights():
    """No grid of the pixel shuffle's four pixels, which learn to differ."""
    torch.manual_seed(0)
    network = FieldGenerator(width=4)
    torch.nn.init.normal_(network.spread[1].weight, std=0.2)
    side = 2 * network.halo + 32
    with torch.inference_mode():
        stain = network(torch.full((1, 3, side, side), 0.3))
        before = network.spread[:3](network.stem(torch.full((1, 3, side, side), 0.3)))
    middle = (..., slice(network.halo, -network.halo), slice(network.halo, -network.halo))
    assert before[middle].flatten(2).std(-1).max() > 0.1
    assert stain[middle].flatten(2).std(-1).max() < 1e-5
