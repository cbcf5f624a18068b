"""What :mod:`scripts.bench.gpu` times, and its tables."""

from __future__ import annotations

import itertools
import json
import math
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Mapping, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from bundle.common.errors import InputError
from bundle.networks.engines import Autocast, HalfWeights
from bundle.staining.model import as_integers, model_in_memory
from bundle.staining.stainer import Stainer
from scripts.bench.gpu_timer import SMALL, Do, Sizes, Timer, Timing
from scripts.bench.patches import HOME, noise_dataset
from scripts.bench.roofline import ARITHMETICS, count, overlapping_pixels, paper, side_by_side_pixels, specimen
from scripts.bench.training import make_trainer, our_step

Way = tuple[Callable[[Any], nn.Module], dict[str, bool]]  # what becomes of a network, and arguments of `stained`
COMPILING_S = 60.0  # that torch.compile may take, assumed


def machine(device: torch.device) -> str:
    """Device, driver and versions, in a line."""
    if device.type != "cuda":
        return f"{device}, {torch.get_num_threads()} threads, torch {torch.__version__}"
    driver = "unknown"
    if shutil.which("nvidia-smi"):
        asked = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
        told = subprocess.run(asked, capture_output=True, text=True, check=False).stdout.split()
        driver = told[0] if told else driver
    card = torch.cuda.get_device_properties(device)
    return (
        f"{card.name}, {card.total_memory / 1e9:.0f} GB, driver {driver}, torch {torch.__version__}, "
        f"CUDA {torch.version.cuda}, cuDNN {torch.backends.cudnn.version()}, {os.cpu_count()} cores"
    )


@torch.inference_mode()
def stained(network: nn.Module, x: Tensor, tf32: bool = False, search: bool = False) -> Tensor:
    """What a network makes, with TF32 or without, and with cuDNN's search for its fastest kernels or without."""
    with torch.backends.cudnn.flags(enabled=True, benchmark=search, deterministic=not search, allow_tf32=tf32):
        return network(x)


def modes(device: torch.device) -> dict[str, Way]:
    """Ways to compute that begin at once, channels-last."""
    half, as_it_is = partial(Autocast, dtype=torch.float16), lambda network: network
    ways: dict[str, Way] = {
        "fp32": (as_it_is, {}),
        "fp16 autocast": (half, {}),
        "bf16 autocast": (partial(Autocast, dtype=torch.bfloat16), {}),
        "fp16 weights": (HalfWeights, {}),
    }
    if device.type == "cuda":
        ways |= {"TF32": (as_it_is, {"tf32": True}), "fp16 autocast, cuDNN searches": (half, {"search": True})}
    return ways


def compiled(network: Any) -> nn.Module:
    """Through ``torch.compile``, for one size, in fp16 where autocast chooses it."""
    made: Any = torch.compile(network, dynamic=False)
    return Autocast(made, torch.float16)


def window_call(network: nn.Module, way: Way, device: torch.device, shape: Sequence[int]) -> Do:
    """A call that stains a batch of windows of this shape."""
    x = torch.rand(*shape, device=device) * 2 - 1
    return partial(stained, way[0](network), x.contiguous(memory_format=torch.channels_last), **way[1])


def pixels_of_a_cube(sizes: Sizes) -> tuple[int, int]:
    """That the networks see of a cube: the paper's in windows that overlap, the other in windows side by side."""
    network = paper(sizes.width, sizes.blocks)
    overlapping = overlapping_pixels(sizes.side, sizes.window, sizes.step)
    return overlapping, side_by_side_pixels(sizes.side, sizes.large, network.reach, network.multiple)


