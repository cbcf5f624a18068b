"""Random patches of the training pairs, the same ones however a run is interrupted or shared out."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from monai.data.meta_obj import get_track_meta, set_track_meta
from monai.transforms import Compose, Randomizable
from torch.utils.data import Dataset, Sampler

from bundle.data.datalist import Pair
from bundle.images.slides import read_mask, read_slide


def load_pair(pair: Pair) -> dict[str, np.ndarray]:
    """Read a pair into memory, in the files' own types.

    Returns:
        ``source`` (C, H, W), ``target`` (C, H, W) and ``mask`` (1, H, W), bool; all true if there is none.
    """
    source, target = read_slide(pair.source).pixels, read_slide(pair.target).pixels
    mask = read_mask(pair.mask)[None] if pair.mask else np.ones((1, *source.shape[1:]), bool)
    return {"source": source, "target": target, "mask": mask}


def draw_from(transform: Callable, state: np.random.RandomState) -> None:
    """Let every random transform of a chain draw from one generator, in turn.

    MONAI's ``Compose.set_random_state`` makes a generator for each, which takes a third of a patch's time.
    """
    if isinstance(transform, Compose):
        transform.R = state  # ``OneOf`` and its kin draw which transform it is
        for part in transform.transforms:
            draw_from(part, state)
    elif isinstance(transform, Randomizable):
        transform.set_random_state(state=state)


@contextmanager
def untracked() -> Iterator[None]:
    """MONAI transforms give plain tensors meanwhile: a patch has no metadata, and keeping it takes half the time."""
    before = get_track_meta()
    set_track_meta(False)
    try:
        yield
    finally:
        set_track_meta(before)


class PatchDataset(Dataset):
    """Random patches of pairs that are held in memory.

    An index stands for one patch for ever: it seeds every random transform, so the same patches come
    whatever the number of workers and wherever a run is resumed. Indices past the length are the patches
    of later epochs; :class:`PatchSampler` hands them out.

    Args:
        data: the pairs.
        transform: a MONAI transform of a dictionary with ``source``, ``target``, ``mask`` and ``inside``
            (flat indices of the mask's pixels); what it returns is an item, to which the index is added
            as ``patch``.
        patches_per_pair: patches of each pair in an epoch.
        seed: of the patches.
    """

    def __init__(self, data: Sequence[Pair], transform: Callable, patches_per_pair: int, seed: int) -> None:
        self.data = list(data)
        self.images = [load_pair(pair) for pair in self.data]
        for images in self.images:
            images["inside"] = np.flatnonzero(images["mask"])
        self.transform = transform
        self.patches_per_pair = patches_per_pair
        self.seed = seed

    def __len__(self) -> int:
        """Patches in one epoch."""
        return len(self.data) * self.patches_per_pair

    def __getitem__(self, index: int) -> Any:
        """Patch ``index`` of the run."""
        return self.transformed(dict(self.images[self.place(index)]), index)

    def transformed(self, images: dict[str, Any], index: int) -> dict[str, Any]:
        """What the transform makes of images for patch ``index``, which seeds it."""
        draw_from(self.transform, np.random.RandomState(np.random.PCG64([self.seed, index])))
        with untracked():
            return {**self.transform(images), "patch": index}

    def place(self, index: int) -> int:
        """Where the pair of patch ``index`` stands in ``data``."""
        return index % len(self) // self.patches_per_pair

    def files(self, index: int) -> list[str]:
        """The files that patch ``index`` is cut from."""
        pair = self.data[self.place(index)]
        return [str(path) for path in (pair.source, pair.target, pair.mask) if path]


class PatchSampler(Sampler):
    """Every patch of an epoch once, in an order that depends on seed and epoch alone.

    Args:
        dataset: the patches.
        seed: of the order.

    Attributes:
        epoch: which epoch the next iteration gives, from 0.
        start: patches to leave out at the beginning of that epoch (when a run resumes within it).
    """

    def __init__(self, dataset: PatchDataset, seed: int) -> None:
        self.dataset = dataset
        self.seed = seed
        self.epoch = 0
        self.start = 0

    def __len__(self) -> int:
        """Patches in one epoch."""
        return len(self.dataset)

    def __iter__(self) -> Iterator[int]:
        """Indices of the epoch's patches from ``start`` on."""
        order = np.random.default_rng([self.seed, self.epoch]).permutation(len(self.dataset))
        return iter((self.epoch * len(self.dataset) + order[self.start :]).tolist())
