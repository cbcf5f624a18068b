"""MONAI Label as a laboratory runs it: its own server before a folder of scans, asked over HTTP."""

from __future__ import annotations

import json
import os
import pickle
import shutil
from collections.abc import Iterator
from pathlib import Path

import itk
import nibabel
import nrrd
import numpy as np
import pytest
import requests
import torch

from bundle.common.trained_bundle import LIKENESS
from bundle.common.verdicts import NEITHER
from bundle.networks.likeness import learn
from tests.conftest import ROOT
from tests.helpers.firm import change, make_firm
from tests.helpers.volumes import make_voxels, write_scan
from tests.hospital.label_parts import LEVELS, PATIENCE_S, infer, make_model, plain, refused, same_grid, serving

pytestmark = pytest.mark.slow
UNLIKE = [torch.full((3, 48, 40), level) for level in (0.9, 0.91, 0.92)]  # sources as no scan here is


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle of a network that has learnt nothing."""
    return make_model(tmp_path_factory.mktemp("model") / "bundle")


@pytest.fixture(scope="module")
def folder(own_network: bool, model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``scans`` with one scan, and a ``bundle`` of its own."""
    folder = tmp_path_factory.mktemp("folder")
    write_scan(folder / "scans" / "rat.nii.gz", make_voxels((6, 40, 48)))
    shutil.copytree(model, folder / "bundle")
    code = folder / "bundle" / "bundle" / "__init__.py"  # its copy of the package, which is not to be used
    code.parent.mkdir()
    code.write_text("raise RuntimeError('a trained bundle\\'s own copy was imported')")
    return folder


@pytest.fixture(scope="module")
def before_folder(folder: Path) -> Iterator[str]:
    """A server before that folder, which knows its scan's intensities."""
    with serving(folder / "bundle", folder / "scans", folder / "work", **LEVELS) as address:
        yield address
    assert [path.name for path in (folder / "scans").iterdir()] == ["rat.nii.gz"]  # it is only read


def test_the_server_lists_the_model_with_its_version_as_research_only(before_folder: str) -> None:
    info = requests.get(f"{before_folder}/info/", timeout=30).json()
    (model,) = info["models"].values()
    assert list(info["models"]) == ["virtual_staining"]
    assert model["version"] == json.loads((ROOT / "configs" / "metadata.json").read_text())["version"]
    assert "research only" in model["description"].lower()
    assert not model["labels"]
    assert "model_filename" not in model["config"]
    assert info["datastore"]["total"] == 1


def test_a_scan_of_a_folder_comes_back_as_colour_files_equal_to_plain_inference(
    before_folder: str, folder: Path, tmp_path: Path
) -> None:
    scan = folder / "scans" / "rat.nii.gz"
    expected = plain(folder / "bundle", scan, tmp_path / "plain")
    colour = itk.array_from_image(expected)
    assert colour.std() > 1
    for suffix in (".nii.gz", ".nrrd"):
        answer = infer(before_folder, "rat", result_extension=suffix)
        assert answer.status_code == 200, answer.text
        path = tmp_path / f"stained{suffix}"
        path.write_bytes(answer.content)
        read = itk.imread(path)
        assert "RGB" in type(read).__name__
        assert np.array_equal(itk.array_from_image(read), colour)
        assert same_grid(read, expected)
    image = nibabel.load(tmp_path / "stained.nii.gz")
    voxels = np.asarray(image.dataobj)
    assert np.array_equal(np.stack([voxels[name] for name in "RGB"], axis=-1).transpose(2, 1, 0, 3), colour)
    assert np.allclose(image.affine, nibabel.load(scan).affine, atol=1e-6)
    voxels, header = nrrd.read(str(tmp_path / "stained.nrrd"))
    assert header["kinds"][0] == "RGB-color"
    assert np.array_equal(voxels.T, colour)


