"""Random patches of two lists of images that are no pairs: each drawn on its own, the same ones however a run goes."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.transforms import MapTransform, Randomizable
from torch import Tensor

from bundle.common.memory import GIB
from bundle.data.datalist import SIDES, Datalist, Image
from bundle.data.patches import PatchDataset
from bundle.data.transforms import RandMaskedPatchd
from bundle.images.slides import read_mask, read_slide


def load_image(image: Image) -> tuple[np.ndarray, np.ndarray | None]:
    """Read an image, (C, H, W) in the file's own type, and the flat indices of its mask; None without a mask."""
    inside = None if image.mask is None else np.flatnonzero(read_mask(image.mask))
    return read_slide(image.path).pixels, inside


class UnpairedDataset(PatchDataset):
    """Patches of source images, each with a patch of a target image that is drawn independently.

    In an epoch every image of the longer list gives ``patches_per_pair`` patches; those of the other list are drawn
    for each anew. Which image and which patch depends on seed and index alone, as in
    :class:`bundle.data.patches.PatchDataset`.

    Args:
        data: the checked dataset; of its training split.
        transform: a MONAI transform of a dictionary with ``source``, ``target``, ``inside_source`` and
            ``inside_target``; see :class:`RandPatchesd`.
        patches_per_pair: patches of each image of the longer list in an epoch.
        seed: of the draws.
        memory_gib: images are held in memory up to so much, and read from their files for each patch beyond it.
    """

    def __init__(
        self, data: Datalist, transform: Callable, patches_per_pair: int, seed: int, memory_gib: float = 4.0
    ) -> None:
        self.lists = {side: data.images("training", side) for side in SIDES}
        self.walked = max(SIDES, key=lambda side: len(self.lists[side]))
        self.transform = transform
        self.patches_per_pair = patches_per_pair
        self.seed = seed
        self.held: dict[tuple[str, int], tuple[np.ndarray, np.ndarray | None]] = {}
        used = 0.0
        for side, images in self.lists.items():
            for place, image in enumerate(images):
                if used < memory_gib * GIB:
                    pixels, inside = self.held[side, place] = load_image(image)
                    used += pixels.nbytes + (0 if inside is None else inside.nbytes)

    def __len__(self) -> int:
        """Patches in one epoch."""
        return len(self.lists[self.walked]) * self.patches_per_pair

    def __getitem__(self, index: int) -> dict[str, Any]:
        """Patch ``index`` of the run, of both sides."""
        item: dict[str, Any] = {}
        for side, place in self.places(index).items():
            found = self.held.get((side, place))
            item[side], item[f"inside_{side}"] = found or load_image(self.lists[side][place])
        return self.transformed(item, index)

    def places(self, index: int) -> dict[str, int]:
        """Where the images of patch ``index`` stand in their lists, by side."""
        drawn = np.random.default_rng([self.seed, index, 1])
        walked = index % len(self) // self.patches_per_pair
        return {
            side: walked if side == self.walked else int(drawn.integers(len(images)))
            for side, images in self.lists.items()
        }

    def files(self, index: int) -> list[str]:
        """The files that patch ``index`` is cut from."""
        chosen = [self.lists[side][place] for side, place in self.places(index).items()]
        return [str(path) for image in chosen for path in (image.path, image.mask) if path]


class RandPatchesd(Randomizable, MapTransform):
    """Cut a square patch of each image, each at a place of its own, and say that all of it may be compared.

    Args:
        keys: images to cut, of any sizes; a key ``<inside_key>_<key>`` holds flat indices of allowed
            centres, or None.
        size: side of the patches in px.
        inside_key: begin of the keys of those indices; None draws from the whole image.
    """

    def __init__(self, keys: KeysCollection, size: int, inside_key: str | None = "inside") -> None:
        MapTransform.__init__(self, keys)
        self.size = size
        self.cutters = [RandMaskedPatchd([key], size, inside_key and f"{inside_key}_{key}") for key in self.keys]

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Tensor]:
        """Arrays (C, H, W) of any type → float32 tensors (C, size, size) in the same units, and ``mask``, all 1."""
        patches: dict[Hashable, Tensor] = {"mask": torch.ones(1, self.size, self.size)}
        for cutter in self.cutters:
            cutter.R = self.R
            patches |= cutter(data)
        return patches
