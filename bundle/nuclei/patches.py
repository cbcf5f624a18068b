"""Random patches of images with labelled nuclei, and the targets made of them."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.transforms import MapTransform, RandomizableTransform

from bundle.common.errors import InputError
from bundle.common.memory import GIB
from bundle.data.patches import PatchDataset
from bundle.images.slides import read_slide
from bundle.nuclei.dataset import Field, read_nuclei
from bundle.nuclei.stars import star_targets


class NucleiPatches(PatchDataset):
    """Random patches of labelled images, as many an epoch however many images there are.

    Images take turns, so that over a run each gives as many patches as any other, or one more.

    Args:
        data: the images with their labels.
        transform: a MONAI transform of a dictionary with ``image`` (C, H, W) in the file's type, ``labels``
            (1, H, W), int32, and ``inside`` (flat indices of the nuclei's pixels).
        patches: in an epoch.
        seed: of the patches.
        memory_gib: images are held in memory up to so much, and read from their files for each patch beyond it.
    """

    def __init__(
        self, data: Sequence[Field], transform: Callable, patches: int, seed: int, memory_gib: float = 4.0
    ) -> None:
        if not data:
            raise InputError("the dataset has no training images; list some under training in its datalist.json.")
        self.data: list[Any] = list(data)
        self.transform = transform
        self.patches = patches
        self.seed = seed
        self.held: dict[int, dict[str, np.ndarray]] = {}
        used = 0.0
        for place, each in enumerate(self.data):
            if used < memory_gib * GIB:
                self.held[place] = load_field(each)
                used += sum(array.nbytes for array in self.held[place].values())

    def __len__(self) -> int:
        """Patches in one epoch."""
        return self.patches

    def __getitem__(self, index: int) -> dict[str, Any]:
        """Patch ``index`` of the run."""
        place = self.place(index)
        return self.transformed(dict(self.held.get(place) or load_field(self.data[place])), index)

    def place(self, index: int) -> int:
        """Where the image of patch ``index`` stands in ``data``."""
        return index % len(self.data)

    def files(self, index: int) -> list[str]:
        """The files that patch ``index`` is cut from."""
        each = self.data[self.place(index)]
        return [str(each.image), str(each.labels)]


def load_field(each: Field) -> dict[str, np.ndarray]:
    """Read an image and its labels; see :class:`NucleiPatches`."""
    labels = read_nuclei(each.labels)[None]
    return {"image": read_slide(each.image).pixels, "labels": labels, "inside": np.flatnonzero(labels)}


class RandNucleusPatchd(RandomizableTransform, MapTransform):
    """Cut a square at random; most of them with a nucleus in it.

    Args:
        keys: arrays (C, H, W) of one size.
        size: side of the square, px; no array may be smaller.
        prob: how often the square must hold a pixel of a nucleus, drawn from ``inside`` (0.9 in ``stardist.models``:
            ``train_foreground_only``); an image without nuclei is cut anywhere.
    """

    def __init__(self, keys: KeysCollection, size: int, prob: float = 0.9) -> None:
        MapTransform.__init__(self, keys)
        RandomizableTransform.__init__(self, prob)
        self.size = size

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Arrays → (C, size, size), float32 tensors of the same values; ``inside`` is used up."""
        self.randomize(None)
        height, width = data[self.keys[0]].shape[1:]
        inside = data["inside"]
        if self._do_transform and len(inside):
            row, column = divmod(int(inside[self.R.randint(len(inside))]), width)
            top, left = (at - self.R.randint(self.size) for at in (row, column))
            top, left = min(max(top, 0), height - self.size), min(max(left, 0), width - self.size)
        else:
            top, left = self.R.randint(height - self.size + 1), self.R.randint(width - self.size + 1)
        square = (slice(None), slice(top, top + self.size), slice(left, left + self.size))
        return {key: torch.from_numpy(data[key][square].astype(np.float32)) for key in self.keys}


class StarTargetsd(MapTransform):
    """Turn labels into what the network is to predict, see :func:`bundle.nuclei.stars.star_targets`.

    Args:
        keys: labels (1, H, W); they are used up.
        rays: of a polygon.
        grid: pixels between two predictions.
    """

    def __init__(self, keys: KeysCollection, rays: int, grid: int) -> None:
        super().__init__(keys)
        self.rays = rays
        self.grid = grid

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Adds ``probability`` (1, h, w) and ``distances`` (rays, h, w), float32 tensors."""
        changed = dict(data)
        for key in self.keys:
            labels = np.asarray(changed.pop(key))[0]
            probability, distances = star_targets(labels, self.rays, self.grid)
            changed["probability"] = torch.from_numpy(probability)[None]
            changed["distances"] = torch.from_numpy(distances)
        return changed
