"""What a run is made with besides its config and data: code, packages, processor. All of it can change a result."""

from __future__ import annotations

import os
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from bundle.common.errors import InputError

# those whose code touches a number on the way from the files to the weights
PACKAGES = (
    *("torch", "torchvision", "monai", "pytorch-ignite", "numpy", "scipy", "numba", "scikit-image"),
    *("lpips", "stardist", "itk", "tifffile", "imagecodecs", "pillow", "nibabel", "pynrrd"),
)


def versions() -> dict[str, str | None]:
    """Versions of Python and of the packages that matter; None for one that is not there."""
    return {"python": platform.python_version(), **{name: _version(name) for name in PACKAGES}}


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def hardware() -> dict[str, Any]:
    """Processor, GPUs, and over how many threads and processes sums are shared, which changes their rounding."""
    import torch  # here, as it takes seconds

    from bundle.common import processes

    gpus = [torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())]
    return {
        "processor": processor(),
        "capability": torch.backends.cpu.get_cpu_capability(),
        "gpus": gpus,
        "threads": torch.get_num_threads(),
        "processes": processes.processes(),
    }


def cores() -> int:
    """How many threads may compute here, as PyTorch counts them: ``OMP_NUM_THREADS``, else the cores of the process.

    Raises:
        InputError: if ``OMP_NUM_THREADS`` is not a whole number above 0; of several, ``2,1``, the first counts.
    """
    told = os.environ.get("OMP_NUM_THREADS", "").split(",")[0].strip()
    if not told:
        return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if not told.isdecimal() or int(told) == 0:
        raise InputError(f"OMP_NUM_THREADS is {told!r}; it must be a whole number above 0, or be left out.")
    return int(told)


def processor() -> str:
    """The processor's name."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor() or platform.machine())


def code_version() -> str | None:
    """The git commit of this checkout, ``+`` added if files differ from it; None outside git."""
    folder = Path(__file__).parent
    describe = ["git", "-C", str(folder), "describe", "--always", "--abbrev=40", "--dirty=+", "--exclude=*"]
    try:
        return subprocess.run(describe, capture_output=True, text=True, check=True, timeout=10).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None
