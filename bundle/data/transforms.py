"""Transforms of training patches that MONAI does not have; all work on dictionaries of (C, H, W) images."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.transforms import MapTransform, Randomizable, RandomizableTransform
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from bundle.common.errors import InputError

ZOOM = "zoom"
LUMINANCE = (0.2126, 0.7152, 0.0722)  # ITU-R BT.709
PIVOT = 0.5  # grey that a change of contrast leaves alone: the middle of the declared range, chosen


class RandPatchZoom(RandomizableTransform):
    """Draw the magnification of the patch that is cut next (§2.7: 90–110 % at constant patch size).

    Only the number is drawn here; the patch transform cuts a region of size / zoom and resamples it, so
    no pixel is interpolated that the patch does not show.

    Args:
        low: smallest magnification.
        high: largest magnification.

    Raises:
        InputError: unless 0 < low ≤ high.
    """

    def __init__(self, low: float = 0.9, high: float = 1.1) -> None:
        super().__init__(prob=1.0)
        if not 0 < low <= high:
            raise InputError(f"zoom is drawn from {low} to {high}; it must be 0 < low ≤ high.")
        self.low, self.high = low, high

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Add the key ``zoom``."""
        return {**data, ZOOM: self.R.uniform(self.low, self.high)}


class RandMaskedPatchd(Randomizable, MapTransform):
    """Cut one square patch, its centre drawn uniformly from the mask's pixels.

    The patch may reach beyond the mask (Fig. 4a), but is shifted to lie within the image. A ``zoom`` in
    the dictionary cuts size / zoom pixels, at most the image's shorter side, and resamples them to
    ``size``: bilinear, the mask by nearest neighbour.

    Args:
        keys: images to cut; only these are returned.
        size: side of the patch in px.
        inside_key: key of the flat indices of allowed centres; None, or None in its place, draws from the whole image.
        mask_key: the key that is a mask.
    """

    def __init__(
        self, keys: KeysCollection, size: int, inside_key: str | None = "inside", mask_key: str = "mask"
    ) -> None:
        MapTransform.__init__(self, keys)
        self.size = size
        self.inside_key = inside_key
        self.mask_key = mask_key

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Tensor]:
        """Arrays (C, H, W) of any type → float32 tensors (C, size, size) in the same units."""
        height, width = data[self.keys[0]].shape[1:]
        side = min(round(self.size / data.get(ZOOM, 1.0)), height, width)
        inside = None if self.inside_key is None else data[self.inside_key]
        drawn = int(self.R.randint(height * width if inside is None else len(inside)))
        centre = drawn if inside is None else int(inside[drawn])
        top = min(max(centre // width - side // 2, 0), height - side)
        left = min(max(centre % width - side // 2, 0), width - side)
        patch = {}
        for key in self.keys:
            crop = data[key][:, top : top + side, left : left + side]
            resample = nearest if key == self.mask_key else bilinear
            patch[key] = torch.from_numpy(crop.astype("float32")) if side == self.size else resample(crop, self.size)
        return patch


def bilinear(image: np.ndarray, size: int) -> Tensor:
    """Resample a square image, bilinear.

    Args:
        image: (C, S, S), of any type.
        size: the side wanted, px.

    Returns:
        (C, size, size), float32.
    """
    channels = torch.from_numpy(image.astype("float32"))[:, None]  # as a batch: half the time of a colour image
    return F.interpolate(channels, size=(size, size), mode="bilinear", align_corners=False)[:, 0]


def nearest(image: np.ndarray, size: int) -> Tensor:
    """Resample a square mask by nearest neighbour, before it takes up four bytes a pixel.

    Arguments and result as in :func:`bilinear`.
    """
    places = ((np.arange(size) + 0.5) * (image.shape[-1] / size)).astype(np.intp)
    return torch.from_numpy(image[:, places].take(places, 2).astype("float32"))


def jitter(value: Tensor, contrast: float, brightness: float) -> Tensor:
    """Change contrast about the middle of the declared range, then brightness: ((v − ½) c + ½) b.

    Args:
        value: any shape, in [0, 1].
        contrast: c, 1 for no change.
        brightness: b, likewise.

    Returns:
        The same shape, clipped to [0, 1].
    """
    return (value * (contrast * brightness)).add_(PIVOT * (1 - contrast) * brightness).clamp_(0, 1)


def jitter_luminance(rgb: Tensor, contrast: float, brightness: float) -> Tensor:
    """Jitter the luminance L of a colour image and keep its chromaticity (§2.7): RGB · L′ / L.

    The factor of a pixel is held at the value where its brightest channel reaches 1, so that clipping
    never changes a ratio. A pixel of L = 0 stays black.

    Args:
        rgb: (3, H, W) in [0, 1].
        contrast: of :func:`jitter`.
        brightness: of :func:`jitter`.

    Returns:
        (3, H, W) in [0, 1], with the same ratios between channels in every pixel.
    """
    weights = torch.tensor(LUMINANCE, dtype=rgb.dtype, device=rgb.device)
    luminance = torch.einsum("c,chw->hw", weights, rgb)
    tiny = torch.finfo(rgb.dtype).tiny
    factor = jitter(luminance, contrast, brightness).div_(luminance.clamp_(min=tiny))
    return rgb * torch.minimum(factor, rgb.amax(0).clamp_(min=tiny).reciprocal_())


class _RandJitterd(RandomizableTransform, MapTransform):
    """Draw a contrast and a brightness factor from 1 ± the amounts, the same for all keys."""

    def __init__(self, keys: KeysCollection, contrast: float = 0.1, brightness: float = 0.1, prob: float = 1.0) -> None:
        MapTransform.__init__(self, keys)
        RandomizableTransform.__init__(self, prob)
        for name, amount in (("contrast", contrast), ("brightness", brightness)):
            if not 0 <= amount < 1:
                raise InputError(f"{name} jitter is {amount}; it must be at least 0 and less than 1.")
        self.contrast, self.brightness = contrast, brightness

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Images (C, H, W) in [−1, 1] → the same."""
        self.randomize(None)
        changed = dict(data)
        if self._do_transform:
            contrast = self.R.uniform(1 - self.contrast, 1 + self.contrast)
            brightness = self.R.uniform(1 - self.brightness, 1 + self.brightness)
            for key in self.keys:
                changed[key] = self.change((data[key] + 1).mul_(0.5), contrast, brightness).mul_(2).sub_(1)
        return changed

    def change(self, image: Tensor, contrast: float, brightness: float) -> Tensor:
        """Apply the drawn factors to an image in [0, 1]; gives a new one."""
        raise NotImplementedError


class RandContrastBrightnessd(_RandJitterd):
    """Contrast and brightness jitter of greyscale images (§2.7: up to 10 %).

    Args:
        keys: images (C, H, W) in [−1, 1].
        contrast: largest relative change of contrast about the middle of the declared range.
        brightness: largest relative change of brightness.
        prob: how often it is applied.

    Raises:
        InputError: unless both amounts are in [0, 1).
    """

    def change(self, image: Tensor, contrast: float, brightness: float) -> Tensor:
        """Channel by channel, see :func:`jitter`."""
        return jitter(image, contrast, brightness)


class RandLuminanceJitterd(_RandJitterd):
    """Contrast and brightness jitter of stained images that keeps chromaticity (§2.7).

    Arguments and errors as :class:`RandContrastBrightnessd`; images of other than 3 channels have no chromaticity, and
    are changed as there.
    """

    def change(self, image: Tensor, contrast: float, brightness: float) -> Tensor:
        """Of the luminance only, see :func:`jitter_luminance`."""
        return (jitter_luminance if len(image) == 3 else jitter)(image, contrast, brightness)
