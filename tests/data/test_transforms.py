"""Training patches: planted positions, sizes and colours are recovered."""

import numpy as np
import pytest
import torch
from monai.transforms import Compose

from bundle.common.errors import InputError
from bundle.data.transforms import (
    LUMINANCE,
    RandContrastBrightnessd,
    RandLuminanceJitterd,
    RandMaskedPatchd,
    RandPatchZoom,
    jitter,
    jitter_luminance,
)

SIZE = 32
KEYS = ("source", "target", "mask")


def coded(height=96, width=112):
    """Images whose source is each pixel's flat index, so that a patch tells where it was cut."""
    source = np.arange(height * width, dtype=np.float32).reshape(1, height, width)
    mask = np.zeros((1, height, width), bool)
    mask[0, 40:44, 50:53] = mask[0, -36:-35, -42:-41] = True
    return {"source": source, "target": source.repeat(3, 0), "mask": mask, "inside": np.flatnonzero(mask)}


def patches(data, count, low=1.0, high=1.0, inside_key="inside", size=SIZE):
    cut = Compose([RandPatchZoom(low, high), RandMaskedPatchd(KEYS, size, inside_key)])
    return [cut.set_random_state(seed)(data) for seed in range(count)]


def corner(patch, width):
    return divmod(int(patch["source"][0, 0, 0]), width)


def test_a_patch_is_an_exact_crop_of_every_image():
    data = coded()
    for patch in patches(data, 50, inside_key=None):
        top, left = corner(patch, 112)
        for key in KEYS:
            crop = data[key][:, top : top + SIZE, left : left + SIZE]
            assert patch[key].dtype == torch.float32
            assert np.array_equal(patch[key].numpy(), crop)


