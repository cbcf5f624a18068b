"""The ResNet-18 hash: by hand, against torchvision's own network, and of files that are not its weights."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torchvision.models import resnet18
from torchvision.models.feature_extraction import create_feature_extractor
from torchvision.transforms.functional import normalize

from bundle.common.errors import InputError
from bundle.evaluation.unpaired.perceptual_hash import (
    HASH_FILE,
    PerceptualHash,
    bits,
    correlation,
    find_hash,
    normalised,
    similarity,
)
from bundle.images.slides import read_slide

FOLDED = "resnet18_conv1_to_layer2.pth"


@pytest.fixture
def image() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (3, 64, 72), dtype=np.uint8)


def test_similarity_by_hand():
    one, other = np.array([0.0, 1.0, 5.0, 6.0]), np.array([0.0, 9.0, 5.0, 6.0])  # means 3 and 5
    np.testing.assert_array_equal(bits(one), [False, False, True, True])
    np.testing.assert_array_equal(bits(other), [False, True, False, True])
    assert similarity(one, other) == 0.5
    assert similarity(one, one) == 1
    assert similarity(one, -one) == 0
    # deviations (−3, −2, 2, 3) and (−5, 4, 0, 1): Σ = 15 − 8 + 0 + 3 = 10, norms √26 and √42
    assert correlation(one, other) == pytest.approx(10 / np.sqrt(26 * 42))
    assert correlation(one, np.ones(4)) is None


def planted(path, **changes) -> str:
    """Weights by which channel c of layer2 is c + 1 times what red is above ImageNet's mean, and 0 below it."""
    torch.manual_seed(0)
    state = {name: torch.zeros_like(value) for name, value in resnet18(weights=None).state_dict().items()}
    state |= {name: torch.ones_like(value) for name, value in state.items() if name.endswith("running_var")}
    state |= {name: torch.full_like(value, 1e-5) for name, value in state.items() if name.endswith("running_mean")}
    state |= {name: torch.zeros_like(value) for name, value in state.items() if name.endswith("running_mean")}
    state["conv1.weight"][0, 0, 3, 3] = 1  # the pixel itself
    for name in ("bn1.weight", "layer2.0.downsample.1.weight"):
        state[name][:] = np.sqrt(1 + 1e-5)
    state["layer2.0.downsample.0.weight"][:, 0, 0, 0] = torch.arange(1.0, 129)
    torch.save({**state, **changes}, path)
    return str(path)


def test_vector_of_hand_set_weights(tmp_path):
    hashed = PerceptualHash(planted(tmp_path / "weights.pth"))
    even = np.broadcast_to(np.array([255, 0, 0], np.uint8).reshape(3, 1, 1), (3, 32, 32)).copy()
    expected = (1 - 0.485) / 0.229 * np.arange(1, 129)
    np.testing.assert_allclose(hashed(even), expected, rtol=1e-5)
    np.testing.assert_allclose(hashed(255 - even), 0, atol=1e-6)  # ReLU
    assert bits(hashed(even)).sum() == 64  # the mean is that of 64.5


def test_vector_is_that_of_torchvisions_network(tmp_path, image):
    torch.manual_seed(0)
    network = resnet18(weights=None).eval()  # a user's file: with layers 3, 4, fc and num_batches_tracked
    torch.save(network.state_dict(), tmp_path / "whole.pth")
    features = create_feature_extractor(network, ["layer2"])
    with torch.no_grad():
        x = normalize(torch.from_numpy(image) / 255, [0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
        expected = features(x[None])["layer2"].mean((2, 3))[0]
    np.testing.assert_allclose(PerceptualHash(tmp_path / "whole.pth")(image), expected, rtol=1e-4)
    torch.testing.assert_close(normalised(torch.from_numpy(image))[0], x)


def test_imagenets_weights_tell_a_stain_from_another(shared):
    hashed = find_hash(str(shared / "weights" / FOLDED))
    he, ki67 = (read_slide(shared / "data/lung_he_ki67" / name).pixels[:3] for name in ("he.png", "ki67_affine.png"))
    there, beside, other = he[:, 200:456, 200:456], he[:, 230:486, 230:486], ki67[:, 200:456, 200:456]
    vectors = [hashed(np.ascontiguousarray(cut)) for cut in (there, beside, other)]
    assert similarity(vectors[0], vectors[0]) == 1
    assert similarity(vectors[0], vectors[1]) > 0.95  # the same stain, moved
    assert similarity(vectors[0], vectors[2]) < similarity(vectors[0], vectors[1])


def test_weights_are_looked_for_and_no_random_number_is_drawn(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    assert find_hash(None) is None
    (tmp_path / "hub" / "checkpoints").mkdir(parents=True)
    planted(tmp_path / "hub" / "checkpoints" / HASH_FILE)
    torch.manual_seed(1)
    expected = torch.rand(1)
    torch.manual_seed(1)
    assert find_hash(None) is not None
    assert torch.rand(1) == expected


def test_other_weights_and_small_images_are_refused(tmp_path):
    with pytest.raises(InputError, match=r"hash_weights .*nowhere\.pth does not exist"):
        find_hash(str(tmp_path / "nowhere.pth"))
    with pytest.raises(InputError, match="not those of torchvision's ResNet-18: no conv1.weight"):
        PerceptualHash(planted(tmp_path / "other.pth", **{"conv1.weight": torch.zeros(64, 3, 3, 3)}))
    torch.save([1], tmp_path / "list.pth")
    with pytest.raises(InputError, match="no conv1.weight"):
        PerceptualHash(tmp_path / "list.pth")
    with pytest.raises(ValueError, match="at least 16 px, got"):
        PerceptualHash(planted(tmp_path / "weights.pth"))(np.zeros((3, 8, 32), np.uint8))
