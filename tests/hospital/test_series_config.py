"""What MONAI alone makes of a volume is what our own code makes of it."""

from __future__ import annotations

import shutil
import subprocess
import sys

import itk
import nibabel
import numpy as np
import pytest

from bundle.images.stained.stored import open_stain
from tests.conftest import run_bundle

pytestmark = pytest.mark.slow
WITHOUT_US = (
    "import sys; sys.modules['bundle'] = None; import runpy; runpy.run_module('monai.bundle', run_name='__main__')"
)


def test_stock_monai_without_our_code_gives_the_bits_of_our_engine(trained, tmp_path):
    bundle = tmp_path / "bundle"
    shutil.copytree(trained / "bundle", bundle, ignore=shutil.ignore_patterns("bundle", "model.pt"))
    voxels = np.random.default_rng(0).integers(0, 65535, (45, 38, 11)).astype(np.uint16)
    affine = np.diag([-0.005, -0.005, 0.005, 1])
    affine[:3, 3] = 1, 2, 3
    scan = nibabel.Nifti1Image(voxels, affine)
    scan.header.set_xyzt_units("mm")
    scan.to_filename(tmp_path / "scan.nii.gz")
    configs = f"['{bundle}/configs/inference.json','{bundle}/configs/series.json']"
    words = ["run", "inference", "--config_file", configs, "--bundle_root", bundle, "--output_dir", tmp_path / "stock"]
    words += ["--input", tmp_path / "scan.nii.gz", "--window", "32", "--step", "12", "--device", "cpu"]
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_US, *map(str, words)], capture_output=True, text=True, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    made = itk.imread(str(tmp_path / "stock" / "scan_stained.nrrd"))
    whole = trained / "bundle"
    configs = f"['{whole}/configs/inference.json','{whole}/configs/volume.json']"
    ids = {"input": tmp_path / "scan.nii.gz", "window": 32, "step": 12, "speed": "stock", "device": "cpu"}
    done = run_bundle("inference", configs, bundle_root=whole, output_dir=tmp_path / "ours", **ids)
    assert done.returncode == 0, done.stderr
    ours = open_stain(tmp_path / "ours" / "stained.ome.zarr")
    pixels = ours.read((slice(None),) * 3)
    assert np.array_equal(itk.array_from_image(made), pixels)
    assert pixels.std() > 1
    assert np.allclose(made.GetSpacing(), 0.005)
    assert np.allclose(made.GetOrigin(), (-1, -2, 3))  # NIfTI's axes are RAS