def test_centres_are_drawn_evenly_from_the_mask():
    data, draws = coded(), 1300
    centres = [int(patch["source"][0, SIZE // 2, SIZE // 2]) for patch in patches(data, draws)]
    places, counts = np.unique(centres, return_counts=True)
    assert np.array_equal(places, data["inside"])  # 13 pixels, each expected 100 times
    assert (np.abs(counts - 100) < 45).all()


def test_centres_are_anywhere_without_masked_sampling():
    tops, lefts = np.array([corner(patch, 112) for patch in patches(coded(), 400, inside_key=None)]).T
    assert (tops.min(), tops.max(), lefts.min(), lefts.max()) == (0, 96 - SIZE, 0, 112 - SIZE)
    assert len(np.unique(tops)) > 40
    assert np.mean(tops == 0) == pytest.approx(17 / 96, abs=0.08)  # centres in rows 0–16 are shifted to row 16


def test_patches_at_the_border_are_shifted_into_the_image():
    data = coded() | {"inside": np.array([0, 96 * 112 - 1])}
    assert {corner(patch, 112) for patch in patches(data, 30)} == {(0, 0), (96 - SIZE, 112 - SIZE)}


@pytest.mark.parametrize("zoom", np.linspace(0.9, 1.1, 9).round(3))
def test_magnification_is_as_drawn_at_constant_size(zoom):
    data = coded()  # with ramps, on which one pixel of the patch advances by 1 / zoom pixels of the image
    data["source"][0] = np.arange(112)
    data["target"][:] = np.arange(96)[:, None]
    (patch,) = patches(data, 1, zoom, zoom)
    assert [patch[key].shape for key in KEYS] == [(c, SIZE, SIZE) for c in (1, 3, 1)]
    across, down = (np.diff(line[2:-2].numpy()) for line in (patch["source"][0, 5], patch["target"][2, :, 5]))
    assert np.allclose(across, 1 / zoom, atol=0.5 / SIZE + 1e-3)  # the region cut is a whole number of pixels
    assert np.allclose(down, across, atol=1e-3)


def test_zoom_is_uniform_between_its_bounds():
    draw = RandPatchZoom(0.5, 1.5).set_random_state(0)
    zooms = np.array([draw({})["zoom"] for _ in range(2000)])
    assert np.allclose(np.quantile(zooms, [0, 0.25, 0.5, 0.75, 1]), [0.5, 0.75, 1, 1.25, 1.5], atol=0.04)


def test_pairs_stay_paired_and_masks_binary_under_zoom():
    data = coded()
    data["mask"][0] = np.random.default_rng(0).random((96, 112)) < 0.5
    for patch in patches(data, 60, 0.7, 1.4):
        assert all(torch.equal(channel, patch["source"][0]) for channel in patch["target"])
        assert set(patch["mask"].unique().tolist()) == {0, 1}


def test_a_zoomed_mask_lies_where_the_image_does():
    data = coded()
    data["mask"] = data["source"] % 112 >= 51  # a straight edge between columns 50 and 51
    data["source"] = np.broadcast_to(np.arange(112, dtype=np.float32), (1, 96, 112)).copy()
    for patch in patches(data, 60, 0.7, 1.4):
        clear = (patch["source"] - 50.5).abs() > 1e-3
        assert torch.equal((patch["source"] > 50.5)[clear], (patch["mask"] > 0)[clear])
        assert clear.any()


@pytest.mark.parametrize("zoom", [0.5, 0.9, 1.0])
def test_an_image_as_small_as_the_patch_is_cut_whole(zoom):
    data = coded(SIZE, SIZE) | {"inside": np.arange(SIZE * SIZE)}
    for patch in patches(data, 10, zoom, zoom):
        assert np.array_equal(patch["source"].numpy(), data["source"])


@pytest.mark.parametrize(("low", "high"), [(0, 1), (-1, 1), (1.1, 0.9)])
def test_impossible_zooms_are_refused(low, high):
    with pytest.raises(InputError, match=f"from {low} to {high}"):
        RandPatchZoom(low, high)


@pytest.mark.parametrize("kind", [RandContrastBrightnessd, RandLuminanceJitterd])
@pytest.mark.parametrize("amounts", [{"contrast": -0.1}, {"brightness": 1}])
def test_impossible_jitters_are_refused(kind, amounts):
    with pytest.raises(InputError, match=f"{next(iter(amounts))} jitter is"):
        kind("source", **amounts)


@pytest.mark.parametrize("channels", [1, 2, 5])
def test_the_jitter_of_a_stain_is_that_of_grey_where_there_is_no_colour(channels):
    image = torch.rand(channels, 8, 8) * 2 - 1
    one, other = (kind("x", prob=1.0).set_random_state(0) for kind in (RandContrastBrightnessd, RandLuminanceJitterd))
    assert torch.equal(one({"x": image})["x"], other({"x": image})["x"])


def test_jitter_by_hand():
    value = torch.tensor([0.0, 0.25, 0.5, 0.75, 1.0])
    assert torch.equal(jitter(value, 1, 1), value)
    assert torch.allclose(jitter(value, 0.5, 1), torch.tensor([0.25, 0.375, 0.5, 0.625, 0.75]))
    assert torch.allclose(jitter(value, 2, 1), torch.tensor([0.0, 0.0, 0.5, 1.0, 1.0]))
    assert torch.allclose(jitter(value, 1, 1.2), torch.tensor([0.0, 0.3, 0.6, 0.9, 1.0]))
    assert torch.allclose(jitter(value, 0.5, 0.8), torch.tensor([0.2, 0.3, 0.4, 0.5, 0.6]))


FACTORS = [(c, b) for c in (0.9, 1.0, 1.1) for b in (0.9, 1.0, 1.1)]


@pytest.mark.parametrize(("contrast", "brightness"), FACTORS)
def test_luminance_jitter_keeps_the_ratios_of_rgb(contrast, brightness):
    rgb = torch.rand(3, 64, 64, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) * 0.95 + 0.05
    rgb[:, :8] = torch.tensor([1.0, 0.3, 0.1]).view(3, 1, 1)  # bright in one channel, which would clip
    rgb[:, 8] = 1
    changed = jitter_luminance(rgb, contrast, brightness).numpy()
    assert changed.min() > 0
    assert changed.max() <= 1 + 1e-12
    assert np.allclose(changed / changed.sum(0), (rgb / rgb.sum(0)).numpy(), rtol=1e-5, atol=0)
    # the luminance is the jittered one, unless the brightest channel has reached 1
    luminance, found = (np.tensordot([0.2126, 0.7152, 0.0722], image, 1) for image in (rgb.numpy(), changed))
    wanted = np.clip(((luminance - 0.5) * contrast + 0.5) * brightness, 0, 1)
    capped = rgb.numpy().max(0) * wanted / luminance > 1
    assert np.allclose(found[~capped], wanted[~capped], rtol=1e-9)
    assert np.allclose(changed.max(0)[capped], 1)
    assert not capped.all()


def test_luminance_jitter_by_hand():
    rgb = torch.tensor([0.4, 0.2, 0.1], dtype=torch.float64).view(3, 1, 1)
    luminance = 0.4 * LUMINANCE[0] + 0.2 * LUMINANCE[1] + 0.1 * LUMINANCE[2]
    factor = ((luminance - 0.5) * 1.1 + 0.5) * 0.9 / luminance
    assert np.allclose(jitter_luminance(rgb, 1.1, 0.9), rgb * factor)
    assert sum(LUMINANCE) == pytest.approx(1)
    full = torch.tensor([1.0, 0.3, 0.1]).view(3, 1, 1)
    assert torch.allclose(jitter_luminance(full, 1, 1.1), full)  # red can grow no further, so nothing does
    assert torch.allclose(jitter_luminance(full * 0.95, 1, 1.1), full)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("contrast", "brightness"), FACTORS)
def test_black_stays_black_under_luminance_jitter(contrast, brightness, dtype):
    assert torch.equal(jitter_luminance(torch.zeros(3, 2, 2, dtype=dtype), contrast, brightness), torch.zeros(3, 2, 2))


def fitted(changed, image):
    """Contrast and brightness of ((v − ½) c + ½) b, from a straight line through the values."""
    slope, offset = np.polyfit((image.flatten() + 1) / 2, (changed.flatten() + 1) / 2, 1)
    brightness = 2 * (offset + slope / 2)
    return slope / brightness, brightness


def test_source_and_target_are_jittered_by_separate_factors_within_their_bounds():
    grey = torch.linspace(-0.7, 0.7, 64).view(1, 8, 8)
    data = {"source": grey, "target": grey.repeat(3, 1, 1)}
    both = Compose([RandContrastBrightnessd("source", 0.1, 0.1), RandLuminanceJitterd("target", 0.1, 0.1)])
    changed = [both.set_random_state(seed)(data) for seed in range(200)]
    factors = np.array([[fitted(patch[key].numpy(), data[key].numpy()) for key in data] for patch in changed])
    flat = factors.reshape(200, 4)  # contrast and brightness of source and of target
    assert np.abs(flat - 1).max() < 0.1 + 1e-3
    assert (flat.min(0) < 0.92).all()
    assert (flat.max(0) > 1.08).all()
    assert np.abs(np.corrcoef(flat.T) - np.eye(4)).max() < 0.25  # drawn independently of each other
