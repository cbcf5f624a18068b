"""Air in training patches: where it is known, and more of it than pairs hold, so that the network learns it too."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.transforms import MapTransform, Randomizable
from scipy.ndimage import gaussian_filter, uniform_filter
from torch import Tensor

from bundle.common.errors import InputError
from bundle.data.datalist import Datalist
from bundle.data.patches import load_pair
from bundle.data.transforms import RandMaskedPatchd
from bundle.images.parts import is_flat

SMOOTHING_PX = 2.0  # noise of a scan is stronger than what tells air from soft tissue
DARKEST = 0.06  # of the way from background to bone: soft tissue attenuates at least twice as much; ours
BLOCKS_PX = (64, 48, 32, 16)  # sides of the squares of nothing but air that are looked for, largest first
ENOUGH = 0.97  # of such a square that must be air
FEATHER_PX = 1.0  # of the border between what was scanned and the air put beside it


class RandAird(Randomizable, MapTransform):
    """Says what the target is where the source is air, and puts air beside the sample now and then.

    Masks leave out nearly everything but the tissue (§2.8), so no term ever sees air; what a network makes of it is
    chance, and so is what it makes of tissue beside much air. Air is what lies outside the mask and is, smoothed, no
    brighter than the declared ``background_intensity`` and 6 % of the way to ``bone_intensity``. There the target
    becomes the colour it has in the air of all training pairs (median), and the mask ``weight``. In a share ``beside``
    of the patches all that lies outside the mask becomes air too, and a sample that ends before an edge of the patch
    moves away from that edge, by up to half the patch; in a share ``alone`` the whole patch becomes air: patches lie
    about the mask, so none would show as much air as a slice beside a narrow sample. That air is Gaussian noise with
    mean and spectrum of a training scan's air (Galerne et al. 2011, spot noise).

    Nothing is changed, and nothing assumed, where no air is known: if the dataset declares no intensities, or no pair
    shows air outside its mask.

    Args:
        keys: source, target and mask, in this order: (C, H, W), in the dataset's units.
        data: the checked dataset.
        weight: of a pixel of air in the ℓ1 terms, where one inside the mask has 1; 0 switches all of this off.
        beside: share of the patches whose outside becomes air, 0 to 1.
        alone: share of the patches that become nothing but air, 0 to 1.

    Raises:
        InputError: if ``weight``, ``beside`` or ``alone`` is not from 0 to 1.
    """

    def __init__(
        self, keys: KeysCollection, data: Datalist, weight: float = 1.0, beside: float = 0.4, alone: float = 0.1
    ) -> None:
        MapTransform.__init__(self, keys)
        for name, value in (("air_weight", weight), ("air_beside", beside), ("air_alone", alone)):
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= 1:
                raise InputError(f"{name} is {value!r}; it must be from 0 to 1.")
        if beside + alone > 1:
            raise InputError(f"air_beside and air_alone are {beside:g} and {alone:g}; together at most 1.")
        self.weight, self.beside, self.alone = weight, beside, alone
        self.brightest = brightest_air(data)
        self.colour: Tensor | None = None
        self.blocks: list[np.ndarray] = []
        if weight and self.brightest is not None and data.training:
            self._learn(data, self.brightest)

    def _learn(self, data: Datalist, brightest: float) -> None:
        """Find the colour of air, and squares of the scans that show nothing else."""
        colours = []
        for pair in data.training:
            images = load_pair(pair)
            air = is_air(images["source"], brightest) & ~images["mask"][0]
            colours.append(images["target"][:, air])
            block = all_of(images["source"], air & ~is_flat(images["source"][0]))
            block = all_of(images["source"], air) if block is None else block  # a scan without noise
            self.blocks += [] if block is None else [block]
        found = np.concatenate(colours, axis=1)
        if found.shape[1]:
            self.colour = torch.from_numpy(np.median(found, axis=1).astype("float32")).view(-1, 1, 1)

    def __call__(self, images: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """A patch, its images float32 tensors (C, H, W) → the same; the mask is then from 0 to 1."""
        changed = dict(images)
        if self.colour is None or self.brightest is None:
            return changed
        source, target, mask = (changed[key] for key in self.keys)
        outside = mask[0] == 0
        air = torch.from_numpy(is_air(source.numpy(), self.brightest)) & outside
        drawn = self.R.random() if self.blocks else 1.0
        if drawn < self.beside:
            source, target, outside = self._moved(source, target, outside)
            mask = (~outside).float()[None]
        if drawn < self.beside + self.alone:
            air = outside if drawn < self.beside else torch.ones_like(outside)
            share = gaussian_filter(air.numpy().astype("float32"), FEATHER_PX)
            source = torch.lerp(source, self._texture(source.shape[-1]), torch.from_numpy(share))
        target = torch.where(air, self.colour, target)
        mask = torch.where(air, torch.tensor(float(self.weight)), mask)
        return {**changed, **dict(zip(self.keys, (source, target, mask), strict=True))}

    def _moved(self, source: Tensor, target: Tensor, outside: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The images with the sample moved away from an edge of the patch at which nothing of it lies, if there is one.

        What leaves at the other edge comes in here, as what is outside.
        """
        free = [(axis, edge) for axis in (0, 1) for edge in (0, -1) if outside.select(axis, edge).all()]
        if not free:
            return source, target, outside
        axis, edge = free[int(self.R.randint(len(free)))]
        side = outside.shape[axis]
        by = int(self.R.randint(side // 2 + 1))
        source, target, outside = (
            torch.roll(image, by if edge == 0 else -by, axis - 2) for image in (source, target, outside)
        )
        outside.narrow(axis, 0 if edge == 0 else side - by, by).fill_(True)
        return source, target, outside

    def _texture(self, side: int) -> Tensor:
        """Noise with mean and spectrum of the air of one of the scans, (C, side, side)."""
        block = self.blocks[int(self.R.randint(len(self.blocks)))]
        mean, pixels = block.mean(axis=(1, 2), keepdims=True), block[0].size
        spectrum = np.fft.rfft2(self.R.standard_normal((side, side))) * np.fft.rfft2(block - mean, (side, side))
        return torch.from_numpy((np.fft.irfft2(spectrum, (side, side)) / np.sqrt(pixels) + mean).astype("float32"))


class RandPatchAird(RandMaskedPatchd):
    """A patch with :class:`RandAird` after it.

    Args:
        keys: source, target and mask, in this order.
        size: see :class:`bundle.data.transforms.RandMaskedPatchd`.
        inside_key: see there.
        data: see :class:`RandAird`.
        weight: see there.
        beside: see there.
        alone: see there.
    """

    def __init__(
        self,
        keys: KeysCollection,
        size: int,
        data: Datalist,
        inside_key: str | None = "inside",
        weight: float = 1.0,
        beside: float = 0.4,
        alone: float = 0.1,
    ) -> None:
        super().__init__(keys, size, inside_key)
        self.air = RandAird(keys, data, weight, beside, alone)

    def set_random_state(self, seed: int | None = None, state: np.random.RandomState | None = None) -> RandPatchAird:
        """One generator for both."""
        super().set_random_state(seed, state)
        self.air.R = self.R
        return self

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Tensor]:
        """Arrays (C, H, W) of any type → float32 tensors (C, size, size) in the same units."""
        return self.air(super().__call__(data))


def brightest_air(data: Datalist) -> float | None:
    """The grey value above which a source shows no air; None if the dataset declares no intensities."""
    background, bone = data.source.background_intensity, data.source.bone_intensity
    return None if background is None or bone is None else background + DARKEST * (bone - background)


def is_air(source: np.ndarray, brightest: float) -> np.ndarray:
    """Where a source (C, H, W), smoothed, is no brighter than a grey value, (H, W) bool."""
    return gaussian_filter(source.astype("float32").mean(0), SMOOTHING_PX, truncate=2.0) <= brightest


def all_of(source: np.ndarray, air: np.ndarray) -> np.ndarray | None:
    """The largest square of a source that is air, of those in ``BLOCKS_PX``; None if there is none.

    Args:
        source: (C, H, W).
        air: (H, W), bool.

    Returns:
        (C, side, side), float32.
    """
    for side in BLOCKS_PX:
        share = uniform_filter(air.astype("float32"), side, mode="constant")
        row, column = np.unravel_index(int(share.argmax()), share.shape)
        if share[row, column] >= ENOUGH:
            top, left = row - side // 2, column - side // 2
            return source[:, top : top + side, left : left + side].astype("float32")
    return None
