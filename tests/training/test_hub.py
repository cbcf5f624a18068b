"""A trained bundle as a folder for a hub: its card, its large files, and that MONAI takes it as it is."""

import hashlib
import json
import shutil

import nibabel
import nrrd
import numpy as np
import pytest
import torch
import yaml
from monai.apps.utils import HashCheckError
from monai.bundle import download_large_files, load, verify_metadata

from bundle.common.errors import InputError
from bundle.staining.model import load_model
from bundle.training import export as exporting
from bundle.training import hub as hubs
from bundle.training.export import export
from bundle.training.hub import front_matter
from tests.conftest import run_bundle

PLAIN = {"license": "apache-2.0", "library_name": "monai", "pipeline_tag": "image-to-image"}
TAGS = ["monai", "medical", "virtual-staining"]


@pytest.fixture
def unchecked(monkeypatch):
    """Without the checks of what is packed, which take a minute, and which tests of the zip make."""
    monkeypatch.setattr(exporting, "check", lambda *_: [])


@pytest.fixture
def run(trained, tmp_path):
    """A copy of the run to lay things beside."""
    shutil.copytree(trained / "bundle", tmp_path / "run" / "bundle")
    return tmp_path / "run"


def evaluated(run, digest=None):
    folder = run / "evaluation"
    folder.mkdir()
    lines = (
        "split,row,patches,ssim_median,psnr_median,lpips_median",
        *("training,network,40,0.9,30,not computed", "testing,network,21,0.3456,17.891,not computed"),
        "testing,colour table,21,0.2,15,not computed",
    )
    (folder / "summary.csv").write_text("\n".join(lines) + "\n")
    digest = digest or hashlib.sha256((run / "bundle" / "models" / "model.pt").read_bytes()).hexdigest()
    (folder / "provenance.json").write_text(json.dumps({"model_sha256": digest}))


def hub_of(run, **options):
    folder = run.parent / "hub"
    said = export(str(run / "bundle"), hub=str(folder), **{"onnx": False, "name": "bone_stain", **options})
    return folder, said


def test_it_has_the_layout_of_a_bundle_and_a_card(run, unchecked):
    folder, said = hub_of(run)
    names = {path.name for path in folder.iterdir()}
    assert names == {"LICENSE", "README.md", "bundle", "configs", "docs", "models"}
    assert said.splitlines()[-1] == str(folder)
    card = (folder / "README.md").read_text()
    _, header, page = card.split("---\n", 2)
    assert yaml.safe_load(header) == {**PLAIN, "tags": TAGS}
    assert page.strip() == (folder / "docs" / "README.md").read_text().strip()
    assert "Research only" in page
    assert not list(run.parent.glob(".hub*"))


def test_a_hub_reads_the_card_and_the_numbers_that_were_measured(run, unchecked):
    cards = pytest.importorskip("huggingface_hub")
    evaluated(run)
    folder, _ = hub_of(run)
    data = cards.ModelCard.load(folder / "README.md").data
    assert (data.license, data.library_name, data.pipeline_tag) == tuple(PLAIN.values())
    assert data.tags == TAGS
    found = {(each.dataset_split, each.metric_type): each.metric_value for each in data.eval_results}
    assert found == {("testing", "ssim"): 0.3456, ("testing", "psnr"): 17.891}
    assert all(each.task_type == "image-to-image" for each in data.eval_results)


def test_numbers_of_other_weights_are_not_given(run, unchecked):
    evaluated(run, "0" * 64)
    folder, _ = hub_of(run)
    assert "model-index" not in front_matter((folder / "README.md").read_text())


@pytest.mark.parametrize("name", ["yes", "a: b # c", "--- x", "'quoted\" {", "!!python/object:os.system", "[1, &a *a]"])
def test_names_of_a_dataset_stay_text(name, run, unchecked):
    evaluated(run)
    path = run / "bundle" / "configs" / "inference.json"
    config = json.loads(path.read_text())
    config["target"]["name"] = name
    path.write_text(json.dumps(config))
    folder, _ = hub_of(run)
    (index,) = front_matter((folder / "README.md").read_text())["model-index"]
    assert index["name"] == f"{name} from µCT, version 0.1.0"
    assert index["results"][0]["dataset"]["name"] == f"pairs of {name} from µCT"


