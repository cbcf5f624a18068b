"""How much memory there is, and whether what is freed stays at hand."""

from __future__ import annotations

import ctypes
import os
import resource
from pathlib import Path

import torch

GIB = 2**30
MMAP_THRESHOLD, TRIM_THRESHOLD = -3, -1  # of glibc's mallopt(3)

CGROUP_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")


def limit_bytes(device: torch.device) -> int:
    """Memory that this process may have: of the GPU, or of the machine, its cgroup and ``ulimit -v``."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return free + torch.cuda.memory_reserved(device)
    limits = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    for path in map(Path, CGROUP_LIMITS):
        text = path.read_text().strip() if path.is_file() else "max"
        limits += [int(text)] if text.isdigit() else []
    soft, _ = resource.getrlimit(resource.RLIMIT_AS)
    return min(limits + ([soft] if soft != resource.RLIM_INFINITY else []))


def keep_freed() -> None:
    """Let this process keep large blocks that are freed, where glibc manages memory.

    PyTorch asks for each layer's image anew, and the system clears every page of it: a fifth of a stain's time in half
    precision (docs/performance.md).
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        for what in (MMAP_THRESHOLD, TRIM_THRESHOLD):
            mallopt(what, GIB)
