"""Peak memory of three training steps with the default config: width 64, patches of 256 px, batches of 4."""

from __future__ import annotations

import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import fire

from scripts.bench.patches import HOME, noise_dataset


def main(steps: int = 3) -> None:
    """Train on noise as a user would and print the peak of the process.

    Args:
        steps: training steps of 4 patches.
    """
    with tempfile.TemporaryDirectory() as folder:
        data = noise_dataset(Path(folder) / "data", 512)
        ids = {"dataset_dir": data, "output_dir": Path(folder) / "run", "epochs": 1, "patches_per_pair": 4 * steps}
        command = [sys.executable, "-m", "monai.bundle", "run", "training", "--config_file", "configs/train.json"]
        command += [part for name, value in ids.items() for part in (f"--{name}", str(value))]
        begin = time.perf_counter()
        subprocess.run([*command, "--device", "cpu"], cwd=HOME, check=True)
        seconds = time.perf_counter() - begin
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024
    print(f"{steps} steps of the default config on the CPU: peak {peak / 1e9:.1f} GB, {seconds:.0f} s in all")


if __name__ == "__main__":
    fire.Fire(main)
