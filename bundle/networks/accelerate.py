"""A trained generator made fast for staining, without another function: channels-last, Winograd, half precision.

On a CPU one window is computed by one thread, and a batch of windows by as many as PyTorch may use. No thread waits
for another within a layer, and a window's result depends neither on the batch it is in nor on the number of threads.
"""

from __future__ import annotations

import logging
import math
import statistics
import threading
import time
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from bundle.common.errors import InputError
from bundle.common.memory import keep_freed
from bundle.common.trained_bundle import ENGINES, SPEEDS
from bundle.networks.engines import engine, engines, fast
from bundle.networks.error_map import has_error
from bundle.networks.layers import is_instance_norm
from bundle.networks.threads import share_out

logger = logging.getLogger("bundle")

LARGEST_WINDOW = 512 * 512  # px that one thread computes alone; all share a larger image
LEAST_PSNR, MOST_APART = 55.0, 0.03  # dB, and of [−1, 1]: what `fast` must keep to `exact`
ROUNDS = 3  # timed, after one that compiles and warms up
TRIED_PX = 256  # a side at most, of what is timed
WITHOUT_FAST = ", as bundle/networks/fast is missing"

_choosing = threading.Lock()


@dataclass
class Choice:
    """The arithmetic of a run, once it is chosen.

    Attributes:
        speed: as asked for.
        device: where it computes.
        name: one of ``ENGINES``; empty until it is chosen.
        seconds: of a window, by name, where they were timed.
        psnr: to ``exact`` there, dB, likewise.
    """

    speed: str
    device: torch.device
    name: str = ""
    seconds: dict[str, float] = field(default_factory=dict)
    psnr: dict[str, float] = field(default_factory=dict)


class Accelerated(nn.Module):
    """A network for inference only, see :func:`accelerate`.

    Args:
        network: a generator, which stays as it is.
        choice: of the arithmetic; networks of one run share it.
    """

    def __init__(self, network: nn.Module, choice: Choice) -> None:
        super().__init__()
        self._given, self.choice = (network,), choice  # no module of this one: it is not called
        self.exact = engine(_exact(network, choice.device), network, choice.device)
        self.engine: nn.Module | None = None
        if choice.name:
            self.settle(choice.name)

    @property
    def given(self) -> nn.Module:
        """The network that it computes."""
        return self._given[0]

    @property
    def learner(self) -> nn.Module:
        """What meets statistics as the arithmetic does, where its norms tell them; ``exact`` else, as beside fp16."""
        met = [norms_of(each) for each in (self.engine, self.given)]
        return self.engine if self.engine is not None and met[0] == met[1] else self.exact

    def like(self, network: nn.Module) -> Accelerated:
        """Another network in the same arithmetic."""
        return Accelerated(network, self.choice)

    @property
    def arithmetic(self) -> str:
        """How it computes, in one line."""
        return "the fastest that is close enough" if self.engine is None else str(self.engine.arithmetic)

    def settle(self, name: str) -> None:
        """Compute in an arithmetic from now on.

        Raises:
            InputError: if this machine has none of that name.
        """
        there = engines(self.given, self.choice.device)
        if name not in there:
            raise InputError(
                f"speed is {name!r}, which this {self.choice.device.type} has not for this network; it has "
                f"{', '.join(there)}{WITHOUT_FAST if fast is None else ''}."
            )
        self.choice.name = name
        own = name == _exact(self.given, self.choice.device)
        self.engine = self.exact if own else engine(name, self.given, self.choice.device)

    @torch.no_grad()
    def choose(self, x: Tensor) -> None:
        """Time what this machine has on an image, and take the fastest that is close enough to ``exact``, once.

        Args:
            x: (B, C, H, W) in [−1, 1]; where it has most contrast is what is timed.
        """
        with _choosing:
            if self.engine is None and self.choice.name:  # for another network of the run
                self.settle(self.choice.name)
            if self.engine is not None:
                return
            window = most_contrast(x.as_subclass(Tensor).to(self.choice.device), TRIED_PX)
            near = self._near(window.contiguous(memory_format=torch.channels_last))
            self.choice.seconds = near
            self.settle(min(near, key=lambda name: near[name]))
            told = ", ".join(self._told(name) for name in near)
            side = "×".join(str(px) for px in window.shape[2:])
            logger.info("a window of %s px takes %s: --speed %s takes the fastest again", side, told, self.choice.name)

    def _told(self, name: str) -> str:
        psnr = f" ({self.choice.psnr[name]:.0f} dB)" if name in self.choice.psnr else ""
        return f"{name} {1000 * self.choice.seconds[name]:.3g} ms{psnr}"

    def _near(self, window: Tensor) -> dict[str, float]:
        """Seconds of a window in each arithmetic that is close enough to ``exact``."""
        device, names = self.choice.device, _candidates(self.given, self.choice.device)
        windows = [window] * (torch.get_num_threads() if device.type == "cpu" else 1)
        expected, tried = self.exact(window), {names[0]: self.exact}
        for name in names[1:]:
            try:
                made = engine(name, self.given, device)
                found = made(window)
            except (RuntimeError, NotImplementedError, TypeError) as error:
                logger.warning("%s does not work here (%s); it is left out.", name, str(error).split("\n")[0])
                continue
            off = (found - expected)[:, : -1 if has_error(self.given) else None]  # of the stain
            apart, square = float(off.abs().max()), float(off.square().mean(dtype=torch.float64))
            psnr = 10 * math.log10(4 / square) if square else math.inf
            if psnr >= LEAST_PSNR and apart <= MOST_APART:
                tried[name], self.choice.psnr[name] = made, min(psnr, 200.0)
            else:
                logger.info("%s is too far from exact here: %.1f dB, at most %.2g apart", name, psnr, apart)
        seconds: dict[str, list[float]] = {name: [] for name in tried}
        for number in range(1 + ROUNDS):
            for name, made in tried.items() if len(tried) > 1 else ():
                begin = time.perf_counter()
                share_out(made, windows)
                if device.type == "cuda":
                    torch.cuda.synchronize(device)
                if number:
                    seconds[name].append((time.perf_counter() - begin) / len(windows))
        return {name: statistics.median(each) if each else 0.0 for name, each in seconds.items()}

    @torch.no_grad()
    def forward(self, x: Tensor) -> Tensor:
        """Translate images.

        Args:
            x: (B, C, H, W) in [−1, 1].

        Returns:
            (B, C', H, W), fp32; each image the same whatever is in the batch with it (on the CPU).
        """
        x = x.as_subclass(Tensor)  # MONAI's meta data would be copied at each layer
        if self.engine is None:
            self.choose(x)
        if x.device.type != "cpu" or x.shape[-2] * x.shape[-1] > LARGEST_WINDOW:
            return self._translate(x)
        return torch.cat(share_out(self._translate, list(x.split(1))))

    def _translate(self, x: Tensor) -> Tensor:
        assert self.engine is not None
        x = x.contiguous(memory_format=torch.channels_last)
        with torch.backends.cudnn.flags(enabled=True, deterministic=True, allow_tf32=False):
            return self.engine(x)


