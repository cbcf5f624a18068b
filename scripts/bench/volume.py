"""What staining a volume costs beside its windows, and how much memory it takes: ``python -m scripts.bench.volume``."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import fire
import nibabel
import numpy as np
import torch

from bundle.staining.model import load_model
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
    network, together = load_model(bundle, "cpu", speed=speed).accelerated, torch.get_num_threads()
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


if __name__ == "__main__":
    fire.Fire({"memory": memory, "windows": windows})
