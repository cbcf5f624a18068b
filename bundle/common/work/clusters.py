"""Dask clusters that a run starts for itself, or joins."""

from __future__ import annotations

import contextlib
import importlib.util
import logging
import os
import signal
import sys
from typing import Any

from bundle.common.errors import InputError
from bundle.common.extras import install_line
from bundle.common.work.engine import SLURM, gpus, share_of_cores

LOOPBACK = "127.0.0.1"
LOCAL = "local-"  # names of workers of this machine begin so
DEATHS = 10  # of workers with a task in hand, before Dask gives it back to us
# no limit: a network takes what it needs, and a slab is measured before
OWN = {"nthreads": 1, "memory_limit": 0}
# Ctrl-C at a terminal reaches all processes there: workers leave it to the client, which ends them
DEAF = "import signal\nsignal.signal(signal.SIGINT, signal.SIG_IGN)\n"
# in workers of this machine too: what goes wrong in a task is told by the client
HUSHED = "ignore::UserWarning:multiprocessing.resource_tracker"  # of what workers leave that are ended at once
QUIET = {"distributed.nanny.pre-spawn-environ.DASK_LOGGING__DISTRIBUTED": "critical"}


def start(cluster: str | None, workers: int) -> tuple[Any, Any]:
    """A client, and the cluster it ends with; None for one that was there.

    Args:
        cluster: as of :class:`bundle.common.work.engine.Engine`.
        workers: how many, of a cluster that is started.

    Raises:
        InputError: if there is none at the address, or it cannot be started.
    """
    if importlib.util.find_spec("distributed") is None:
        raise InputError(f"Dask, of workers, is not installed; {install_line('cluster')}, or pass --workers 1.")
    import dask
    from distributed import Client

    dask.config.set({"distributed.scheduler.allowed-failures": DEATHS, **QUIET})
    logging.getLogger("distributed").setLevel(logging.CRITICAL)  # MONAI lets all through
    if cluster is None:
        own = local(workers)
    elif cluster == SLURM:
        own = slurm(workers)
    else:
        return join(cluster), None
    return Client(own, set_as_default=False), own


def join(address: str, timeout_s: float = 10) -> Any:
    """A client of a scheduler that runs.

    Raises:
        InputError: if there is none.
    """
    from distributed import Client

    try:
        return Client(address, timeout=timeout_s, set_as_default=False)
    except (OSError, TimeoutError) as error:
        raise InputError(
            f"cluster {address} does not answer; start one there (dask scheduler), or leave --cluster out."
        ) from error
    except (ValueError, TypeError) as error:  # tls without certificates
        raise InputError(f"cluster {address} cannot be joined: {error}") from error


def local(workers: int) -> Any:
    """So many workers on this machine, one a GPU if it has any; they speak TLS, as others may be on it too."""
    import dask
    from distributed import Nanny, Scheduler, SpecCluster
    from distributed.security import Security

    os.environ.setdefault("PYTHONWARNINGS", HUSHED)
    security, there, threads = Security.temporary(), gpus(), str(share_of_cores(workers))
    preload = [*dask.config.get("distributed.worker.preload", []), DEAF]
    talk = {"host": LOOPBACK, "protocol": "tls://", "security": security}
    env = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), threads)
    spec = {}
    for number in range(workers):
        own = {**env, "CUDA_VISIBLE_DEVICES": str(number % there)} if there else env
        offers = {"GPU": 1} if there else {}
        options = {**OWN, **talk, "name": f"{LOCAL}{number}", "env": own, "resources": offers, "preload": preload}
        spec[number] = {"cls": Nanny, "options": options}
    board = {"dashboard": has_dashboard(), "dashboard_address": f"{LOOPBACK}:0"}
    scheduler = {"cls": Scheduler, "options": {**talk, "port": 0, **board}}
    return SpecCluster(workers=spec, scheduler=scheduler, security=security, silence_logs=logging.ERROR)


def see_slurm() -> None:
    """See that jobs of SLURM can be asked for; in the main thread.

    Raises:
        InputError: if a package, or what a job asks for, is missing.
    """
    import dask

    if importlib.util.find_spec("dask_jobqueue") is None:
        raise InputError(f"cluster is slurm, but dask-jobqueue is not installed; {install_line('cluster')}")
    asked = (signal.SIGINT, signal.SIGTERM)
    handlers = [signal.getsignal(each) for each in asked]
    import dask_jobqueue  # noqa: F401  it reads its configuration, and takes Ctrl-C for itself

    for each, handler in zip(asked, handlers, strict=True):
        signal.signal(each, handler)
    missing = [name for name in ("cores", "memory") if dask.config.get(f"jobqueue.slurm.{name}", None) is None]
    if missing:
        raise InputError(
            f"cluster is slurm, but {' and '.join(f'jobqueue.slurm.{name}' for name in missing)} of a job is not set; "
            "write it in ~/.config/dask/jobqueue.yaml (docs/scale.md has an example)."
        )


def slurm(workers: int) -> Any:
    """Up to so many jobs of SLURM, a worker each, as there is work; what a job asks for is in Dask's configuration."""
    import dask
    from dask_jobqueue import SLURMCluster
    from distributed.security import Security

    cores = dask.config.get("jobqueue.slurm.cores")
    prologue = dask.config.get("jobqueue.slurm.job-script-prologue", None) or []
    own = dask.config.get("jobqueue.slurm.scheduler-options", None) or {}
    cluster = SLURMCluster(
        cores=1,  # a worker does a task at a time, with all threads of its job
        processes=1,
        job_cpu=cores,
        job_script_prologue=[*prologue, f"export OMP_NUM_THREADS={cores}"],
        python=sys.executable,
        security=Security.temporary(),
        protocol="tls://",
        scheduler_options={"dashboard": has_dashboard(), "dashboard_address": ":0", **own},
        silence_logs=logging.ERROR,
    )
    cluster.adapt(minimum=1, maximum=workers)
    return cluster


def drop(own: Any) -> None:
    """End the workers of this machine at once, whatever they have in hand: a thread that computes takes no orders."""
    from distributed import Nanny

    for nanny in own.workers.values():
        if isinstance(nanny, Nanny) and nanny.pid:
            nanny.close_gracefully()  # which only says that no other worker is to be begun for it
            with contextlib.suppress(ProcessLookupError):
                os.kill(nanny.pid, signal.SIGKILL)


def has_dashboard() -> bool:
    """Whether a scheduler here can show one."""
    return importlib.util.find_spec("bokeh") is not None
