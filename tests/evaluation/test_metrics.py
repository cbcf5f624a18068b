"""Metrics against scikit-image called directly, published LPIPS values and a brute-force tiling."""

import numpy as np
import pytest
import torch
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from bundle.common.errors import InputError
from bundle.evaluation.resolution import detail_ratio, flat_gain, resolution_px, ring_correlation, split_counts
from bundle.evaluation.resolution_command import resolution as measure
from bundle.evaluation.similarity import (
    LPIPS_BATCH,
    LPIPS_FILE,
    Lpips,
    find_lpips,
    gradient_correlation,
    patch_corners,
    psnr,
    ssim,
    ssim_inside,
)
from bundle.images.slides import write_slide

SCIKIT_IMAGE = {"channel_axis": -1, "data_range": 255}


def slides(count=2, side=64, seed=0):
    """Random slides with the first blurred into the second, so that they are alike in part."""
    rng = np.random.default_rng(seed)
    images = rng.integers(0, 256, (count, 3, side, side), dtype=np.uint8)
    images[1] = images[1] // 4 + images[0] // 2
    return images


def hwc(image):
    return np.ascontiguousarray(image.transpose(1, 2, 0))


@pytest.fixture(scope="module")
def weights(shared):
    return shared / "weights/squeezenet1_1_features.pth"


@pytest.fixture(scope="module")
def lpips(weights):
    return Lpips(weights)


def test_ssim_is_scikit_images_with_its_defaults():
    image, reference = slides()
    expected = structural_similarity(hwc(reference), hwc(image), **SCIKIT_IMAGE)
    assert ssim(image, reference) == pytest.approx(expected, abs=1e-12)
    assert 0.1 < expected < 0.9
    assert ssim(image, image) == 1


def test_psnr_is_scikit_images_and_infinite_for_equal_slides():
    image, reference = slides()
    expected = peak_signal_noise_ratio(hwc(reference), hwc(image), data_range=255)
    assert psnr(image, reference) == pytest.approx(expected, abs=1e-12)
    assert psnr(np.full((3, 8, 8), 10, np.uint8), np.full((3, 8, 8), 20, np.uint8)) == pytest.approx(
        10 * np.log10(255**2 / 100)
    )
    assert psnr(image, image) == float("inf")


def test_ssim_inside_is_the_mean_over_the_masks_pixels():
    image, reference = slides()
    inner = np.zeros((64, 64), bool)
    inner[3:-3, 3:-3] = True  # scikit-image leaves half a window of 7 px out of its mean
    expected = structural_similarity(hwc(reference), hwc(image), **SCIKIT_IMAGE)
    assert ssim_inside(image, reference, inner) == pytest.approx(expected, abs=1e-9)
    assert ssim_inside(image, reference, np.ones((64, 64), bool)) == pytest.approx(expected, abs=0.02)


def test_ssim_inside_does_not_look_outside():
    image, reference = slides()
    reference[:, :, :32] = image[:, :, :32]
    left, right = np.zeros((2, 64, 64), bool)
    left[:, :28], right[:, 36:] = True, True
    assert ssim_inside(image, reference, left) == pytest.approx(1)
    assert ssim_inside(image, reference, right) < 0.9


def test_lpips_gives_the_values_that_torchmetrics_documents(lpips):
    generator = torch.Generator().manual_seed(42)
    image, reference = (torch.rand(2, 3, 100, 100, generator=generator) * 2 - 1 for _ in range(2))
    assert lpips(image, reference).tolist() == pytest.approx([0.1024, 0.0938], abs=1e-4)
    assert lpips(image, image).tolist() == [0, 0]


def test_lpips_of_slides_equals_one_image_at_a_time(lpips):
    count = LPIPS_BATCH + 3
    images, references = slides(count), slides(count, seed=1)
    expected = [
        lpips(*(torch.from_numpy(slide[None] / 255 * 2 - 1).float() for slide in pair)).item()
        for pair in zip(images, references, strict=True)
    ]
    found = lpips.of_slides({"ours": images, "same": references}, references)
    assert found["ours"] == pytest.approx(expected, abs=1e-5)
    assert found["same"] == [0] * count
    assert np.ptp(expected) > 0.01


def test_lpips_is_the_librarys_to_the_bit_and_takes_each_reference_once(lpips, monkeypatch):
    stains, references = {name: slides(4, seed=seed) for seed, name in enumerate("abc")}, slides(4, seed=5)
    scaled = {name: torch.from_numpy(each).float() / 127.5 - 1 for name, each in {**stains, "": references}.items()}
    with torch.no_grad():
        expected = {name: lpips.network(scaled[name], scaled[""]).flatten().tolist() for name in stains}
    seen = []
    passed = lpips.network.net.forward
    monkeypatch.setattr(lpips.network.net, "forward", lambda x: seen.append(len(x)) or passed(x))
    assert lpips.of_slides(stains, references) == expected
    assert seen == [4] * 4
    assert lpips(scaled["a"], scaled[""]).tolist() == expected["a"]


