"""A trained bundle as a zip for the model zoo."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import itk
import nibabel
import numpy as np
import pytest
import torch
from monai.bundle import ConfigWorkflow

from bundle.common.errors import InputError
from bundle.common.trained_bundle import read_config, read_stock_config, stock_settings
from bundle.training import export as exporting
from bundle.training.export import check, export, merged, metadata_faults, pack
from bundle.training.export_readme import readme
from tests.conftest import run_bundle
from tests.helpers.firm import make_firm

METADATA = {
    **dict.fromkeys(("schema", "task", "description", "authors", "copyright", "network_data_format"), "there"),
    **{"version": "0.1.0", "changelog": {"0.1.0": "first"}, "monai_version": "1.6.1", "pytorch_version": "2.14.1"},
    **{"numpy_version": "2.4.6", "required_packages_version": {"scipy": "1.17.1"}},
}


@pytest.fixture
def scan(tmp_path) -> Path:
    voxels = np.random.default_rng(0).integers(0, 65535, (30, 40, 3)).astype(np.uint16)
    path = tmp_path / "scan.nii.gz"
    nibabel.Nifti1Image(voxels, np.diag([-0.005, -0.005, 0.005, 1])).to_filename(path)
    return path


@pytest.mark.slow
def test_the_zip_passes_the_zoo_s_checks_and_stains_from_an_empty_folder_as_the_bundle_does(
    trained, shared, scan, tmp_path
):
    schema = shared / "monai_schema" / "meta_schema_20240725.json"
    zipped = tmp_path / "made" / "zoo.zip"
    wishes = {"name": "bone_stain", "version": "0.2.0", "change": "more pairs", "schema": str(schema)}
    said = export(str(trained / "bundle"), str(zipped), **wishes)
    assert "metadata fits MONAI's schema" in said
    assert "from an empty folder" in said
    assert [path.name for path in zipped.parent.iterdir()] == ["zoo.zip"]
    with zipfile.ZipFile(zipped) as archive:
        archive.extractall(tmp_path)
    root = tmp_path / "bone_stain"
    assert (root / "models" / "model.pt").read_bytes() == (trained / "bundle" / "models" / "model.pt").read_bytes()
    assert json.loads((root / "configs" / "metadata.json").read_text())["version"] == "0.2.0"
    config = str(root / "configs" / "inference.json")
    workflow = ConfigWorkflow(config, workflow_type="infer", logging_file=False, bundle_root=str(root))
    workflow.initialize()
    assert workflow.check_properties() == []
    lint = [sys.executable, "-m", "ruff", "check", "--isolated", "--select", "E,F,W,I", "--ignore", "E731"]  # as ours
    subprocess.run([*lint, "--line-length", "120", str(root)], check=True)
    ids = {"input": scan}
    done = run_bundle("inference", "configs/inference.json", cwd=root, output_dir=tmp_path / "of_zip", **ids)
    assert done.returncode == 0, done.stderr
    whole = trained / "bundle"
    configs = f"['{whole}/configs/inference.json','{whole}/configs/series.json']"
    done = run_bundle("inference", configs, bundle_root=whole, output_dir=tmp_path / "of_bundle", **ids)
    assert done.returncode == 0, done.stderr
    one, other = (itk.imread(str(tmp_path / each / "scan_stained.nrrd")) for each in ("of_zip", "of_bundle"))
    assert np.array_equal(itk.array_from_image(one), itk.array_from_image(other))
    assert itk.array_from_image(one).shape == (3, 40, 30, 3)
    assert np.allclose(one.GetSpacing(), 0.005)


def test_the_same_bundle_gives_the_same_zip(trained, tmp_path):
    folder = tmp_path / "name"
    shutil.copytree(trained / "bundle" / "configs", folder / "configs")
    pack(folder, tmp_path / "one.zip")
    (folder / "configs" / "inference.json").touch()
    pack(folder, tmp_path / "other.zip")
    assert (tmp_path / "one.zip").read_bytes() == (tmp_path / "other.zip").read_bytes()
    with zipfile.ZipFile(tmp_path / "one.zip") as archive:
        assert {name.split("/")[0] for name in archive.namelist()} == {"name"}


def test_the_config_in_the_zip_names_no_code_of_ours_but_the_network(trained):
    text = json.dumps({key: value for key, value in merged(trained / "bundle").items() if key != "network_def"})
    assert "bundle." not in text


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"version": "0.3.0"}, "changelog does not say"),
        ({"monai_version": ">=1.6"}, "wants monai >=1.6"),
        ({"required_packages_version": {"scipy": "1.17.*"}}, "wants scipy 1.17"),
        ({"authors": ""}, "no authors"),
    ],
)
def test_metadata_that_the_zoo_would_refuse_is_named(changes, said):
    assert metadata_faults(METADATA) == []
    assert any(said in fault for fault in metadata_faults({**METADATA, **changes}))


@pytest.mark.parametrize(
    ("wishes", "said"),
    [
        ({"name": "../up"}, "name is '../up'"),
        ({"output": "zoo.tar"}, r"must end in \.zip"),
        ({"version": "0.2.0"}, "add --change"),
        ({"version": "two", "change": "x"}, "version is 'two'"),
        ({"bundle": "nowhere"}, "no trained bundle"),
    ],
)
def test_wishes_that_cannot_be_met_are_refused(trained, tmp_path, wishes, said):
    given = {"bundle": str(trained / "bundle"), "output": str(tmp_path / "zoo.zip"), **wishes}
    with pytest.raises(InputError, match=said):
        export(**given)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_a_script_of_other_weights_is_found_out(trained, tmp_path):
    folder = tmp_path / "bone_stain"
    shutil.copytree(trained / "bundle", folder)
    (folder / "configs" / "series.json").unlink()
    (folder / "configs" / "inference.json").write_text(json.dumps(merged(trained / "bundle")))
    (folder / "docs" / "README.md").write_text("there")
    script = torch.jit.load(str(folder / "models" / "model.ts"))
    with torch.no_grad():
        next(script.parameters()).add_(0.1)
    script.save(str(folder / "models" / "model.ts"))
    pack(folder, tmp_path / "zoo.zip")
    with pytest.raises(InputError, match=r"model\.ts gives another image"):
        check(tmp_path / "zoo.zip", None, tmp_path)


def test_the_page_quotes_an_evaluation_of_these_weights_only(trained, tmp_path):
    root = tmp_path / "run" / "bundle"
    shutil.copytree(trained / "bundle", root)
    config, metadata = read_config(root), json.loads((root / "configs" / "metadata.json").read_text())
    assert "no evaluation lay beside" in readme("name", config, metadata, root)
    folder = root.parent / "evaluation"
    folder.mkdir()
    columns = "split,row,patches,ssim_median,psnr_median,lpips_median"
    (folder / "summary.csv").write_text(f"{columns}\ntesting,network,21,0.3456,17.891,not computed\n")
    (folder / "provenance.json").write_text(json.dumps({"model_sha256": "0" * 64}))
    assert "of other weights" in readme("name", config, metadata, root)
    digest = hashlib.sha256((root / "models" / "model.pt").read_bytes()).hexdigest()
    (folder / "provenance.json").write_text(json.dumps({"model_sha256": digest}))
    page = readme("name", config, metadata, root)
    assert "| testing | network | 21 | 0.35 | 17.89 | not computed | not computed | not computed |" in page
    assert "| split | image | patches | SSIM ↑ | PSNR ↑ (dB) | LPIPS ↓ | detail (1 = as real) |" in page
    order = [
        "Model Overview",
        "Data",
        "Training configuration",
        "Performance",
        "MONAI Bundle Commands",
        "References",
        "License",
    ]
    headings = [line.lstrip("# ") for line in page.splitlines() if line.startswith("#")]
    assert headings == order


@pytest.mark.slow
def test_a_zip_of_which_one_section_decides_stains_and_says_so_as_the_bundle_does(trained, scan, tmp_path, monkeypatch):
    monkeypatch.setattr(exporting, "check", lambda *_: [])  # which takes long, and sees nothing of this
    firm = make_firm(trained / "bundle", tmp_path / "firm")
    export(str(firm), str(tmp_path / "zoo.zip"), onnx=False)
    with zipfile.ZipFile(tmp_path / "zoo.zip") as archive:
        archive.extractall(tmp_path)
    root = tmp_path / "virtual_staining"
    made = []
    for folder, configs in ((root, ["inference"]), (firm, ["inference", "series"])):
        files = [str(folder / "configs" / f"{name}.json") for name in configs]
        done = run_bundle("inference", files, bundle_root=folder, output_dir=tmp_path / f"of_{folder.name}", input=scan)
        assert done.returncode == 0, done.stderr
        made.append(itk.array_from_image(itk.imread(str(tmp_path / f"of_{folder.name}" / "scan_stained.nrrd"))))
    assert np.array_equal(*made)
    settings = [stock_settings(read_stock_config(folder), None, None) for folder in (root, firm)]
    assert settings[0] == settings[1]
    assert settings[0]["normalisation"] == "specimen"
    assert (root / "models" / "sections.npz").read_bytes() == (firm / "models" / "sections.npz").read_bytes()
