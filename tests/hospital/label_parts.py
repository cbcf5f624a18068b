"""What tests of MONAI Label have in common: a bundle, a server, questions and answers."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import itk
import numpy as np
import requests
import torch

from bundle.training.publish import save_torchscript
from tests.conftest import ROOT, run_bundle
from tests.hospital.conftest import environment_of, needs
from tests.hospital.orthanc import Orthanc, free_ports
from tests.hospital.pacs_parts import make_bundle

LEVELS = {"bone_intensity": 30000, "background_intensity": 10000}
PATIENCE_S = 120


def make_model(folder: Path) -> Path:
    """A bundle of a network that has learnt nothing, with what MONAI's own parts need."""
    needs("label")
    bundle = make_bundle(folder)
    weights = torch.load(bundle / "models" / "model.pt", weights_only=True)
    network = json.loads((bundle / "configs" / "inference.json").read_text())["network_def"]
    save_torchscript(network, weights, bundle / "models" / "model.ts")
    return bundle


@contextmanager
def serving(model: Path, studies: Path | str, work: Path, password: str = "", **options: object) -> Iterator[str]:
    """A running server; its address."""
    (port,) = free_ports(1)
    command = [sys.executable, "-m", "scripts.label", "--bundle", model, "--studies", studies]
    for name, value in {"port": port, "work_dir": work, **options}.items():
        command += [f"--{name}", value]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    environment |= {"VIRTUAL_STAINING_LABEL": str(environment_of("label").parents[1])}
    environment |= {"MONAI_LABEL_DICOMWEB_USERNAME": Orthanc.user, "MONAI_LABEL_DICOMWEB_PASSWORD": password}
    work.mkdir(parents=True, exist_ok=True)
    with (work / "out.txt").open("w") as log:
        server = subprocess.Popen(list(map(str, command)), cwd=ROOT, env=environment, stdout=log, stderr=log)
    address, end = f"http://127.0.0.1:{port}", time.monotonic() + PATIENCE_S
    try:
        while True:
            try:
                requests.get(f"{address}/openapi.json", timeout=5).raise_for_status()
                break
            except requests.RequestException:
                assert server.poll() is None, (work / "out.txt").read_text()[-3000:]
                assert time.monotonic() < end, (work / "out.txt").read_text()[-3000:]
                time.sleep(0.2)
        yield address
        assert server.poll() is None, (work / "out.txt").read_text()[-3000:]
    finally:
        server.send_signal(signal.SIGKILL)
        server.wait()


def infer(server: str, image: str, output: str = "image", **params: object) -> requests.Response:
    """``POST /infer/virtual_staining?image=…``."""
    form = {"params": (None, json.dumps(params))}
    asked = {"image": image, "output": output}
    return requests.post(f"{server}/infer/virtual_staining", params=asked, files=form, timeout=PATIENCE_S)


def plain(model: Path, scan: Path, folder: Path) -> itk.Image:
    """What ``python -m monai.bundle run inference`` makes of a scan."""
    configs = [str(model / "configs" / name) for name in ("inference.json", "series.json")]
    done = run_bundle("inference", configs, bundle_root=model, input=scan, output_dir=folder, device="cpu", **LEVELS)
    assert done.returncode == 0, done.stdout + done.stderr
    return itk.imread(next(folder.glob("*.nrrd")))


def same_grid(image: itk.Image, expected: itk.Image) -> bool:
    """Whether two images have the same voxels in space, but for NIfTI's single precision."""
    grids = [
        np.concatenate([np.ravel(each.GetOrigin()), np.ravel(each.GetSpacing()), np.ravel(each.GetDirection())])
        for each in (image, expected)
    ]
    return np.allclose(*grids, rtol=1e-5, atol=1e-6)


def refused(answer: requests.Response, status: int, *words: str) -> None:
    """The answer is one line with these words."""
    assert answer.status_code == status, answer.text
    line = answer.json()["detail"]
    assert all(word in line for word in words), line
    assert "\n" not in line
    assert "Traceback" not in line