@pytest.mark.parametrize("name", ["resnet18_conv1_to_layer2.pth", "missing.pth"])
def test_other_or_missing_weights_are_refused(name, shared):
    path = shared / "weights" / name
    with pytest.raises(InputError, match=name):
        Lpips(path)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda content: content[: len(content) // 2],
        lambda content: b"",
        lambda content: b"<html>404</html>",
        lambda content: b"QF\x7f\xc9`",
    ],
    ids=["truncated", "empty", "web page", "garbage"],
)
def test_corrupt_weights_are_refused(spoil, weights, tmp_path):
    path = tmp_path / "weights.pth"
    path.write_bytes(spoil(weights.read_bytes()))
    with pytest.raises(InputError, match=r"weights\.pth"):
        Lpips(path)


@pytest.mark.parametrize(
    "change", [lambda state: state.popitem(), lambda state: state.update({"features.0.bias": torch.ones(3)})]
)
def test_weights_that_lack_a_layer_or_have_another_shape_are_refused(change, weights, tmp_path):
    state = torch.load(weights, weights_only=True)
    change(state)
    torch.save(state, tmp_path / "weights.pth")
    with pytest.raises(InputError, match="features"):
        Lpips(tmp_path / "weights.pth")


def ramp(slope: float, along: int) -> np.ndarray:
    """(40, 50), rising along an axis."""
    return slope * np.indices((40, 50))[along].astype(float)


def test_gradient_correlation_of_ramps_is_known_by_hand():
    inner = np.zeros((40, 50), bool)
    inner[8:-8, 8:-8] = True
    down, right = ramp(1, 0), ramp(1, 1)
    assert gradient_correlation(down, right, inner) == pytest.approx(0)  # perpendicular
    assert gradient_correlation(3 * right + 7, right, inner) == pytest.approx(1)
    assert gradient_correlation(-right, right, inner) == pytest.approx(-1)
    assert gradient_correlation(down + right, right, inner) == pytest.approx(1 / np.sqrt(2))
    assert gradient_correlation(3 * down + 4 * right, right, inner) == pytest.approx(4 / 5)


def test_gradients_see_neither_outside_the_mask_nor_an_even_image():
    rng = np.random.default_rng(0)
    real, other = rng.normal(100, 20, (2, 64, 64))
    mask = np.zeros((64, 64), bool)
    mask[:, 8:28] = True
    other[:, :36] = real[:, :36]
    assert gradient_correlation(other, real, mask) == pytest.approx(1)
    assert detail_ratio(other, real, mask) == pytest.approx(1)
    even = np.full_like(real, 7.0)
    assert gradient_correlation(even, real, mask) == 0
    assert detail_ratio(even, real, mask) == 0
    for compare in (gradient_correlation, detail_ratio):
        assert compare(real, even, mask) is None
        assert compare(real, real, np.zeros_like(mask)) is None


def test_an_edge_moved_by_a_pixel_or_two_keeps_what_the_equation_says():
    edge = np.where(np.indices((64, 400))[1] < 200, 0.0, 200.0)
    mask = np.ones(edge.shape, bool)
    for px in (1, 2):
        found = gradient_correlation(np.roll(edge, px, 1)[:, 20:-20], edge[:, 20:-20], mask[:, 20:-20])
        assert found == pytest.approx(np.exp(-(px**2) / 4), abs=0.04)  # pixels are no points


def test_find_lpips_looks_in_the_torch_hub_cache_only_when_no_file_is_named(weights, lpips, tmp_path, monkeypatch):
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    assert find_lpips(None) is None
    with pytest.raises(InputError, match="nowhere"):
        find_lpips("nowhere.pth")
    images, references = slides(), slides(seed=1)
    expected = lpips.of_slides({"": images}, references)
    assert find_lpips(str(weights)).of_slides({"": images}, references) == expected
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / LPIPS_FILE).symlink_to(weights)
    assert find_lpips(None).of_slides({"": images}, references) == expected


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ((10, 7), [(top, left) for top in (0, 3, 6) for left in (0, 3)]),
        ((11, 8), [(top, left) for top in (0, 3, 6, 7) for left in (0, 3, 4)]),  # flush with the border
        ((4, 4), [(0, 0)]),
        ((4, 5), [(0, 0), (0, 1)]),
    ],
)
def test_patch_corners_by_hand(size, expected):
    assert list(patch_corners(*size, patch=4, stride=3)) == expected


