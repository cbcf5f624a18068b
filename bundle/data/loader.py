"""Batches of patches that are ready when a training step asks for them."""

from __future__ import annotations

import atexit
import os
import signal
import threading
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch
from monai.data import DataLoader
from torch.utils.data import default_collate

from bundle.common.errors import InputError
from bundle.data.patches import PatchDataset, PatchSampler


class PatchLoader(DataLoader):
    """Batches of patches, cut by processes of their own while the step before runs.

    The processes are forks that live as long as the run: the images in memory are shared, not copied, and
    each computes with one thread. Batches and their order do not depend on how many there are.

    Args:
        dataset: the patches.
        sampler: their order.
        batch_size: patches in a batch.
        num_workers: processes that cut patches; 0 cuts them between the steps, None takes :func:`enough_workers`.
        device: where batches go; for CUDA they come in pinned memory, so that the copy runs beside the step.
        seed: of torch's generator in the processes; nothing here draws from it.

    Raises:
        InputError: if ``num_workers`` is not a whole number, or when a batch is asked for and a process has died or
            found no shared memory.
    """

    def __init__(
        self,
        dataset: PatchDataset,
        sampler: PatchSampler,
        batch_size: int,
        num_workers: int | None = None,
        device: str | torch.device = "cpu",
        seed: int = 0,
    ) -> None:
        kind = torch.device(device).type
        number = enough_workers(kind, os.cpu_count() or 1) if num_workers is None else num_workers
        if not isinstance(number, int) or isinstance(number, bool) or number < 0:
            raise InputError(f"num_workers is {number!r}; it must be a whole number of at least 0, or null.")
        super().__init__(
            dataset,
            num_workers=number,
            sampler=sampler,
            batch_size=max(1, min(batch_size, len(sampler))),  # PyTorch makes room for all of it
            pin_memory=kind == "cuda",
            persistent_workers=number > 0,
            collate_fn=default_collate,  # MONAI's own prints hundreds of lines before it fails
            worker_init_fn=leave_signals_to_the_run,
            generator=torch.Generator().manual_seed(seed),
        )

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]
        """The batches of the epoch that the sampler is set to."""
        first = self._iterator is None
        batches = super().__iter__()
        if self.num_workers and first:
            atexit.register(self.close)
            if threading.current_thread() is threading.main_thread():
                # torch's handler raises in the middle of whatever runs when a process dies: a step, a save
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        try:
            yield from one_ahead(batches) if self.num_workers else batches
        except (RuntimeError, EOFError, OSError) as error:
            if "shared memory" in str(error):  # as PyTorch says it, of a process that lives on
                raise InputError(
                    f"/dev/shm has no room for the batches of num_workers = {self.num_workers} processes; make it "
                    "larger (in Docker: --shm-size 1g), or go on with --resume true --num_workers 0."
                ) from error
            how = death(getattr(batches, "_workers", ()))
            if how is None:
                raise
            raise InputError(
                f"of num_workers = {self.num_workers} processes that cut patches one died ({how}): memory may have run "
                "out, or /dev/shm (in Docker: --shm-size 1g); go on with --resume true --num_workers 0."
            ) from error

    def close(self) -> None:
        """End the processes now; left to torch, they would hold up the end of the program by seconds."""
        batches: Any = self._iterator
        if batches is not None:
            batches._shutdown_workers()
            self._iterator = None


def one_ahead(batches: Iterator[Any]) -> Iterator[Any]:
    """The same batches, the next always received by a thread: even to take one over takes some milliseconds."""
    with ThreadPoolExecutor(1) as receiver:
        coming = receiver.submit(next, batches, None)
        while (batch := coming.result()) is not None:
            coming = receiver.submit(next, batches, None)
            yield batch


def enough_workers(device: str, cores: int) -> int:
    """How many processes keep a step from waiting for its batch.

    A batch of the paper's is cut in some 10 ms, while a GPU's step takes 50–150 ms: one process is enough, the
    second is for a busy machine. On a CPU they would only take cores from the step (measured: no gain).
    """
    return min(2, cores - 1) if device == "cuda" else 0


def leave_signals_to_the_run(worker: int) -> None:
    """Keep a process alive through Ctrl-C and a batch system's SIGTERM, which the whole group is sent.

    The run ends it, after the step in hand. Asked to end by anyone, it does within a minute.

    Args:
        worker: its number.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda number, frame: signal.alarm(60))


def death(workers: Iterable[Any]) -> str | None:
    """How one of some processes has ended, other than well; None if none has."""
    for worker in workers:
        worker.join(1)  # its connection can break before its end is known
        if worker.exitcode:
            return signal.Signals(-worker.exitcode).name if worker.exitcode < 0 else f"exit code {worker.exitcode}"
    return None
