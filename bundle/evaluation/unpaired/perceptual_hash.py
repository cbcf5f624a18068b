"""How alike two stains look without a pixel laid on a pixel: the ResNet-18 perceptual hash (Liu et al. §5.2)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torchvision.models import resnet18

from bundle.common.errors import InputError
from bundle.networks.checkpoints import load_tensors

HASH_FILE = "resnet18-f37072fd.pth"  # torchvision's name for it in the torch hub cache
HASH_MISSING = (
    "Perceptual hash not computed: no ResNet-18 weights. Pass --hash_weights FILE (torchvision's ResNet-18, ImageNet), "
    "or let torchvision fetch them once: "
    "python -c \"import torchvision; torchvision.models.resnet18(weights='DEFAULT')\"."
)
LAYERS = ("conv1", "bn1", "relu", "maxpool", "layer1", "layer2")
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # what torchvision trained it with
LEAST_PX = 16  # a layer2 of 2×2


class PerceptualHash:
    """The channel means of an image at ``layer2`` of torchvision's ResNet-18 ("the second layer", §5.2).

    The paper selects "several mainly correlated features" and does not say which, so all 128 channels are taken.

    Args:
        weights: of torchvision's ResNet-18 trained on ImageNet, as a state dict; layers after ``layer2`` may be
            missing.
        device: where to compute it.

    Raises:
        InputError: if the file is missing, corrupt or of another network.
    """

    def __init__(self, weights: str | Path, device: str | torch.device = "cpu") -> None:
        path = Path(weights)
        if not path.is_file():
            raise InputError(f"hash_weights {path} does not exist; it is torchvision's ResNet-18, ImageNet.")
        state = load_tensors(path)
        with torch.device("meta"):  # draws no random weight: every one of them is replaced
            whole = resnet18(weights=None)
        network = nn.Sequential()
        for layer in LAYERS:
            network.add_module(layer, getattr(whole, layer))
        found = {}
        for name, expected in network.state_dict().items():
            value = state.get(name) if isinstance(state, dict) else None
            if value is None and name.endswith("num_batches_tracked"):  # counts training steps, changes nothing
                value = torch.zeros((), dtype=torch.long)
            if value is None or value.shape != expected.shape:
                raise InputError(f"hash_weights {path} are not those of torchvision's ResNet-18: no {name}.")
            found[name] = value
        network.load_state_dict(found, assign=True)
        self.device = torch.device(device)
        self.network = network.to(self.device).eval()

    @torch.no_grad()
    def __call__(self, image: np.ndarray) -> np.ndarray:
        """The vector of one image, at the resolution it has; ImageNet's normalisation, no resizing.

        Args:
            image: (3, H, W), uint8, at least 16 px.

        Returns:
            (128,), float64, at least 0: the mean of each channel over the image.

        Raises:
            ValueError: if the image is smaller, or has not three channels.
        """
        if len(image) != 3 or min(image.shape[1:]) < LEAST_PX:
            raise ValueError(f"the hash needs (3, H, W) of at least {LEAST_PX} px, got {image.shape}")
        features = self.network(normalised(torch.from_numpy(image)).to(self.device))
        return features.mean((0, 2, 3)).double().cpu().numpy()


def normalised(image: Tensor) -> Tensor:
    """(3, H, W) uint8 → (1, 3, H, W) float32 with ImageNet's mean 0 and standard deviation 1 in each channel."""
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (IMAGENET_MEAN, IMAGENET_STD))
    return (image[None].float() / 255 - mean) / std


def bits(vector: np.ndarray) -> np.ndarray:
    """The hash of a vector: which of its values are above their mean, as the average hash of an image has it.

    Args:
        vector: (N,).

    Returns:
        (N,), bool.
    """
    return vector > vector.mean()


def similarity(vector: np.ndarray, reference: np.ndarray) -> float:
    """Share of the bits that two hashes have in common, 1 − Hamming distance / N.

    The paper has "the perceptual hash algorithm … to calculate the correlation" and no equation; this is ours.

    Args:
        vector: (N,), channel means of one image.
        reference: (N,), of the other.

    Returns:
        0 to 1; 1 for equal images, about 0.5 for bits that have nothing to do with each other.

    >>> similarity(np.array([0.0, 1.0, 4.0, 3.0]), np.array([0.0, 5.0, 4.0, 3.0]))
    0.75
    """
    return float((bits(vector) == bits(reference)).mean())


def correlation(vector: np.ndarray, reference: np.ndarray) -> float | None:
    """Pearson's correlation of the vectors themselves, the other reading of the same sentence; None if one is even."""
    if vector.std() == 0 or reference.std() == 0:
        return None
    return float(np.corrcoef(vector, reference)[0, 1])


def find_hash(weights: str | None, device: str | torch.device = "cpu") -> PerceptualHash | None:
    """The hash with the weights named, else with those in the torch hub cache; None if there are none.

    Raises:
        InputError: if the weights named are missing or wrong.
    """
    if weights:
        return PerceptualHash(weights, device)
    cached = Path(torch.hub.get_dir()) / "checkpoints" / HASH_FILE
    return PerceptualHash(cached, device) if cached.is_file() else None