def windows(timer: Timer, title: str, ways: Mapping[str, Way], begin_s: float = 0.0) -> None:
    """Time windows of both networks; print them, and what they make of a cube.

    Args:
        timer: that times.
        title: of the table.
        ways: to compute.
        begin_s: what the first call of each may take more.
    """
    sizes, rows, cubes = timer.sizes, [], []
    both = (("paper", paper, sizes.window), ("one section's statistics", specimen, sizes.large))
    for (name, build, side), pixels in zip(both, pixels_of_a_cube(sizes), strict=True):
        own: nn.Module = build(sizes.width, sizes.blocks)
        flop = sum(each.flop for each in count(build(sizes.width, sizes.blocks), (1, 3, side, side), ARITHMETICS[0]))
        network = own.to(timer.device).to(memory_format=torch.channels_last)
        for mode, way in ways.items():
            best = math.inf
            for batch in sizes.batches:
                make = partial(window_call, network, way, timer.device, (batch, 3, side, side))
                found = timer(f"{name}, {side} px, {mode}, batch {batch}", make, mode, batch * side**2, begin_s)
                if found:
                    each = found.median / batch
                    best = min(best, each)
                    cells = [f"{1 / each:.3g}", found.milliseconds(batch), found.peak, f"{flop / each / 1e12:.3g}"]
                    rows.append([name, side, mode, batch, *cells])
            if best < math.inf:
                cubes.append([name, side, mode, f"{pixels / side**2 * best / 60:.3g}"])
    print(f"## {title}\n")
    heads = ["network", "px", "arithmetic", "batch", "windows/s", "ms a window (range)", "peak, GB", "TFLOP/s"]
    timer.table(heads, rows)
    print(f"In all windows of {sizes.side:,}³, nothing else counted:\n")
    timer.table(["network", "px", "arithmetic", "minutes"], cubes)


def steps(timer: Timer) -> None:
    """Time steps of the trainer, with the batch on the host as a loader has it, and print them."""
    sizes, rows = timer.sizes, []
    with tempfile.TemporaryDirectory() as folder:
        noise_dataset(Path(folder) / "data", 2 * sizes.patch)
        for method, batch, arithmetic in itertools.product((None, "one_way"), (1, 4), ("fp32", "autocast")):

            def make(method: str | None = method, batch: int = batch, arithmetic: str = arithmetic) -> Do:
                own = {"width": sizes.width, "blocks": sizes.blocks, "patch_size": sizes.patch, "batch_size": batch}
                trainer = make_trainer(Path(folder), method, device=str(timer.device), num_workers=0, **own)
                return partial(our_step(trainer, arithmetic), next(iter(trainer.data_loader)))

            title = method or "paired CycleGAN"
            kind = f"{title}, {arithmetic}"
            found = timer(f"step of {kind}, batch {batch}", make, kind, batch)
            if found:
                speed = f"{batch / found.median:.3g}"
                rows.append([title, arithmetic, batch, found.milliseconds(), speed, found.peak])
    print(f"## A training step, patches of {sizes.patch} px\n\nfp32 as PyTorch has it: TF32 in convolutions.\n")
    timer.table(["method", "arithmetic", "batch", "ms (range)", "patches/s", "peak, GB"], rows)


def copies(timer: Timer) -> None:
    """Time copies of a slice as the network takes it and as it leaves it, and print them."""
    here = torch.rand(3, timer.sizes.side, timer.sizes.side)
    makes: dict[str, Callable[[], Do]] = {
        "to the device": lambda: partial(here.to, timer.device, copy=True),
        "back": lambda: partial(here.to(timer.device).to, "cpu", copy=True),
    }
    if timer.device.type == "cuda":
        makes["to the device, from pinned memory"] = lambda: partial(here.pin_memory().to, timer.device, copy=True)
    rows = []
    for name, make in makes.items():
        found = timer(f"copy {name}", make, "copies", 1)
        if found:
            rows.append([name, found.milliseconds(), f"{here.nbytes / found.median / 1e9:.3g}"])
    print(f"## Copies of {timer.sizes.side}² px, three channels, fp32\n")
    timer.table(["", "ms (range)", "GB/s"], rows)


def make_stainer(sizes: Sizes, device: torch.device, by_section: bool, speed: str) -> Stainer:
    """Stains slices as a trained bundle of random weights would, windows as in the paper or as in ``firm``."""
    inference = json.loads((HOME / "configs" / "inference.json").read_text(encoding="utf-8"))
    inference["network_def"] |= {"width": sizes.width, "blocks": sizes.blocks}
    ids: dict[str, Any] = {"window": sizes.window, "step": sizes.step}
    if by_section:
        ids = {"window": sizes.large, "step": None, "normalisation": "specimen"}
    weights = paper(sizes.width, sizes.blocks).state_dict()
    made: Any = model_in_memory(inference, weights, device, speed=speed, **ids)
    parts = (made.preprocessing, made.accelerated, made.inferer, made.postprocessing)
    return Stainer(*parts, device=device, window=made.window, step=made.step, batch=1)


