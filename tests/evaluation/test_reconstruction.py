"""Measures of a reconstruction against other libraries, and the scores of a run's epochs."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import torch
from skimage.metrics import structural_similarity
from torchmetrics.functional.image import (
    multiscale_structural_similarity_index_measure,
    peak_signal_noise_ratio,
)

from bundle.common.errors import InputError
from bundle.evaluation.unpaired.reconstruction import MEASURES, Cycle, load_cycle, measures, ms_ssim, scales, weights_of
from bundle.networks import ResnetGenerator
from bundle.staining.model import model_in_memory
from tests.conftest import ROOT


def pair(height: int, width: int, channels: int = 3) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(height)
    coarse = torch.from_numpy(rng.random((1, channels, height // 4 + 1, width // 4 + 1), dtype=np.float32))
    smooth = torch.nn.functional.interpolate(coarse, size=(height, width), mode="bilinear")[0].numpy() * 255
    noisy = np.clip(smooth + rng.normal(0, 25, smooth.shape), 0, 255)
    return noisy.astype(np.uint8), smooth.astype(np.uint8)


@pytest.mark.parametrize(
    ("height", "width", "count"), [(288, 288, 5), (176, 200, 5), (175, 300, 4), (98, 98, 3), (43, 90, 2)]
)
@pytest.mark.parametrize("channels", [2, 3])
def test_ms_ssim_is_that_of_torchmetrics(height, width, count, channels):
    image, reference = pair(height, width, channels)
    assert scales(height, width) == count
    weights = weights_of(count)
    assert sum(weights) == pytest.approx(1, abs=1e-3)
    assert np.array(weights[:2]) * 0.2856 == pytest.approx(np.array([0.0448, 0.2856]) * weights[1])
    batch = [torch.from_numpy(one)[None].double() for one in (image, reference)]
    expected = multiscale_structural_similarity_index_measure(*batch, data_range=255.0, betas=tuple(weights))
    # torchmetrics mirrors the border at the last scale, MONAI stays inside: it tells where that scale is small
    assert ms_ssim(image, reference) == pytest.approx(float(expected), abs=3e-4 if min(height, width) > 100 else 8e-3)


def test_ms_ssim_with_room_for_one_scale_is_not_computed():
    assert ms_ssim(*pair(21, 40)) is None
    assert scales(10, 40) == 0


def test_measures_of_a_reconstruction():
    image, reference = pair(64, 80)
    found = measures(image, reference)
    assert tuple(found) == MEASURES
    assert found["ssim"] == pytest.approx(structural_similarity(image, reference, channel_axis=0), abs=1e-9)
    expected = peak_signal_noise_ratio(
        *(torch.from_numpy(one).double() for one in (image, reference)), data_range=255.0
    )
    assert found["psnr"] == pytest.approx(float(expected), abs=1e-4)
    assert found["mae"] == pytest.approx(np.abs(image.astype(float) - reference).mean())
    same = measures(image, image)
    assert (same["ssim"], same["psnr"], same["mae"]) == (1, float("inf"), 0)
    assert same["ms_ssim"] == pytest.approx(1)


def test_a_cycle_is_both_networks_one_after_the_other_in_8_bits():
    networks = {
        "forward": ResnetGenerator(in_channels=3, out_channels=2, width=4, blocks=1),
        "reverse": ResnetGenerator(in_channels=2, out_channels=3, width=4, blocks=1),
    }
    inference = json.loads((ROOT / "configs" / "inference.json").read_text())
    inference |= {"window": 32, "step": 16, "bone_intensity": None, "background_intensity": None}
    levels = {"bone_intensity": None, "background_intensity": None}
    inference |= {"source": {"name": "IHC", "channels": 3, "range": [0, 255], **levels}}
    inference |= {"target": {"name": "IF", "channels": 2, "range": [0, 4095]}}
    channels = {"in_channels": "$3 if @forward else 2", "out_channels": "$2 if @forward else 3"}
    inference["network_def"] = {"_target_": "bundle.networks.ResnetGenerator", "width": 4, "blocks": 1, **channels}
    forward = model_in_memory(inference, networks["forward"].state_dict(), "cpu")
    reverse = model_in_memory(inference, networks["reverse"].state_dict(), "cpu", "reverse", output_range=[0.0, 255.0])
    cycle = Cycle(forward, reverse)

    @torch.no_grad()
    def applied(direction: str, image: np.ndarray) -> np.ndarray:
        """An image on the scale 0 to 255, to the same scale."""
        pred = networks[direction].eval()(torch.from_numpy(image / 127.5 - 1).float()[None])[0]
        return ((pred.numpy() + 1) * 127.5).round().clip(0, 255)

    source = pair(32, 32, 3)[0]
    image, there, back = cycle("source", source)
    np.testing.assert_array_equal(image, source)
    np.testing.assert_allclose(there.astype(float), applied("forward", source), atol=1)
    np.testing.assert_allclose(back.astype(float), applied("reverse", there.astype(float)), atol=1)
    target = pair(32, 32, 2)[0].astype(np.uint16) * 16
    image, there, back = cycle("target", target)
    np.testing.assert_allclose(image, target / 4095 * 255, atol=0.51)
    np.testing.assert_allclose(there.astype(float), applied("reverse", target / 4095 * 255), atol=1)
    np.testing.assert_allclose(back.astype(float), applied("forward", there.astype(float)), atol=1)
    assert (there.shape, back.shape, there.dtype) == ((3, 32, 32), (2, 32, 32), np.uint8)


def test_a_method_with_no_way_back_is_refused(trained, tmp_path):
    bundle = shutil.copytree(trained / "bundle", tmp_path / "bundle")
    (bundle / "reverse.pt").unlink()
    with pytest.raises(InputError, match="has no reverse.pt: this method has no way back"):
        load_cycle(bundle, "cpu")
