"""What it takes to stain from one object store into it, against a disk: seconds and requests.

python -m scripts.bench.object_store --bundle_root RUN/bundle --size 64

The store is moto, on this machine: its own seconds count, those of a network do not. Seconds are given by the clock
and, for machines that have other work, of the run's own processor time.
"""

from __future__ import annotations

import os
import re
import resource
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import boto3
import fire
import nibabel
import numpy as np

ROOT = Path(__file__).parents[2]
BUCKET = "bench"


def main(bundle_root: str, size: int = 64, axes: str = "z", repeats: int = 3) -> None:
    """Stain a cube of noise in turn from disk to disk and from store to store, and print what each took.

    Args:
        bundle_root: a trained bundle.
        size: side of the cube, voxels.
        axes: across which it is stained.
        repeats: the least of so many counts.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        voxels = np.random.default_rng(0).integers(0, 65536, (size,) * 3, np.uint16)
        image = nibabel.Nifti1Image(voxels, np.diag([0.005, 0.005, 0.005, 1]))
        image.header.set_xyzt_units("mm")
        nibabel.save(image, folder / "scan.nii")
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        log = folder / "requests.log"
        with log.open("w") as file:
            server = subprocess.Popen([sys.executable, "-m", "moto.server", "-p", str(port)], stdout=file, stderr=file)
        try:
            _compare(bundle_root, folder, f"http://127.0.0.1:{port}", log, axes, repeats)
        finally:
            server.kill()
            server.wait()


def _compare(bundle_root: str, folder: Path, endpoint: str, log: Path, axes: str, repeats: int) -> None:
    keys = {"AWS_ACCESS_KEY_ID": "bench", "AWS_SECRET_ACCESS_KEY": "bench", "AWS_DEFAULT_REGION": "us-east-1"}
    os.environ |= {**keys, "AWS_ENDPOINT_URL": endpoint}
    while "Running on" not in log.read_text(encoding="utf-8"):
        time.sleep(0.1)
    client = boto3.client("s3")
    client.create_bucket(Bucket=BUCKET)
    client.upload_file(str(folder / "scan.nii"), BUCKET, "scan.nii")
    configs = f"['{bundle_root}/configs/inference.json','{ROOT}/configs/volume.json']"
    command = [sys.executable, "-m", "monai.bundle", "run", "inference", "--config_file", configs]
    command += ["--bundle_root", bundle_root, "--axes", axes, "--window", "null", "--device", "cpu"]
    seconds: dict[str, list[tuple[float, float]]] = {"disk": [], "store": []}
    for number in range(repeats):
        for kind, place in (("disk", str(folder)), ("store", f"s3://{BUCKET}")):
            before, began = len(log.read_bytes()), (time.perf_counter(), _processor())
            given = ["--input", f"{place}/scan.nii", "--output_dir", f"{place}/stained{number}"]
            subprocess.run([*command, *given], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
            seconds[kind].append((time.perf_counter() - began[0], _processor() - began[1]))
    asked = re.findall(r'"\S*?([A-Z]+) /\S+ HTTP', log.read_bytes()[before:].decode())
    for at, what in enumerate(("by the clock", "of the processor")):
        disk, store = (min(took[at] for took in seconds[kind]) for kind in ("disk", "store"))
        print(f"{what}: {disk:.1f} s on a disk, {store - disk:.1f} s more in a store")
    print(f"{len(asked)} requests, {dict(Counter(asked))}")


def _processor() -> float:
    """Seconds of all runs that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    fire.Fire(main)
