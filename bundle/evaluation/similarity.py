"""How alike two slides are: LPIPS, SSIM and PSNR (Irvine et al. §2.10), detail and gradients; how sharp one is."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from scipy.ndimage import gaussian_filter
from torch import Tensor, nn

from bundle.common.errors import InputError
from bundle.evaluation.resolution import EVEN
from bundle.networks.checkpoints import load_tensors

LPIPS_FILE = "squeezenet1_1-b8a52dc0.pth"  # torchvision's name for it in the torch hub cache
LPIPS_MISSING = (
    "LPIPS not computed: no SqueezeNet weights. Pass --lpips_weights FILE (torchvision's SqueezeNet 1.1, ImageNet), "
    "or let torchvision fetch them once: "
    "python -c \"import torchvision; torchvision.models.squeezenet1_1(weights='DEFAULT')\"."
)
LPIPS_BATCH = 16
GRADIENT_SIGMA_PX = 1.0  # a section moved by 1 and 2 px keeps 0.91 and 0.71 of 1 (docs/results.md)


def ssim(image: np.ndarray, reference: np.ndarray) -> float:
    """Structural similarity, eq. 11, by scikit-image with its defaults (7×7 uniform window).

    Args:
        image: (3, H, W), uint8.
        reference: (3, H, W), uint8.

    Returns:
        Mean over pixels and channels, at most 1.
    """
    from skimage.metrics import structural_similarity  # here, as it takes a second to load

    return float(structural_similarity(reference, image, channel_axis=0, data_range=255))


def ssim_inside(image: np.ndarray, reference: np.ndarray, mask: np.ndarray) -> float:
    """The same, averaged over the windows whose centre is in a mask (H, W)."""
    from skimage.metrics import structural_similarity

    values = structural_similarity(reference, image, channel_axis=0, data_range=255, full=True)[1]
    return float(values[:, mask].mean())


def psnr(image: np.ndarray, reference: np.ndarray) -> float:
    """Peak signal-to-noise ratio in dB, eqs. 12 and 13 with L = 255; inf for equal images.

    Args:
        image: uint8, any shape.
        reference: uint8, the same shape.
    """
    if np.array_equal(image, reference):
        return float("inf")
    from skimage.metrics import peak_signal_noise_ratio

    return float(peak_signal_noise_ratio(reference, image, data_range=255))


class Lpips:
    """Learned perceptual image patch similarity with the SqueezeNet backbone (eq. 14), by ``lpips``.

    Args:
        weights: torchvision's SqueezeNet 1.1 trained on ImageNet, as a state dict.
        device: where to compute it.

    Raises:
        InputError: if the file is missing, corrupt or of another network.
    """

    def __init__(self, weights: str | Path, device: str | torch.device = "cpu") -> None:
        import lpips  # here, as it loads torchvision and PyTorch's compiler

        path = Path(weights)
        if not path.is_file():
            raise InputError(f"lpips_weights {path} does not exist; it is torchvision's SqueezeNet 1.1, ImageNet.")
        state = load_tensors(path)
        self.device = torch.device(device)
        # pnet_rand keeps lpips from fetching the backbone; every weight of it is replaced below
        self.network = lpips.LPIPS(net="squeeze", pnet_rand=True, verbose=False)
        layers = {f"features.{layer}": part for layer, part in _backbone(self.network.net).items()}
        for layer, part in layers.items():
            for name, parameter in part.named_parameters():
                value = state.get(f"{layer}.{name}") if isinstance(state, dict) else None
                if value is None or value.shape != parameter.shape:
                    raise InputError(f"lpips_weights {path} are not those of torchvision's SqueezeNet 1.1: no {layer}.")
                parameter.data.copy_(value)
        self.network.to(self.device).eval()

    @torch.no_grad()
    def __call__(self, image: Tensor, reference: Tensor) -> Tensor:
        """Distance of each pair.

        Args:
            image: (B, 3, H, W) in [−1, 1].
            reference: likewise.

        Returns:
            (B,), 0 for equal images.
        """
        return self._distance(self._features(image), self._features(reference))

    @torch.no_grad()
    def of_slides(
        self, stains: Mapping[str, Sequence[np.ndarray]], references: Sequence[np.ndarray]
    ) -> dict[str, list[float]]:
        """The same for several stains of the same slides, in batches; a reference goes through the network once.

        Args:
            stains: by name, a slide for each reference, (3, H, W), uint8, all of one size.
            references: likewise.
        """
        values: dict[str, list[float]] = {name: [] for name in stains}
        for start in range(0, len(references), LPIPS_BATCH):
            part = slice(start, start + LPIPS_BATCH)
            features = self._features(_scaled(references[part]))
            for name, slides in stains.items():
                values[name] += self._distance(self._features(_scaled(slides[part])), features).tolist()
        return values

    def _features(self, image: Tensor) -> list[Tensor]:
        """What the backbone makes of (B, 3, H, W) in [−1, 1], layer by layer, each pixel of length 1."""
        import lpips

        layers = self.network.net(self.network.scaling_layer(image.to(self.device)))
        return [lpips.normalize_tensor(layer) for layer in layers]

    def _distance(self, features: list[Tensor], others: list[Tensor]) -> Tensor:
        """Weighted squared differences, averaged over each layer's pixels, (B,)."""
        from lpips import spatial_average

        layers = zip(self.network.lins, features, others, strict=True)
        means = (spatial_average(weigh((one - other) ** 2)) for weigh, one, other in layers)
        return sum(means, torch.zeros(())).flatten().cpu()