def test_a_file_that_a_client_sends_is_stained(before_folder: str, folder: Path) -> None:
    url = f"{before_folder}/infer/virtual_staining?output=image"
    with (folder / "scans" / "rat.nii.gz").open("rb") as file:
        answer = requests.post(url, files={"file": ("sent.nii.gz", file)}, timeout=PATIENCE_S)
    assert answer.content == infer(before_folder, "rat").content
    scratch = folder / "work" / "tmp"
    kept = set(scratch.glob("tmp*.n*"))
    refused(requests.post(url, files={"file": ("x.nii.gz", b"none")}, timeout=30), 422, "cannot be read as an image")
    elsewhere = b"NRRD0004\ntype: uint8\ndimension: 3\nsizes: 8 8 8\nencoding: raw\ndata file: /etc/passwd\n"
    refused(requests.post(url, files={"file": ("x.nrrd", elsewhere)}, timeout=30), 422, "no NIfTI")
    refused(requests.post(url, files={"file": ("x.nii", elsewhere)}, timeout=30), 422, "cannot be read as an image")
    hole = make_voxels((6, 40, 48)).astype(np.float32)
    hole[2, 20, 20] = np.nan
    file = write_scan(folder / "hole.nii", hole)
    refused(requests.post(url, files={"file": ("x.nii", file.read_bytes())}, timeout=30), 422, "has 1 NaN or infinite")
    assert set(scratch.glob("tmp*.n*")) <= kept
    assert scratch.is_dir()


def test_parameters_never_reach_a_config_or_a_path(before_folder: str) -> None:
    refused(infer(before_folder, "rat", device="$__import__('os').abort()"), 422, "device is", "must be one of")
    refused(infer(before_folder, "rat", model_filename="../../reverse.pt"), 422, "'model_filename' is no parameter")
    refused(infer(before_folder, "rat", bone_intesity=3), 422, "did you mean bone_intensity?")
    refused(infer(before_folder, "/etc/passwd"), 404, "no scan '/etc/passwd'")
    assert infer(before_folder, "rat").status_code == 200


def test_clients_and_other_web_sites_change_nothing(before_folder: str, folder: Path) -> None:
    before = {path: path.read_bytes() for path in (folder / "scans").iterdir()}
    for method, where in [
        *(
            ("put", "/datastore/?image=rat"),
            ("put", "/datastore/image?image=../../evil"),
            ("delete", "/datastore/image?id=rat"),
        ),
        *(("put", "/datastore/label?image=rat"), ("put", "/session/"), ("put", "/model/virtual_staining")),
        *(("delete", "/model/virtual_staining"), ("post", "/train/virtual_staining"), ("get", "/proxy/dicom/studies")),
        *(("post", "/batch/infer/virtual_staining"), ("get", "/model/virtual_staining"), ("get", "/docs")),
    ]:
        sent = {"files": {"file": ("x.nii.gz", b"none")}} if method == "put" else {}
        refused(requests.request(method, f"{before_folder}{where}", timeout=30, **sent), 403, "not served")
    elsewhere = {"Origin": "http://elsewhere.example"}
    refused(requests.get(f"{before_folder}/info/", headers=elsewhere, timeout=30), 403, "other web sites")
    for host in ("rebound.example:8000", ""):  # a name of theirs that leads here
        said = requests.get(f"{before_folder}/info/", headers={"Host": host, "Origin": f"http://{host}"}, timeout=30)
        refused(said, 403, "this server is not called", "--names")
    assert {path: path.read_bytes() for path in (folder / "scans").iterdir()} == before
    assert not list(folder.rglob("evil*"))


def test_a_request_without_a_scan_or_for_an_unknown_output_is_told_so(before_folder: str) -> None:
    url = f"{before_folder}/infer/virtual_staining"
    refused(requests.post(url, timeout=30), 422, "give its id as ?image=ID")
    refused(requests.post(f"{url}?image=rat&output=dicom_seg", timeout=30), 422, "it must be image, json, all")


@pytest.mark.parametrize("image", ["1.2.3.4", "../../../etc", "none\n\x1b[31m"])
def test_a_scan_that_is_not_there_is_said(image: str, before_folder: str) -> None:
    refused(infer(before_folder, image), 404, "the folder has no scan")


