"""Without ``bundle/networks/fast/`` all goes on in plain arithmetic; who asks for the fast one is told."""

import re
import shutil

import numpy as np
import pytest
import torch

from bundle.common.errors import InputError
from bundle.images.slides import read_slide
from bundle.images.stained.stored import open_stain
from bundle.networks import ResnetGenerator, accelerate, arithmetic, engines
from tests.conftest import ROOT, TINY, make_dataset, run_bundle
from tests.helpers.volumes import make_voxels, write_scan
from tests.test_rooms import imported

CPU = torch.device("cpu")


def test_two_modules_of_it_are_imported_from_elsewhere_each_by_one():
    fast = ROOT / "bundle/networks/fast"
    doors = {
        (str(path.relative_to(ROOT)), name.split(".")[3])
        for path in (ROOT / "bundle").rglob("*.py")
        if fast not in path.parents
        for name in (*imported(path), *re.findall(r'"(bundle\.[\w.]+)"', path.read_text(encoding="utf-8")))
        if name.startswith("bundle.networks.fast.")
    }
    assert doors == {
        ("bundle/networks/engines.py", "inference"),
        ("bundle/networks/arithmetic.py", "training"),
    }


def test_a_model_is_trained_and_stains_a_slide_and_a_volume(tmp_path):
    for name in ("bundle", "configs", "docs"):
        hidden = shutil.ignore_patterns("__pycache__", *(["fast"] if name == "bundle" else []))
        shutil.copytree(ROOT / name, tmp_path / name, ignore=hidden)
    for name in ("README.md", "CHANGELOG.md", "LICENSE", "CITATION.cff"):
        shutil.copy(ROOT / name, tmp_path)
    data = make_dataset(tmp_path / "data")
    scan = write_scan(tmp_path / "scan.nii", make_voxels((20, 24, 28)))
    model = tmp_path / "run/bundle"
    once = {**TINY, "epochs": 1, "decay_epochs": 0, "dataset_dir": data}
    slide = f"{model}/configs/inference.json"
    volume = f"['{slide}','{model}/configs/volume.json']"
    stained = {"bundle_root": model, "device": "cpu", "output_dir": tmp_path / "out"}

    done = run_bundle("training", "configs/train.json", tmp_path, output_dir=tmp_path / "run", device="cpu", **once)
    assert done.returncode == 0, done.stderr
    assert not (model / "bundle/networks/fast").exists()
    done = run_bundle("inference", slide, tmp_path, input=data / "source/02.png", **stained)
    assert done.returncode == 0, done.stderr
    assert "without bundle/networks/fast, which is missing" in done.stdout
    assert read_slide(tmp_path / "out/02_stained.png").pixels.shape == (3, 64, 72)
    done = run_bundle("inference", volume, tmp_path, input=scan, **stained)
    assert done.returncode == 0, done.stderr
    stain = open_stain(next((tmp_path / "out").glob("**/stained.ome.zarr")))
    assert np.ptp(stain.read((slice(None),) * 3)) > 0

    done = run_bundle("inference", slide, tmp_path, input=data / "source/02.png", speed="winograd_bf16", **stained)
    assert done.returncode != 0
    said = done.stderr.strip().splitlines()
    assert said[-1].endswith(", as bundle/networks/fast is missing.")
    assert "Traceback" not in done.stderr


@pytest.fixture
def without_fast(monkeypatch):
    for door in (accelerate, engines, arithmetic):
        monkeypatch.setattr(door, "fast", None)
    monkeypatch.setattr(engines, "cpu_has_half", lambda: False)


@pytest.mark.usefixtures("without_fast")
def test_who_asks_for_fast_arithmetic_is_told_that_it_is_missing():
    network = ResnetGenerator(width=4, blocks=1)
    assert "missing" in accelerate.accelerate(network).arithmetic
    with pytest.raises(InputError, match="speed is 'winograd_fp32', which this cpu has not .*fast is missing"):
        accelerate.accelerate(network, "winograd_fp32")
    assert accelerate.accelerate(network, "fast")(torch.rand(1, 3, 32, 32)).shape == (1, 3, 32, 32)
    assert arithmetic.Arithmetic("fp32", CPU).chosen == "fp32"
    for precision in ("fast", "half", "winograd_fp32"):
        with pytest.raises(InputError, match=f"precision is '{precision}'; a CPU needs bundle/networks/fast for it"):
            arithmetic.Arithmetic(precision, CPU)
    assert arithmetic.precision_fault("half", torch.device("cuda")) is None
    with pytest.raises(InputError, match="precision is 'bf16'; a CPU needs bundle/networks/fast"):
        arithmetic.apply(network, "bf16")  # as a run that is resumed would


@pytest.mark.usefixtures("without_fast")
def test_plain_arithmetic_is_the_network_itself():
    network, x = ResnetGenerator(width=4, blocks=1).eval(), torch.rand(2, 3, 32, 32)
    assert arithmetic.apply(network, "fp32") is network
    arithmetic.refresh(network)
    torch.testing.assert_close(accelerate.accelerate(network)(x), network(x).detach(), atol=1e-4, rtol=0)