class Unchanged(nn.Module):
    """A network as it is, image by image on the CPU: what MONAI alone computes with windows one at a time.

    Args:
        network: in fp32.
    """

    arithmetic = "fp32, PyTorch's own layers"

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    @torch.no_grad()
    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) → (B, C', H, W), fp32."""
        x = x.as_subclass(Tensor)
        return torch.cat([self.network(image) for image in (x.split(1) if x.device.type == "cpu" else [x])])


def most_contrast(x: Tensor, side: int) -> Tensor:
    """The square of at most a side of the images (B, C, H, W) whose values deviate most: (1, C, h, w)."""
    best, most = x[:1, :, :side, :side], -1.0
    for top in range(0, max(1, x.shape[2] - side + 1), side):
        for left in range(0, max(1, x.shape[3] - side + 1), side):
            parts = x[:, :, top : top + side, left : left + side]
            deviation, place = parts.flatten(2).std(2).mean(1).max(0)  # within channels, which may be of other levels
            if float(deviation) > most:
                best, most = parts[place][None], float(deviation)
    return best


def _exact(network: nn.Module, device: torch.device) -> str:
    """fp32, on the CPU with 3×3 convolutions by Winograd F(4×4, 3×3) where there may be some."""
    return "winograd_fp32" if "winograd_fp32" in engines(network, device) else "fp32"


def _candidates(network: nn.Module, device: torch.device) -> list[str]:
    """What ``fast`` tries: that of ``exact``, and what is faster on some machines."""
    left_out = {"fp32", "winograd_fp32", "compiled"}
    if fast is not None and not fast.half.has_wide(network):
        left_out.add("winograd_bf16")  # which is bf16 then
    return [_exact(network, device), *(name for name in engines(network, device) if name not in left_out)]


def norms_of(network: nn.Module | None) -> int:
    """How many norms of a network tell what they meet."""
    modules = [] if network is None else list(network.modules())
    return sum(is_instance_norm(module) or hasattr(module, "learnt") for module in modules)


def _has_norms(network: nn.Module) -> bool:
    return any(is_instance_norm(module) for module in network.modules())


def accelerate(
    network: nn.Module, speed: str = "exact", device: str | torch.device = "cpu", normalisation: str = "window"
) -> Accelerated | Unchanged:
    """The same function, faster.

    ``exact`` is fp32 throughout; on the CPU with 3×3 convolutions by Winograd F(4×4, 3×3). It is chosen by the machine
    alone, so that what is evaluated with it can be had again. ``fast`` times the arithmetics that the machine has on a
    window of the first image, and takes the fastest of those that stay within 55 dB and 0.03 of ``exact`` there; a line
    names it, and that name as ``speed`` takes it again, here or on another machine. ``preview`` computes as ``fast``
    does; its windows are further apart. ``stock`` leaves the network as it is: to the bit what MONAI gives where this
    repository's code is not installed (``configs/series.json``).

    Args:
        network: a generator, which stays as it is; a copy is made.
        speed: one of ``SPEEDS``.
        device: where to compute.
        normalisation: ``dense`` needs the network's own norms, which bf16 on the CPU has not.

    Returns:
        The network for inference; its ``arithmetic`` says in one line how it computes.

    Raises:
        InputError: if ``speed`` is unknown, or not to be had.
    """
    if speed not in SPEEDS:
        raise InputError(f"speed is {speed!r}; it must be one of {', '.join(SPEEDS)}.")
    device = torch.device(device)
    if speed == "stock":
        return Unchanged(network.to(device).eval())
    if device.type == "cpu":
        keep_freed()
    made = Accelerated(network, Choice(speed, device))
    if speed in ENGINES or speed == "exact":
        made.settle(_exact(network, device) if speed == "exact" else speed)
        assert made.engine is not None
        if normalisation == "dense" and _has_norms(network) and not _has_norms(made.engine):
            raise InputError(
                f"speed is {speed!r}, whose norms take no statistics, but normalisation is 'dense'; give --speed exact."
            )
    elif normalisation == "dense":
        made.settle("fp16" if "fp16" in engines(network, device) else _exact(network, device))
    return made
