"""How alike two slides are: LPIPS, SSIM and PSNR (Irvine et al. §2.10), detail and gradients; how sharp one is."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import lpips
import numpy as np
import torch
from scipy.ndimage import gaussian_filter, gaussian_filter1d
from skimage.metrics import peak_signal_noise_ratio, structural_similarity
from torch import Tensor, nn

from bundle.checkpoints import load_tensors
from bundle.errors import InputError

LPIPS_FILE = "squeezenet1_1-b8a52dc0.pth"  # torchvision's name for it in the torch hub cache
LPIPS_MISSING = (
    "LPIPS not computed: no SqueezeNet weights. Pass --lpips_weights FILE (torchvision's SqueezeNet 1.1, ImageNet), "
    "or let torchvision fetch them once: "
    "python -c \"import torchvision; torchvision.models.squeezenet1_1(weights='DEFAULT')\"."
)
LPIPS_BATCH = 16
RESOLUTION_THRESHOLD = 1 / 7
DETAIL_SIGMA_PX = 2.0  # keeps lacunae and borders, takes off the stretch of tissues
EVEN = 1e-3  # grey levels; a standard deviation up to this is rounding
GRADIENT_SIGMA_PX = 1.0  # a section moved by 1 and 2 px keeps 0.91 and 0.71 of 1 (docs/results.md)


def ssim(image: np.ndarray, reference: np.ndarray) -> float:
    """Structural similarity, eq. 11, by scikit-image with its defaults (7×7 uniform window).

    Args:
        image: (3, H, W), uint8.
        reference: (3, H, W), uint8.

    Returns:
        Mean over pixels and channels, at most 1.
    """
    return float(structural_similarity(reference, image, channel_axis=0, data_range=255))


def ssim_inside(image: np.ndarray, reference: np.ndarray, mask: np.ndarray) -> float:
    """The same, averaged over the windows whose centre is in a mask (H, W)."""
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
        return self.network(image.to(self.device), reference.to(self.device)).flatten().cpu()

    def of_slides(self, images: np.ndarray, references: np.ndarray) -> list[float]:
        """The same for (B, 3, H, W) uint8, in batches."""
        values: list[float] = []
        for start in range(0, len(images), LPIPS_BATCH):
            pair = (torch.from_numpy(part[start : start + LPIPS_BATCH]) for part in (images, references))
            values += self(*(batch.float() / 127.5 - 1 for batch in pair)).tolist()
        return values


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


def ring_correlation(image: np.ndarray, other: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Fourier ring correlation of two images (van Heel 1987; Nieuwenhuizen et al. 2013).

    FRC(q) = Re Σ F₁ F₂* / √(Σ |F₁|² Σ |F₂|²), summed over the ring of frequency q, after taking off the mean and a
    Hann window.

    Args:
        image: (H, W), any units.
        other: (H, W), likewise.

    Returns:
        Frequencies in cycles/px up to 0.5, and the correlation at each, −1 to 1; NaN where a ring has no power.

    Raises:
        ValueError: if the images are not of one shape.
    """
    if image.shape != other.shape:
        raise ValueError(f"ring correlation needs images of one shape, got {image.shape} and {other.shape}")
    window = np.outer(*(np.hanning(size + 2)[1:-1] for size in image.shape))
    spectra = [np.fft.fft2((one - one.mean()) * window) for one in (image.astype(float), other.astype(float))]
    radius = np.hypot(np.fft.fftfreq(image.shape[0])[:, None], np.fft.fftfreq(image.shape[1])[None, :])
    rings = min(image.shape) // 2
    ring = np.rint(radius * min(image.shape)).astype(int).ravel()
    sums = [
        np.bincount(ring, weights=values.ravel(), minlength=rings + 1)[1 : rings + 1]
        for values in ((spectra[0] * spectra[1].conj()).real, np.abs(spectra[0]) ** 2, np.abs(spectra[1]) ** 2)
    ]
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.arange(1, rings + 1) / min(image.shape), sums[0] / np.sqrt(sums[1] * sums[2])


def split_counts(image: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Two images with independent noise from one, by a coin for each count (Rieger et al. 2024).

    Args:
        image: (H, W), counts: whole numbers of at least 0, whose variance is their mean.
        rng: the coin.

    Returns:
        Two (H, W) images of half the counts, which add up to ``image``.

    Raises:
        ValueError: if a value is negative.
    """
    counts = np.rint(image).astype(np.int64)
    if counts.min() < 0:
        raise ValueError(f"counts are at least 0, got {counts.min()}; take off the camera's offset first")
    half = rng.binomial(counts, 0.5)
    return half, counts - half


def flat_gain(image: np.ndarray, top: int, left: int, height: int, width: int, offset: float = 0.0) -> float:
    """The value of one count, from a uniform part of an image: its variance over its mean above the offset.

    Args:
        image: (H, W).
        top: of the part, px; then ``left``, ``height`` and ``width``.
        left: likewise.
        height: likewise.
        width: likewise.
        offset: value of no count.

    Returns:
        In the units of the image.

    Raises:
        InputError: if the part is not inside the image, or has no noise or nothing above the offset.
    """
    part = image[max(top, 0) : top + height, max(left, 0) : left + width].astype(np.float64) - offset
    if part.shape != (height, width) or part.size < 2:
        raise InputError(
            f"flat is rows {top} to {top + height}, columns {left} to {left + width}; the image is "
            f"{image.shape[0]}×{image.shape[1]} px."
        )
    if part.mean() <= 0 or part.var() == 0:
        raise InputError(
            f"flat has mean {part.mean():g} above the offset and variance {part.var():g}; choose a part with noise, "
            "above --offset."
        )
    return float(part.var() / part.mean())


def resolution_px(
    frequency: np.ndarray, correlation: np.ndarray, threshold: float = RESOLUTION_THRESHOLD, smoothing: float = 1.0
) -> float:
    """The period at which a ring correlation first falls below a threshold.

    Args:
        frequency: (N,), cycles/px, ascending.
        correlation: (N,).
        threshold: 1/7 (Nieuwenhuizen et al. 2013) or another.
        smoothing: σ of the Gaussian smoothing of the curve, rings.

    Returns:
        px; inf if the curve begins below, 2 (the sampling limit) if it never falls so low.
    """
    curve = gaussian_filter1d(np.nan_to_num(correlation), smoothing, mode="nearest")
    below = np.flatnonzero(curve < threshold)
    if not below.size:
        return 2.0
    last = below[0]
    if last == 0:
        return float("inf")
    share = (curve[last - 1] - threshold) / (curve[last - 1] - curve[last])
    return float(1 / (frequency[last - 1] + share * (frequency[last] - frequency[last - 1])))


def detail_ratio(image: np.ndarray, reference: np.ndarray, mask: np.ndarray) -> float | None:
    """How much fine detail an image has, over that of a reference: below 1 it is blurred.

    The ratio of the standard deviations of L − G ∗ L inside the mask, G a Gaussian of σ = 2 px. A ring correlation
    cannot tell blur, which dims a frequency and leaves its phase. This cannot tell detail that is there from noise
    or stripes, which raise it: see :func:`gradient_correlation`.

    Args:
        image: (H, W), luminance.
        reference: (H, W), likewise.
        mask: (H, W), bool.

    Returns:
        At least 0; None if the reference is even, or the mask empty.
    """
    if not mask.any():
        return None
    fine = [(one - gaussian_filter(one, DETAIL_SIGMA_PX))[mask].std() for one in (image, reference)]
    return float(fine[0] / fine[1]) if fine[1] > EVEN else None


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