class Bomb:
    """A pickle that makes a folder when it is loaded."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple:
        return os.mkdir, (str(self.path),)


def test_weights_that_are_a_program_or_of_another_network_are_refused(
    before_folder: str, folder: Path, tmp_path: Path
) -> None:
    file = folder / "bundle" / "models" / "model.pt"
    weights, expected = file.read_bytes(), infer(before_folder, "rat").content
    try:
        file.write_bytes(pickle.dumps(Bomb(tmp_path / "harm")))
        refused(infer(before_folder, "rat"), 500, "model.pt is not a readable checkpoint")
        torch.save({"weight": torch.zeros(3)}, file)
        refused(infer(before_folder, "rat"), 500, "model.pt is of another architecture")
    finally:
        file.write_bytes(weights)
    assert not (tmp_path / "harm").exists()
    assert infer(before_folder, "rat").content == expected


def test_a_scan_unlike_the_training_data_is_said_to_be(before_folder: str, folder: Path) -> None:
    params = infer(before_folder, "rat", output="json").json()
    assert params["likeness"] == {"told": NEITHER}
    path, series = folder / "bundle" / LIKENESS, folder / "bundle" / "configs" / "series.json"
    kept = series.read_text(encoding="utf-8")
    try:
        learn(UNLIKE, [0, 1, 2]).save(path)
        told = infer(before_folder, "rat", output="json").json()["likeness"]["told"]
        assert told.startswith("not judged: this model smooths a scan first (sigma 1.0)")
        change(series, {"sigma": 0})
        likeness = infer(before_folder, "rat", output="json").json()["likeness"]
        assert likeness["told"].startswith("of 6 slices, 0 like the training data, 0 doubtful, 6 unlike (0 to 5)")
        assert likeness["unlike"] == [[0, 5]]
        path.write_bytes(b"none")
        refused(infer(before_folder, "rat"), 422, "holds no cells of a training")
    finally:
        path.unlink()
        series.write_text(kept, encoding="utf-8")


def test_it_is_refused_where_that_is_asked_for(own_network: bool, model: Path, folder: Path, tmp_path: Path) -> None:
    strange = shutil.copytree(model, tmp_path / "strange")
    learn(UNLIKE, [0, 1, 2]).save(strange / LIKENESS)
    change(strange / "configs" / "series.json", {"sigma": 0})
    with serving(strange, folder / "scans", tmp_path / "work", refuse_unlike="true", **LEVELS) as address:
        refused(
            infer(address, "rat"), 422, "the scan is unlike the training data: of 6 slices", "refuse_unlike is true."
        )


def test_a_bundle_of_which_one_section_decides_is_stained_as_by_plain_inference(
    before_folder: str, folder: Path, model: Path, tmp_path: Path
) -> None:
    served, sections = folder / "bundle", folder / "bundle" / "models" / "sections.npz"
    before = infer(before_folder, "rat").content
    firm = make_firm(model, tmp_path / "firm")
    try:
        shutil.copytree(firm, served, dirs_exist_ok=True)
        (served / "models" / "model.pt").touch()  # the server reads it anew
        answer = infer(before_folder, "rat", output="all")
        assert answer.status_code == 200, answer.text
        assert b'"normalisation": "specimen"' in answer.content
        colour = infer(before_folder, "rat").content
        (tmp_path / "stained.nii.gz").write_bytes(colour)
        expected = plain(firm, folder / "scans" / "rat.nii.gz", tmp_path / "plain")
        made = itk.array_from_image(itk.imread(str(tmp_path / "stained.nii.gz")))
        assert np.array_equal(made, itk.array_from_image(expected))
        assert colour != before
        sections.write_bytes(b"none")
        (served / "models" / "model.pt").touch()
        refused(
            infer(before_folder, "rat"), 500, "sections.npz holds no statistics of sections", "copy it from the run"
        )
        sections.unlink()
        refused(infer(before_folder, "rat"), 500, "sections.npz holds no statistics of sections")
        shutil.copy(model / "configs" / "series.json", served / "configs")
        refused(infer(before_folder, "rat"), 500, "normalisation is 'specimen'", "slice by slice")
    finally:
        shutil.copytree(model, served, dirs_exist_ok=True)
        (served / "models" / "model.pt").touch()
    assert infer(before_folder, "rat").content == before
