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

from bundle.datalist import Datalist
from bundle.errors import InputError
from bundle.patches import load_pair

SMOOTHING_PX = 2.0  # noise of a scan is stronger than what tells air from soft tissue
DARKEST = 0.06  # of the way from background to bone: soft tissue attenuates at least twice as much; ours
BLOCKS_PX = (64, 48, 32, 16)  # sides of the squares of nothing but air that are looked for, largest first
ENOUGH = 0.97  # of such a square that must be air
CLEAR_PX = 3.0  # on both sides of a cut that are compared with nothing
WAVE_PX = (6.0, 20.0), 4.0  # length and height of a cut's waves


class RandAird(Randomizable, MapTransform):
    """Says what the target is where the source is air, and cuts the sample off along a random line now and then.

    Masks leave out nearly everything but the tissue (§2.8), so no term ever sees air; what a network makes of it is
    chance, and so is what it makes of tissue beside much air. Air is what lies outside the mask and is, smoothed, no
    brighter than the declared ``background_intensity`` and 6 % of the way to ``bone_intensity``. There the target
    becomes the colour it has in the air of all training pairs (median), and the mask ``weight``. In a share ``cut`` of
    the patches, what lies beyond a wavy line becomes air of a training scan, mirrored on, too.

    Nothing is changed, and nothing assumed, where no air is known: if the dataset declares no intensities, or no pair
    shows air outside its mask.

    Args:
        keys: source, target and mask, in this order: (C, H, W), in the dataset's units.
        data: the checked dataset.
        weight: of a pixel of air in the ℓ1 terms, where one inside the mask has 1; 0 switches all of this off.
        cut: share of the patches that are cut, 0 to 1.

    Raises:
        InputError: if ``weight`` or ``cut`` is not from 0 to 1.
    """

    def __init__(self, keys: KeysCollection, data: Datalist, weight: float = 0.2, cut: float = 0.4) -> None:
        MapTransform.__init__(self, keys)
        for name, value in (("air_weight", weight), ("air_cut", cut)):
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= 1:
                raise InputError(f"{name} is {value!r}; it must be from 0 to 1.")
        self.weight, self.cut = weight, cut
        self.brightest = brightest_air(data)
        self.colour: Tensor | None = None
        self.blocks: list[np.ndarray] = []
        if weight and self.brightest is not None:
            self._learn(data, self.brightest)

    def _learn(self, data: Datalist, brightest: float) -> None:
        """Find the colour of air, and squares of the scans that show nothing else."""
        colours = []
        for pair in data.training:
            images = load_pair(pair)
            air = is_air(images["source"], brightest) & ~images["mask"][0]
            colours.append(images["target"][:, air])
            block = all_of(images["source"], air)
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
        air = torch.from_numpy(is_air(source.numpy(), self.brightest)) & (mask[0] == 0)
        if self.blocks and self.R.random() < self.cut:
            beyond = torch.from_numpy(self._beyond(source.shape[-1]))
            source = torch.lerp(source, self._texture(source.shape[-1]), (beyond / 2 + 0.5).clamp(0, 1))
            air = (air | (beyond > CLEAR_PX)) & (beyond.abs() > CLEAR_PX)
            mask = mask * (beyond < -CLEAR_PX)
            target = torch.where(beyond > 0, self.colour, target)
        target = torch.where(air, self.colour, target)
        mask = torch.where(air, torch.tensor(float(self.weight)), mask)
        return {**changed, **dict(zip(self.keys, (source, target, mask), strict=True))}

    def _beyond(self, side: int) -> np.ndarray:
        """How far each pixel lies beyond a random wavy line that leaves the patch's middle in place, (H, W), px."""
        (shortest, longest), height = WAVE_PX
        angle, away = self.R.uniform(0, 2 * np.pi), self.R.uniform(0, side / 2)
        length, phase = self.R.uniform(shortest, longest), self.R.uniform(0, 2 * np.pi)
        rows, columns = np.mgrid[:side, :side] - (side - 1) / 2
        along = rows * np.cos(angle) - columns * np.sin(angle)
        across = columns * np.cos(angle) + rows * np.sin(angle)
        return (across + height * np.sin(along / length + phase) - away).astype("float32")

    def _texture(self, side: int) -> Tensor:
        """Air of one of the scans, mirrored on to a patch, (C, side, side)."""
        block = self.blocks[int(self.R.randint(len(self.blocks)))]
        most = block.shape[-1]
        top, left = (int(self.R.randint(2 * most)) for _ in range(2))
        reach = ((0, 0), (0, side + 2 * most), (0, side + 2 * most))
        return torch.from_numpy(np.pad(block, reach, mode="symmetric")[:, top : top + side, left : left + side])


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