def slice_parts(sizes: Sizes, device: torch.device, by_section: bool, speed: str) -> dict[str, Do]:
    """Staining a slice of noise from memory to memory, and what it consists of."""
    pixels = np.random.default_rng(0).integers(0, 65536, (1, 1, sizes.side, sizes.side)).astype(np.float32)
    stainer = make_stainer(sizes, device, by_section, speed)
    shapes: list[torch.Size] = []
    if by_section:
        stainer.settle(stainer.learn(pixels[0]))
    hook = stainer.network.register_forward_pre_hook(lambda _, given: shapes.append(given[0].shape))
    stainer(pixels)
    hook.remove()
    inputs = {shape: torch.rand(shape, device=device) * 2 - 1 for shape in set(shapes)}
    made = torch.rand(3, sizes.side, sizes.side, device=device)

    @torch.inference_mode()
    def alone() -> None:
        for shape in shapes:
            stainer.network(inputs[shape])

    return {
        "whole": partial(stainer, pixels),
        "windows": alone,
        "before": partial(stainer.preprocessing, {"image": torch.from_numpy(pixels[0])}),
        "after": lambda: as_integers(stainer.postprocessing({"pred": made})["pred"]),
    }


def slices(timer: Timer) -> None:
    """Time whole slices, and what of them is not the network, and print that."""
    sizes, rows = timer.sizes, []
    cubes = pixels_of_a_cube(sizes)
    for by_section, speed in itertools.product((False, True), ("exact", "fast")):
        title = "one section's statistics" if by_section else "paper"
        parts = cache(partial(slice_parts, sizes, timer.device, by_section, speed))
        found: dict[str, Timing] = {}
        for part in ("whole", "windows", "before", "after"):
            kind = {"exact": "fp32", "fast": "fp16 weights"}[speed] if part in ("whole", "windows") else part
            make = partial(lambda of, which: of()[which], parts, part)
            timing = timer(f"slice, {title}, {speed}, {part}", make, kind, cubes[by_section] / sizes.side)
            if timing is None:
                break
            found[part] = timing
        else:
            whole, inside, before, after = (found[part].median for part in ("whole", "windows", "before", "after"))
            spent = (inside, before, after, whole - inside - before - after)
            told = [f"{1000 * seconds:.3g} ({100 * seconds / whole:.0f} %)" for seconds in spent]
            minutes = f"{whole * sizes.side / 60:.3g}"
            rows.append([title, speed, found["whole"].milliseconds(), *told, minutes, found["whole"].peak])
    print(f"## A slice of {sizes.side}² px, from memory to memory, ms\n")
    inner = ["windows alone", "preprocessing", "postprocessing and copy back", "blending and the rest"]
    timer.table(["network", "speed", "whole (range)", *inner, f"{sizes.side:,}³: minutes", "peak, GB"], rows)


def report(device: str, small: bool, minutes: float, compiling: bool) -> None:
    """Time all of it, and print it.

    Raises:
        InputError: if there is no such device.
    """
    try:
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:  # of PyTorch without CUDA the latter
        found = f"{torch.cuda.device_count()} GPU(s)"
        raise InputError(f"device is {device!r}, but PyTorch finds {found}; try --device cpu --small.") from error
    timer = Timer(torch.device(device), minutes, SMALL if small else Sizes())
    torch.manual_seed(0)
    print(
        f"{machine(timer.device)}\n\nMedians of at most {timer.sizes.rounds} rounds, one thing after the other.\n",
        flush=True,
    )
    windows(timer, "Windows", modes(timer.device))
    for part in (steps, copies, slices):
        part(timer)
    if compiling:
        windows(timer, "Windows through torch.compile", {"fp16 autocast, compiled": (compiled, {})}, COMPILING_S)
