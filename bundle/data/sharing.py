"""Batches shared out over processes."""

from __future__ import annotations

from collections.abc import Iterator

from bundle.common.errors import InputError
from bundle.common.processes import processes, rank
from bundle.data.patches import PatchDataset, PatchSampler


def share(batch_size: int) -> int:
    """This process's part of a batch.

    Args:
        batch_size: patches in a step, over all processes.

    Raises:
        InputError: if it cannot be shared out evenly.
    """
    if batch_size % processes():
        raise InputError(
            f"batch_size is {batch_size}, which {processes()} processes cannot share out evenly; it is the whole "
            f"batch of a step, so use a multiple of {processes()}, or another --nproc_per_node."
        )
    return batch_size // processes()


class ShareSampler(PatchSampler):
    """This process's share of every batch, in the order of :class:`PatchSampler`.

    Args:
        dataset: the patches.
        seed: of the order.
        batch_size: patches in a step, over all processes.

    Raises:
        InputError: if a batch, or what is left for the last one of an epoch, cannot be shared out evenly.
    """

    def __init__(self, dataset: PatchDataset, seed: int, batch_size: int) -> None:
        super().__init__(dataset, seed)
        self.batch_size = batch_size
        self.share = share(batch_size)
        left = len(dataset) % batch_size
        if left % processes():
            raise InputError(
                f"patches_per_pair is {dataset.patches_per_pair}, so the last batch of an epoch has {left} patches, "
                f"which {processes()} processes cannot share out evenly; use a multiple of {batch_size}."
            )

    def __len__(self) -> int:
        """Patches of this process in one epoch."""
        return super().__len__() // processes()

    def __iter__(self) -> Iterator[int]:
        """Indices of this process's patches of the epoch, from ``start`` on."""
        indices = list(super().__iter__())
        for first in range(0, len(indices), self.batch_size):
            batch = indices[first : first + self.batch_size]
            own = len(batch) // processes()
            yield from batch[rank() * own : (rank() + 1) * own]