def test_large_files_are_listed_as_monai_reads_them(run, unchecked, monkeypatch):
    monkeypatch.setattr(hubs, "LARGE_BYTES", 20_000)
    folder, said = hub_of(run)
    listed = yaml.safe_load((folder / "large_files.yml").read_text())["large_files"]
    assert "models/model.pt" in [each["path"] for each in listed]
    for each in listed:
        content = (folder / each["path"]).read_bytes()
        assert len(content) > 20_000
        assert (each["url"], each["hash_type"]) == ("", "sha256")
        assert each["hash_val"] == hashlib.sha256(content).hexdigest()
        assert f"{each['path']} has" in said
    assert "write its address as url into large_files.yml" in said
    download_large_files(str(folder))  # all there, and what was listed: nothing is fetched
    with (folder / "models" / "model.pt").open("ab") as file:
        file.write(b"x")
    with pytest.raises(HashCheckError, match="model.pt"):
        download_large_files(str(folder))


def test_monai_loads_it_and_stains_with_it(trained, run, shared, unchecked, tmp_path):
    folder, _ = hub_of(run)
    schema = shared / "monai_schema" / "meta_schema_20240725.json"
    verify_metadata(str(folder / "configs" / "metadata.json"), filepath=str(schema))
    network = load("hub", bundle_dir=str(folder.parent), workflow_type="inference", device="cpu").eval()
    x = torch.rand((1, 3, 32, 32), generator=torch.Generator().manual_seed(0)) * 2 - 1
    with torch.no_grad():
        assert torch.equal(network(x), load_model(trained / "bundle").network(x)[:, :3])
    scan = tmp_path / "scan.nii.gz"
    voxels = np.random.default_rng(0).integers(0, 65535, (30, 40, 3)).astype(np.uint16)
    nibabel.Nifti1Image(voxels, np.diag([0.005, 0.005, 0.005, 1])).to_filename(scan)
    done = run_bundle("inference", "configs/inference.json", cwd=folder, input=scan, output_dir=tmp_path / "out")
    assert done.returncode == 0, done.stderr
    stained, _ = nrrd.read(str(tmp_path / "out" / "scan_stained.nrrd"))
    assert stained.shape == (3, 30, 40, 3)
    assert np.ptp(stained) > 0


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"hub": None}, "nothing is to be made; pass --output"),
        ({"hub": "full"}, "is not empty; name a new folder"),
        ({"hub": "full/file"}, "is a file"),
    ],
)
def test_what_cannot_be_is_refused(options, said, run, unchecked):
    (run / "full").mkdir()
    (run / "full" / "file").write_text("mine")
    options = {key: value and str(run / value) for key, value in options.items()}
    with pytest.raises(InputError, match=said):
        export(str(run / "bundle"), onnx=False, **options)
    assert (run / "full" / "file").read_text() == "mine"


def test_a_folder_and_a_zip_of_one_packing(run, unchecked):
    folder, said = hub_of(run, output=str(run / "bone_stain.zip"))
    assert said.splitlines()[-2:] == [str(folder), str(run / "bone_stain.zip")]
    shutil.unpack_archive(run / "bone_stain.zip", run / "unpacked")
    inside = {
        path.relative_to(run / "unpacked" / "bone_stain"): path.read_bytes()
        for path in (run / "unpacked" / "bone_stain").rglob("*")
        if path.is_file() and path.name != "README.md"
    }
    assert inside == {
        path.relative_to(folder): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.name != "README.md"
    }


@pytest.mark.parametrize("name", ["a\n---\nb", "a\u2028---\n"])
def test_front_matter_that_a_name_has_broken_is_none(name):
    assert front_matter(f"---\nname: '{name}'\n---\n\n# Page\n") != {"name": name}
