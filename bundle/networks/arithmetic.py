"""How a training step computes: plain fp32, or faster arithmetic on the same weights, chosen by the clock."""

from __future__ import annotations

import logging
import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn

from bundle.common import processes
from bundle.common.errors import InputError
from bundle.common.lazily import is_loaded, lazily
from bundle.networks.engines import Autocast, cpu_has_bf16
from bundle.networks.shifted_norm import with_shifted_norms

FAST = "bundle.networks.fast.training"
fast = lazily(FAST)  # which loads a compiler, so not before it is used; None if missing

logger = logging.getLogger("bundle")

PLAIN = "fp32"
ROUNDS = 3  # timed steps of each, after one that compiles and warms up
TWINS = {  # of the CPU: images' type, Winograd
    "winograd_fp32": (torch.float32, True),
    "bf16": (torch.bfloat16, False),
    "winograd_bf16": (torch.bfloat16, True),
}
ARITHMETICS = {
    PLAIN: "PyTorch's own fp32",
    "winograd_fp32": "fp32, 3×3 convolutions by Winograd F(4×4, 3×3)",
    "bf16": "bf16, fp32 weights",
    "winograd_bf16": "bf16, fp32 weights, 3×3 convolutions by Winograd F(4×4, 3×3)",
    "autocast": "bf16 where PyTorch's autocast chooses, channels-last",
    "compiled": "the same through torch.compile",
}


def apply(network: nn.Module, arithmetic: str) -> nn.Module:
    """A module that computes what a network does, with the network's own parameters.

    Args:
        network: stays as it is, but for its memory format.
        arithmetic: a key of ``ARITHMETICS``.

    Returns:
        The network itself for plain fp32.

    Raises:
        InputError: if it needs ``bundle/networks/fast/``, which is missing.
    """
    if arithmetic in TWINS:
        if fast is None:
            raise InputError(without_fast(arithmetic))
        return fast.shared_out(network, *TWINS[arithmetic])
    if arithmetic == "autocast":
        return Autocast(with_shifted_norms(network), torch.bfloat16)
    if arithmetic == "compiled":
        return Autocast(torch.compile(with_shifted_norms(network)), torch.bfloat16)  # type: ignore[arg-type]
    return network


def refresh(network: nn.Module) -> None:
    """Let what :func:`apply` gave see the weights that an optimizer has changed."""
    if fast is not None and is_loaded(FAST) and isinstance(network, fast.Shards):
        network.forget()


def half(device: torch.device) -> str:
    """The arithmetic in half precision that a device computes without emulation; plain fp32 if there is none."""
    if device.type == "cuda":
        return "autocast"
    return "bf16" if device.type == "cpu" and cpu_has_bf16() else PLAIN


def candidates(device: torch.device, compiled: bool) -> list[str]:
    """What may be fastest on a device; plain fp32 is always among them."""
    if device.type == "cuda":
        return [PLAIN, "autocast", *(["compiled"] if compiled else [])]
    if device.type != "cpu":
        return [PLAIN]
    return [PLAIN, "winograd_fp32", *(["bf16", "winograd_bf16"] if cpu_has_bf16() else [])]


def without_fast(precision: str) -> str:
    """What to say where an arithmetic of the CPU is asked for that is not there."""
    return f"precision is {precision!r}; a CPU needs bundle/networks/fast for it, which is missing; use {PLAIN}."


def precision_fault(precision: Any, device: torch.device) -> str | None:
    """What is wrong with the id ``precision`` on a device, if anything."""
    known = candidates(device, True)
    if precision in ("fast", "half", *known):
        return without_fast(precision) if fast is None and device.type == "cpu" and precision != PLAIN else None
    names = ", ".join(known)
    return f"precision is {precision!r}; it must be fast, half, or an arithmetic of this {device.type}: {names}."


class Arithmetic:
    """The arithmetic of a run, which it keeps for life: ``latest.pt`` holds it.

    Args:
        precision: ``fast``, to time what this machine has and take the fastest; ``half``, half precision where it has
            it, without timing; or a key of ``ARITHMETICS``.
        device: where the training runs.
        compiled: on CUDA also try ``torch.compile``, which takes minutes to begin.

    Attributes:
        chosen: a key of ``ARITHMETICS``; empty until it is settled.
        seconds: of a step without the optimizers, by arithmetic, where it was timed.

    Raises:
        InputError: if ``precision`` is unknown, or not to be had on the device.
    """

    def __init__(self, precision: str, device: torch.device, compiled: bool = False) -> None:
        fault = precision_fault(precision, device)
        if fault:
            raise InputError(fault)
        self.device, self.compiled = device, compiled
        self.chosen = {"fast": "", "half": half(device)}.get(precision, precision)
        self.seconds: dict[str, float] = {}

    def settle(self, step_with: Callable[[str], None]) -> None:
        """Choose, unless that is done: time interleaved steps, and take the arithmetic of the least median.

        Args:
            step_with: takes one step with an arithmetic; must leave nothing changed.
        """
        if self.chosen:
            return
        times: dict[str, list[float]] = {name: [] for name in candidates(self.device, self.compiled)}
        for turn in range(1 + ROUNDS):
            for name in list(times):
                seconds, error = _timed(step_with, name, self.device)
                if processes.any_rank(error is not None):
                    del times[name]
                    if error is not None and not times:
                        raise error
                elif turn:
                    times[name].append(seconds)
        medians = {name: torch.tensor(statistics.median(seconds)) for name, seconds in times.items()}
        self.seconds = processes.means(medians)
        self.chosen = min(self.seconds, key=lambda name: self.seconds[name])
        figures = ", ".join(f"{name} {seconds:.3g} s" for name, seconds in self.seconds.items())
        logger.info("a step takes %s; this run computes with %s: %s", figures, self.chosen, ARITHMETICS[self.chosen])

    def state_dict(self) -> dict[str, Any]:
        """What was chosen, and why."""
        return {"chosen": self.chosen, "seconds": dict(self.seconds)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Keep what the run began with."""
        if self.chosen and state["chosen"] != self.chosen:
            logger.warning("this run began with precision %s and keeps it, not %s.", state["chosen"], self.chosen)
        self.chosen, self.seconds = state["chosen"], dict(state["seconds"])


def _timed(step_with: Callable[[str], None], name: str, device: torch.device) -> tuple[float, Exception | None]:
    """Seconds of one step, and what went wrong: not every arithmetic works with every network and in any memory."""
    begin = time.perf_counter()
    try:
        step_with(name)
        if device.type == "cuda":
            torch.cuda.synchronize(device)
    except (RuntimeError, NotImplementedError, TypeError) as error:
        logger.warning("%s does not work here (%s); it is left out.", name, str(error).split("\n")[0])
        return 0.0, error
    return time.perf_counter() - begin, None
