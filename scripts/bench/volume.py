"""What staining a volume costs beside its windows, and how much memory it takes: ``python -m scripts.bench.volume``."""

from __future__ import annotations

import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

import fire
import nibabel
import numpy as np
import torch
from monai.bundle import run

from bundle.staining import command as volume_command
from bundle.staining.model import load_model
from bundle.staining.run import Run
from bundle.staining.source import Bricks, SmoothedScan
from bundle.staining.stainer import Stainer, Windows
from scripts.bench.patches import HOME


def write_noise(path: Path, slices: int, side: int) -> Path:
    """Write a scan of smooth noise, slice by slice, as uncompressed NIfTI of 5 µm."""
    header = nibabel.Nifti1Header()
    header.set_data_dtype(np.uint16)
    header.set_data_shape((side, side, slices))
    header.set_xyzt_units("mm")
    header["pixdim"][1:4] = 0.005
    header.set_sform(np.diag([-0.005, -0.005, 0.005, 1]), 1)
    header["vox_offset"], header["magic"] = 352, b"n+1"
    rng = np.random.default_rng(0)
    coarse = rng.integers(10000, 30000, (side // 8, side // 8), dtype=np.uint16)
    with path.open("wb") as file:
        file.write(header.binaryblock + bytes(4))
        for number in range(slices):
            np.roll(np.kron(coarse, np.ones((8, 8), np.uint16)), number, axis=0).tofile(file)
    return path


def stain(bundle: str, scan: Path, output_dir: Path, **ids: object) -> tuple[float, int]:
    """Stain as a user would.

    Returns:
        Seconds, and the peak memory of the process in bytes.
    """
    configs = f"['{bundle}/configs/inference.json','configs/volume.json']"
    every = {"bundle_root": bundle, "input": scan, "output_dir": output_dir, "device": "cpu", **ids}
    command = [sys.executable, "-m", "monai.bundle", "run", "inference", "--config_file", configs]
    command += [word for name, value in every.items() for word in (f"--{name}", str(value))]
    code = "import resource, subprocess, sys; done = subprocess.run(sys.argv[1:]); "
    code += "print('peak', resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss); sys.exit(done.returncode)"
    began = time.perf_counter()
    done = subprocess.run([sys.executable, "-c", code, *command], cwd=HOME, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(done.stderr[-2000:])
    return time.perf_counter() - began, int(done.stdout.split("peak ")[-1]) * 1024


def memory(bundle: str, side: int = 1024, few: int = 32, many: int = 512, step: int = 256) -> None:
    """Peak memory of two volumes that differ in the number of slices alone.

    Args:
        bundle: a trained bundle; a narrow one will do.
        side: of a slice, px.
        few: slices of the one.
        many: slices of the other.
        step: between windows, px.
    """
    peaks = []
    for slices in (few, many):
        with tempfile.TemporaryDirectory() as folder:
            scan = write_noise(Path(folder) / "scan.nii", slices, side)
            seconds, peak = stain(bundle, scan, Path(folder) / "stained", step=step)
        peaks.append(peak)
        print(f"{slices} slices of {side}²: peak {peak / 1e9:.2f} GB, {seconds:.0f} s", flush=True)
    print(f"{100 * (peaks[1] / peaks[0] - 1):+.1f} %")


def windows(bundle: str, speed: str = "fast", slices: int = 8, side: int = 512, step: int = 128) -> None:
    """Time of a volume over that of its windows alone, timed in this process before and after.

    Args:
        bundle: a trained bundle of width 64.
        speed: ``exact``, ``fast`` or ``preview``.
        slices: of the scan.
        side: of a slice, px.
        step: between windows, px.
    """
    network, together = load_model(bundle, "cpu", speed=speed, error_map=None).accelerated, torch.get_num_threads()
    batch = torch.rand(together, 3, 256, 256) * 2 - 1

    def one() -> float:
        """Seconds of a window, in a batch as the volume has them."""
        began = time.perf_counter()
        with torch.inference_mode():
            network(batch)
        return (time.perf_counter() - began) / together

    one()
    timed = [one() for _ in range(10)]
    with tempfile.TemporaryDirectory() as folder:
        scan = write_noise(Path(folder) / "scan.nii", slices, side)
        whole, _ = stain(bundle, scan, Path(folder) / "stained", speed=speed, step=step)
        spent = json.loads((Path(folder) / "stained" / "volume.json").read_text(encoding="utf-8"))["spent"]
    timed += [one() for _ in range(10)]
    alone = spent["windows"] * statistics.median(timed)
    inner = spent["seconds"] + spent["joining_seconds"]
    print(
        f"{spent['windows']} windows of {statistics.median(timed):.3f} s ({min(timed):.3f}–{max(timed):.3f}): "
        f"{alone:.1f} s; the volume {inner:.1f} s, {100 * (inner / alone - 1):+.1f} %; the command {whole:.1f} s, with "
        "imports, survey, stripes, pictures and page"
    )


NETWORK = "network"
PHASES: dict[str, list[tuple[Any, str]]] = {
    "survey": [(volume_command, "_survey")],
    NETWORK: [(Windows, "forward")],
    "windows cut and put together": [(Stainer, "__call__")],
    "scan read and smoothed": [(SmoothedScan, "slab"), (Bricks, "slab"), (Bricks, "write")],
    "slices kept": [(Run, "_stain")],
    "slices joined": [(Run, "_join")],
    "stripes": [(Run, "_measure")],
    "page": [(volume_command, "show")],
    "rest": [(volume_command, "stain")],
}


class Clock:
    """Seconds of what is in the foreground, by phase: a phase within another one counts for itself alone.

    Args:
        now: gives the time.
    """

    def __init__(self, now: Callable[[], float]) -> None:
        self.now, self.spent, self._phases = now, defaultdict[str, float](float), [""]
        self._since = now()

    def _turn(self) -> None:
        moment = self.now()
        self.spent[self._phases[-1]] += moment - self._since
        self._since = moment

    def around(self, owner: Any, name: str, phase: str) -> None:
        """Let a function count for a phase."""
        inner = getattr(owner, name)

        @wraps(inner)
        def timed(*args: Any, **kwargs: Any) -> Any:
            self._turn()
            self._phases.append(phase)
            try:
                return inner(*args, **kwargs)
            finally:
                self._turn()
                self._phases.pop()

        setattr(owner, name, timed)


def phases(bundle: str, scan: str, clock: str = "process_time", **ids: Any) -> None:
    """What a volume costs beside its network, by phase, in this process: seconds, a line each, and its peak memory.

    Give a bundle of width 4 with 1 block, and one thread (``OMP_NUM_THREADS=1``).

    Args:
        bundle: a trained bundle.
        scan: any that can be stained.
        clock: ``process_time`` for CPU seconds, which a busy machine does not spoil; ``perf_counter`` for a watch.
        ids: others of ``volume.json``.
    """
    timed = Clock(getattr(time, clock))
    for phase, functions in PHASES.items():
        for owner, name in functions:
            timed.around(owner, name, phase)
    configs = [f"{bundle}/configs/inference.json", str(HOME / "configs" / "volume.json")]
    with tempfile.TemporaryDirectory() as folder:
        given = {"bundle_root": bundle, "input": scan, "output_dir": f"{folder}/stained", "device": "cpu", **ids}
        run(run_id="inference", config_file=configs, **given)
    spent = {phase: timed.spent[phase] for phase in PHASES if phase != NETWORK}
    for phase, seconds in spent.items():
        print(f"{seconds:7.2f} s  {phase}")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(f"{sum(spent.values()):7.2f} s  beside the network's {timed.spent[NETWORK]:.2f} s; peak {peak / 1e9:.2f} GB")


if __name__ == "__main__":
    fire.Fire({"memory": memory, "windows": windows, "phases": phases})
