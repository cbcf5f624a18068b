"""What the tests of scripts/deploy share: a bundle, a scan that is hard to read, and the application started."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

import itk
import numpy as np
import pydicom
from pydicom import Dataset

from tests.conftest import ROOT, run_bundle
from tests.hospital.conftest import environment_of
from tests.hospital.series import ct_slice

LEVELS = {"bone_intensity": 28000, "background_intensity": 9000}
SHAPE = (4, 40, 36)
HOSTILE = "../../etc/passwd\x1b[2J$import os" + "!" * 40


def make_bundle(trained: Path, folder: Path) -> Path:
    """A copy of a trained bundle, as if its dataset had declared reference intensities; windows of 32 px."""
    shutil.copytree(trained / "bundle", folder)
    path = folder / "configs" / "inference.json"
    config = json.loads(path.read_text())
    levels = {"bone_intensity": 30000, "background_intensity": 10000}
    config["source"] |= levels
    path.write_text(json.dumps(config | levels | {"window": 32, "step": 16}))
    return folder


def hard_slices() -> list[Dataset]:
    """Slices of 16 bits, of which the first alone would fit another type, with hostile words in their tags."""
    stored = np.random.default_rng(5).integers(0, 65536, SHAPE, dtype=np.uint16)
    stored[0] //= 4
    stored[0, 0, 0] = 0
    stored[2] |= 0x8000
    slices = [ct_slice(number, each) for number, each in enumerate(stored)]
    for each in slices:
        each.BitsStored, each.HighBit, each.RescaleIntercept = 16, 15, 0
        with pydicom.config.disable_value_validation():
            each.SeriesDescription = each.StudyID = each.ProtocolName = HOSTILE
    return [slices[place] for place in (2, 0, 3, 1)]


def run_app(*words: object, python: Path | str | None = None, **variables: str) -> subprocess.CompletedProcess:
    """``python -m scripts.deploy.app`` as a user types it."""
    command = [python or environment_of("deploy"), "-m", "scripts.deploy.app", *words]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", **variables}
    cwd = variables.get("PWD", ROOT)
    return subprocess.run(
        list(map(str, command)), cwd=cwd, capture_output=True, text=True, env=environment, timeout=300
    )


def level_words(levels: Mapping[str, float] = LEVELS) -> list[str]:
    """Reference intensities on a command line."""
    return [word for name, value in levels.items() for word in (f"--{name}", str(value))]


def plain_inference(bundle: Path, scan: Path, output: Path) -> np.ndarray:
    """The stain (Z, Y, X, 3) that ``monai.bundle run`` makes of a series, with stock parts alone."""
    configs = "['configs/inference.json','configs/series.json']"
    done = run_bundle("inference", configs, cwd=bundle, input=scan, output_dir=output, **LEVELS)
    assert done.returncode == 0, done.stdout + done.stderr
    (path,) = output.glob("*.nrrd")
    return itk.array_from_image(itk.imread(str(path)))


def stained(folder: Path) -> np.ndarray:
    """The pixels (Z, Y, X, 3) of the DICOM objects in a folder, in order of their numbers."""
    objects = sorted((pydicom.dcmread(path) for path in folder.iterdir()), key=lambda each: int(each.InstanceNumber))
    frames = [each.pixel_array for each in objects]
    return frames[0] if len(frames) == 1 else np.stack(frames)