def _scaled(slides: Sequence[np.ndarray]) -> Tensor:
    """(3, H, W) uint8 each → (B, 3, H, W) in [−1, 1]."""
    return torch.from_numpy(np.stack(slides)).float() / 127.5 - 1


def _backbone(net: nn.Module) -> dict[str, nn.Module]:
    """The layers of lpips' SqueezeNet by their place in torchvision's ``features``."""
    return {name: layer for piece in net.children() for name, layer in piece.named_children()}


def find_lpips(weights: str | None, device: str | torch.device = "cpu") -> Lpips | None:
    """LPIPS with the weights named, else with those in the torch hub cache; None if there are none.

    Raises:
        InputError: if the weights named are missing or wrong.
    """
    if weights:
        return Lpips(weights, device)
    cached = Path(torch.hub.get_dir()) / "checkpoints" / LPIPS_FILE
    return Lpips(cached, device) if cached.is_file() else None


def patch_corners(height: int, width: int, patch: int, stride: int) -> Iterator[tuple[int, int]]:
    """Top left corners of patches every ``stride`` px, with a last row and column flush with the border.

    Args:
        height: of the image, at least ``patch``.
        width: likewise.
        patch: side of a patch, px.
        stride: between patches, px.

    Yields:
        (top, left).
    """

    def starts(size: int) -> list[int]:
        return sorted({*range(0, size - patch + 1, stride), size - patch})

    return ((top, left) for top in starts(height) for left in starts(width))


def gradient_correlation(image: np.ndarray, reference: np.ndarray, mask: np.ndarray) -> float | None:
    """Whether an image changes where a reference does, and in the same direction.

    Σ ∇a·∇b / √(Σ |∇a|² Σ |∇b|²) inside the mask, a and b being G ∗ L and G a Gaussian of σ = 1 px. No mean is taken
    off: that of a gradient is near 0. An ideal edge that lies d px off keeps exp(−d²/4σ²) of it, a soft one more. So σ
    is as small as a registration that is right to 1 or 2 px allows; a wider one forgives blur. Noise, and detail in the
    wrong place, lower it. Blur does so only in part, since what is left lies in its place: see :func:`detail_ratio`.

    Args:
        image: (H, W), luminance.
        reference: (H, W), likewise.
        mask: (H, W), bool.

    Returns:
        −1 (a negative) to 1; 0 if the image is even; None if the reference is, or the mask empty.
    """
    slopes = [
        np.stack([gaussian_filter(one, GRADIENT_SIGMA_PX, order=order)[mask] for order in ((1, 0), (0, 1))])
        for one in (image, reference)
    ]
    power = [float(np.square(each, dtype=np.float64).sum()) for each in slopes]
    if power[1] <= EVEN**2 * mask.sum():
        return None
    shared = float(np.multiply(*slopes, dtype=np.float64).sum())
    return shared / float(np.sqrt(power[0] * power[1])) if power[0] > EVEN**2 * mask.sum() else 0.0
