"""One training shared out over the processes that ``torchrun`` starts, so that it gives what one process gives.

Every process holds the same networks and takes its share of each batch; ``DistributedDataParallel`` averages the
gradients. With a single process every function here does nothing, so a config needs no other wiring for it.
"""

from __future__ import annotations

import atexit
import contextlib
import logging
import os
import signal
import sys
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from bundle.common.errors import InputError, plain_errors

# how long a process waits for the others: they do while the main one scores whole slides or writes the report
WAIT = timedelta(minutes=30)

_failures: dist.Store | None = None


def begin(device: str | torch.device) -> None:
    """Join the other processes of this training; does nothing if ``torchrun`` did not start this one.

    Uses NCCL on GPUs and gloo on CPUs. Only the main process says what is not a warning of its own.

    Args:
        device: where this process trains.

    Raises:
        InputError: if there are more processes on this machine than GPUs.
    """
    global _failures
    if "RANK" not in os.environ or dist.is_initialized():
        return
    plain_errors(first_to_fail)
    device = torch.device(device)
    if device.type == "cuda":
        here = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
        if here > torch.cuda.device_count():
            raise InputError(
                f"torchrun started {here} processes on a machine with {torch.cuda.device_count()} GPUs; "
                f"pass --nproc_per_node={torch.cuda.device_count()} to torchrun."
            )
        torch.cuda.set_device(device)
    store, number, count = next(dist.rendezvous("env://", timeout=WAIT))
    backend = "nccl" if device.type == "cuda" else "gloo"
    dist.init_process_group(backend, store=store, rank=number, world_size=count, timeout=WAIT)
    # a restart by torchrun finds the same store
    _failures = dist.PrefixStore(f"failures {os.environ.get('TORCHELASTIC_RESTART_COUNT', 0)}", store)
    if not is_main():
        logging.disable(logging.WARNING)


def end(code: int = 0) -> None:
    """Part from the other processes and end this one; the last thing a training does. Alone it does nothing.

    Threads of gloo outlive their group where ``DistributedDataParallel`` was, and one that still holds a tensor while
    the interpreter is taken down aborts the process. So exit handlers run, and the interpreter is not taken down.

    Args:
        code: what the process exits with.
    """
    if not dist.is_initialized():
        return
    dist.destroy_process_group()
    # the first to be gone makes torchrun end the others, which are about to be with the same exit code
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):  # their reader is gone
            stream.flush()
    os._exit(code)


def apart() -> bool:
    """Whether ``torchrun`` started several processes that do not know of each other, so that each is the main one."""
    several = "TORCHELASTIC_RUN_ID" in os.environ and int(os.environ.get("WORLD_SIZE", "1")) > 1
    return several and not dist.is_initialized()


def first_to_fail() -> bool:
    """Whether no other process failed before this one: its error is the one to print, others are its echo."""
    if _failures is None:
        return True
    own = str(rank())
    try:
        return _failures.compare_set("first", "", own).decode() == own
    except RuntimeError:  # the store is gone, with the machine that held it
        return True


def lost(error: BaseException) -> bool:
    """Whether an error is that of waiting for a process which is gone."""
    silent = processes() > 1 and "gloo/transport" in str(error)  # gloo has no class of error for it, NCCL has
    return silent or isinstance(error, dist.DistError)


def processes() -> int:
    """How many processes share this training."""
    return dist.get_world_size() if dist.is_initialized() else 1


def rank() -> int:
    """Which of them this is, from 0."""
    return dist.get_rank() if dist.is_initialized() else 0


def is_main() -> bool:
    """Whether this is the process that writes files and says how it goes."""
    return rank() == 0


def greatest(value: int) -> int:
    """The greatest of the values of all processes, which is the same for all of them."""
    if processes() == 1:
        return value
    held = torch.tensor(value)
    held = held.to(_device(held))
    dist.all_reduce(held, dist.ReduceOp.MAX)
    return int(held)


def any_rank(flag: bool) -> bool:
    """Whether the flag is set in any process; all of them get the same answer."""
    return bool(greatest(int(flag)))


def barrier() -> None:
    """Wait until every process is here."""
    greatest(0)


def summed(value: Tensor) -> Tensor:
    """Sum of a tensor over the processes, without gradient."""
    if processes() == 1:
        return value
    total = value.detach().to(_device(value), copy=True)
    dist.all_reduce(total)
    return total.to(value.device)


def means(values: Mapping[str, Tensor]) -> dict[str, float]:
    """Means of scalars over the processes, such as the losses of their shares of a batch.

    NaN or infinite in one process is so in all.
    """
    if not values:
        return {}
    stacked = summed(torch.stack([value.detach().float() for value in values.values()])) / processes()
    return dict(zip(values, stacked.tolist(), strict=True))


def gathered(images: Tensor) -> Tensor:
    """The images of all processes, in the order that one process would have them.

    Args:
        images: (B, …), this process's share; every process has as many.

    Returns:
        (B · processes, …).
    """
    if processes() == 1:
        return images
    parts = [torch.empty_like(images, memory_format=torch.contiguous_format) for _ in range(processes())]
    dist.all_gather(parts, images.contiguous())
    return torch.cat(parts)


def own_share(images: Tensor) -> Tensor:
    """This process's share of images that all processes have; undoes :func:`gathered`."""
    return images.chunk(processes())[rank()]


def every_state(state: Any) -> list[Any]:
    """A small object of each process, such as the state of its random numbers, by rank."""
    states = [state] * processes()
    if processes() > 1:
        dist.all_gather_object(states, state)
    return states


def draw_apart() -> None:
    """Give each process but the first its own random numbers, so that not all drop out the same.

    To be called once the networks are made, which must begin alike.
    """
    if not is_main():
        torch.manual_seed(torch.initial_seed() + rank())


def synchronised(loss: nn.Module) -> nn.Module:
    """A loss whose gradients are the mean over all processes once ``backward`` has run.

    The module holds the networks that learn from it and computes the loss in one call, so that
    ``DistributedDataParallel`` sees one pass forward and one back however often a network is applied, and the
    networks themselves stay bare: their weights keep their names, and one process alone may apply them.

    Args:
        loss: a module; all its parameters require gradients and get them.
    """
    if processes() == 1:
        return loss
    return DistributedDataParallel(loss, forward_sync_buffers=False)  # no network here has any


class NoWriter:
    """Stands for TensorBoard's writer where there is nothing to write: takes everything and keeps nothing."""

    def add_scalar(self, *args: Any, **kwargs: Any) -> None:
        """Nothing."""

    add_image = add_scalar
    flush = add_scalar
    close = add_scalar


def writer_of_main(log_dir: str) -> Any:
    """TensorBoard's writer in the main process, :class:`NoWriter` in the others."""
    from torch.utils.tensorboard import SummaryWriter  # slow to import

    return SummaryWriter(log_dir) if is_main() else NoWriter()


def _device(value: Tensor) -> torch.device:
    """Where a tensor must be for all processes to exchange it: NCCL takes it from GPUs alone."""
    return torch.device("cuda", torch.cuda.current_device()) if dist.get_backend() == "nccl" else value.device