def test_patches_cover_every_pixel_and_stay_inside():
    covered = np.zeros((37, 50), int)
    for top, left in patch_corners(37, 50, patch=16, stride=11):
        assert covered[top : top + 16, left : left + 16].shape == (16, 16)
        covered[top : top + 16, left : left + 16] += 1
    assert covered.min() >= 1


def band_limited(cutoff: float, side: int = 512, seed: int = 0) -> np.ndarray:
    """Noise without any power above ``cutoff`` cycles/px, mean 0, standard deviation 1."""
    spectrum = np.fft.fft2(np.random.default_rng(seed).normal(size=(side, side)))
    frequency = np.hypot(np.fft.fftfreq(side)[:, None], np.fft.fftfreq(side)[None, :])
    image = np.fft.ifft2(np.where(frequency <= cutoff, spectrum, 0)).real
    return image / image.std()


@pytest.mark.parametrize("cutoff", [0.08, 0.15, 0.3])
def test_ring_correlation_finds_the_cut_off_of_a_band_limited_image(cutoff):
    rng = np.random.default_rng(1)
    signal = band_limited(cutoff)
    noisy = [signal + rng.normal(0, 0.3, signal.shape) for _ in range(2)]
    assert 1 / resolution_px(*ring_correlation(*noisy)) == pytest.approx(cutoff, abs=4 / 512)  # four rings


@pytest.mark.parametrize("cutoff", [0.08, 0.2])
def test_one_image_of_counts_gives_its_cut_off_too(cutoff):
    rng = np.random.default_rng(1)
    counts = rng.poisson(np.clip(200 + 50 * band_limited(cutoff), 0, None))
    halves = split_counts(counts, rng)
    np.testing.assert_array_equal(halves[0] + halves[1], counts)
    assert 1 / resolution_px(*ring_correlation(*halves)) == pytest.approx(cutoff, abs=4 / 512)


def test_ring_correlation_of_equal_inverted_and_unrelated_images():
    one, other = band_limited(0.5), band_limited(0.5, seed=9)
    frequency, same = ring_correlation(one, one)
    assert frequency[-1] == 0.5
    np.testing.assert_allclose(same, 1)
    np.testing.assert_allclose(ring_correlation(one, -3 * one + 7)[1], -1, atol=1e-9)
    assert np.abs(ring_correlation(one, other)[1][20:]).max() < 0.3
    assert resolution_px(frequency, same) == 2.0
    assert resolution_px(frequency, np.zeros_like(same)) == float("inf")


def test_a_lower_threshold_claims_a_finer_resolution():
    frequency = np.linspace(0.01, 0.5, 50)
    falling = 1 - 2 * frequency
    found = [resolution_px(frequency, falling, threshold, smoothing=1e-3) for threshold in (0.5, 1 / 7)]
    assert found == [pytest.approx(1 / 0.25), pytest.approx(2 / (1 - 1 / 7))]


def test_the_gain_of_counts_is_found_on_a_flat_part():
    counts = np.random.default_rng(0).poisson(np.full((80, 60), 50.0))
    assert flat_gain(7.0 * counts + 300, 5, 5, 70, 50, offset=300) == pytest.approx(7, rel=0.1)
    for part, message in (((0, 50, 20, 20), "the image is 80×60 px"), ((-1, 0, 9, 9), "flat is rows -1")):
        with pytest.raises(InputError, match=message):
            flat_gain(counts, *part)
    with pytest.raises(InputError, match="variance 0"):
        flat_gain(np.ones((9, 9)), 0, 0, 9, 9)


def test_the_script_names_the_resolution_and_refuses_to_guess_a_gain(tmp_path, capsys):
    rng = np.random.default_rng(1)
    flat = np.full((512, 40), 200.0)
    counts = rng.poisson(np.hstack([np.clip(200 + 50 * band_limited(0.1), 0, None), flat]))
    path, inverse = tmp_path / "counts.tif", tmp_path / "inverse.tif"
    write_slide(path, (40 * counts[None]).astype(np.uint16), pixel_um=5.0)
    write_slide(inverse, (65535 - 40 * counts[None]).astype(np.uint16), pixel_um=5.0)
    measure(str(path), gain=40)
    measure(str(path), flat=[0, 512, 512, 40])
    measure(str(path), str(inverse), between=True)  # a negative shows the same structure
    given, found, both = (float(line.split("(")[1].split(" px")[0]) for line in capsys.readouterr().out.splitlines())
    assert given == pytest.approx(10, rel=0.1)
    assert found == pytest.approx(10, rel=0.1)
    assert both == 2
    for options, message in (
        ({}, "pass --gain, the value of one count, or --flat"),
        ({"gain": 0}, "gain is 0"),
        ({"flat": [1, 2]}, "flat is .1, 2.; give"),
        ({"gain": 40, "offset": 1e5}, "cannot be counts; lower it"),
    ):
        with pytest.raises(InputError, match=message):
            measure(str(path), **options)
