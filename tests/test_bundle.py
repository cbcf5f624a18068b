"""MONAI conformance: what MONAI's own tools say of this bundle, without a network."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from monai.bundle import ConfigParser, ConfigWorkflow
from monai.bundle.scripts import ckpt_export, onnx_export, verify_metadata, verify_net_in_out

from bundle.common.config import ENTRY_POINTS, unknown_ids
from bundle.data.datalist import Datalist, Modality
from bundle.staining.model import load_model
from tests.conftest import ROOT, TINY

CONFIGS = ROOT / "configs"
IDS_THAT_STAY = {
    "train.json": "dataset_dir datalist output_dir device seed fold epochs batch_size patch_size patches_per_pair "
    "width blocks upsampling learning_rate pool_size num_workers precision invert_source masked_sampling masked_loss "
    "mask_discriminator deploy_checkpoint resume lambda_adv lambda_cycle lambda_identity lambda_pixel lambda_grey "
    "lambda_structure g_xy g_yx d_x d_y training run",
    "evaluate.json": "eval_patch eval_stride eval_overlap lpips_weights evaluation run",
    "inference.json": "bundle_root input dataset_dir output_dir model device window step speed bone_intensity "
    "background_intensity background_rgb direction network_def preprocessing inferer postprocessing inference run",
}


def schema() -> Path:
    path = ROOT.parent / "shared" / "monai_schema" / "meta_schema_20240725.json"
    if not path.is_file():
        pytest.skip(f"{path} is not there, so metadata.json was not verified against MONAI's schema")
    return path


@pytest.mark.parametrize("root", ["repository", "run"])
def test_metadata_fits_the_schema(trained, root):
    folder = ROOT if root == "repository" else trained / "bundle"
    verify_metadata(meta_file=str(folder / "configs" / "metadata.json"), filepath=str(schema()))


def test_network_takes_and_gives_what_metadata_says(trained, monkeypatch):
    bundle = trained / "bundle"
    monkeypatch.chdir(bundle)
    verify_net_in_out("network_def", "configs/metadata.json", "configs/inference.json", device="cpu")


@pytest.mark.slow
def test_the_paper_s_network_takes_and_gives_what_metadata_says(monkeypatch):
    monkeypatch.chdir(ROOT)
    verify_net_in_out("network_def", "configs/metadata.json", "configs/inference.json", device="cpu")


@pytest.mark.parametrize(("config", "kind"), [("train.json", "train"), ("inference.json", "infer")])
def test_no_property_that_monai_asks_for_is_missing(trained, config, kind):
    data = trained.parent / "data"
    ids = {"dataset_dir": data, "output_dir": trained, **TINY} if kind == "train" else {}
    workflow = ConfigWorkflow(str(CONFIGS / config), workflow_type=kind, logging_file=False, **ids)
    workflow.initialize()
    assert workflow.check_properties() == []


def test_exports_give_the_image_of_the_eager_model(trained, tmp_path, monkeypatch):
    bundle = trained / "bundle"
    monkeypatch.chdir(bundle)
    files = {"config_file": "configs/inference.json", "ckpt_file": "models/model.pt"}
    ckpt_export("network_def", str(tmp_path / "model.ts"), meta_file="configs/metadata.json", **files)
    onnx_export("network_def", str(tmp_path / "model.onnx"), input_shape=[1, 3, 32, 32], **files)
    x = torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1
    eager = load_model(bundle).network
    with torch.no_grad():
        expected = eager(x)
        script = torch.jit.load(tmp_path / "model.ts")
        assert torch.allclose(script(x), expected, atol=1e-5)
        other = x[..., :23, :30]
        assert torch.allclose(script(other), eager(other), atol=1e-5)
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx", providers=["CPUExecutionProvider"])
    (made,) = session.run(None, {session.get_inputs()[0].name: x.numpy()})
    assert np.abs(made - expected.numpy()).max() < 1e-4


@pytest.mark.parametrize("config", IDS_THAT_STAY)
def test_ids_that_stay_put(config):
    assert set(IDS_THAT_STAY[config].split()) <= set(json.loads((CONFIGS / config).read_text()))


DATA = Datalist(CONFIGS, 5.0, Modality("µCT", 1, 0, 65535), Modality("toluidine blue", 3, 0, 255))
METHODS = sorted(path.stem for path in (CONFIGS / "methods").glob("*.json"))
COMBINATIONS = ["train", "train profiles/demo", "train evaluate", "train evaluate profiles/demo", "inference"]
COMBINATIONS += ["inference volume"]
COMBINATIONS += [
    f"train {task}methods/{method}{profile}"
    for method in METHODS
    for task in ("", "evaluate ")
    for profile in ("", " profiles/demo")
]


@pytest.mark.parametrize("files", COMBINATIONS)
def test_every_id_of_a_config_is_used(files):
    parser = ConfigParser()
    parser.read_config([str(CONFIGS / f"{name}.json") for name in files.split()])
    config = {key: value for key, value in parser.get().items() if key != "_meta_"}
    assert unknown_ids(config) == []
    for key in set(config) - ENTRY_POINTS:
        misspelt = {**config, f"{key}z": 1}
        assert any(f"'{key}z'" in line for line in unknown_ids(misspelt))


def test_grey_values_of_a_series_are_taken_as_those_of_a_slide():
    slide, series = (
        json.loads((CONFIGS / name).read_text())["preprocessing"]["transforms"]
        for name in ("inference.json", "series.json")
    )
    assert slide[2:] == series[5:]
    assert len(slide) > 4


def test_a_method_is_a_short_overlay():
    for method in METHODS:
        text = (CONFIGS / "methods" / f"{method}.json").read_text()
        assert len(text.splitlines()) < 40
        for allowed in ("$@bundle_root", "$list(", "$@data.target.channels", "$@data.source.shown_channels"):
            text = text.replace(allowed, "")
        assert "$" not in text


def test_the_methods_have_their_weights_and_networks():
    parsed = {}
    for method in METHODS:
        parser = ConfigParser()
        parser.read_config([str(CONFIGS / "train.json"), str(CONFIGS / "methods" / f"{method}.json")])
        parser.update({"data": DATA})
        parsed[method] = {
            key: parser[key] for key in ("lambda_cycle", "lambda_identity", "lambda_pixel", "lambda_grey")
        }
        parsed[method]["invert"] = parser["invert_source"]
        if method == "pix2pix":
            generator, judge = parser.get_parsed_content("g_xy"), parser.get_parsed_content("d_y")
            assert sum(weight.numel() for weight in generator.parameters()) == 54_404_099
            assert judge(torch.zeros(1, 6, 256, 256))[-1].shape == (1, 1, 30, 30)  # fields of 70 px
        if method == "one_way":  # the paired CycleGAN's own networks
            generator, judge = parser.get_parsed_content("g_xy"), parser.get_parsed_content("d_y")
            assert sum(weight.numel() for weight in generator.parameters()) == 11_378_179
            assert judge(torch.zeros(1, 3, 256, 256))[-1].shape == (1, 1, 30, 30)
            assert set(parser["train"]["networks"]) == {"g_xy", "d_y"}
    names = ("lambda_cycle", "lambda_identity", "lambda_pixel", "lambda_grey", "invert")
    assert parsed["cyclegan"] == dict(zip(names, (6, 3, 0, 0, False), strict=True))
    assert parsed["cyclegan_inverted"] == dict(zip(names, (6, 3, 0, 0, True), strict=True))
    assert parsed["one_way"] == parsed["pix2pix"]
    assert parsed["pix2pix"] == dict(zip(names, (0, 0, 20, 0, False), strict=True))


@pytest.mark.parametrize(("channels", "taken"), [(1, 3), (2, 2), (3, 3), (5, 5)])
@pytest.mark.parametrize("method", [None, *METHODS])
def test_networks_take_the_channels_of_the_source(method, channels, taken):
    """Three of a source of one, repeated, or of three, as in the papers."""
    parser = ConfigParser()
    parser.read_config([str(CONFIGS / "train.json"), *([CONFIGS / "methods" / f"{method}.json"] if method else [])])
    parser.update({"data": replace(DATA, source=Modality("source", channels, 0, 255))})
    judged = taken + 3 if method == "pix2pix" else 3
    takes = {"g_xy": taken, "g_yx": 3, "d_x": taken, "d_y": judged}
    assert {name: parser.get_parsed_content(f"{name}#in_channels") for name in takes} == takes
    makes = {"g_xy": 3, "g_yx": taken}
    assert {name: parser.get_parsed_content(f"{name}#out_channels") for name in makes} == makes


def test_the_nearest_id_is_named():
    config = json.loads((CONFIGS / "train.json").read_text())
    for wrong, right in (("max_epochs", "epochs"), ("lamda_pixel", "lambda_pixel"), ("patchsize", "patch_size")):
        assert unknown_ids({**config, wrong: 1}) == [f"{wrong!r} is not an id of this config; did you mean {right!r}?"]


def test_the_default_config_is_the_paper_s():
    config = json.loads((CONFIGS / "train.json").read_text())
    paper = {"epochs": 500, "batch_size": 4, "patch_size": 256, "patches_per_pair": 100, "width": 64, "blocks": 9}
    paper |= {"learning_rate": 2e-4, "pool_size": 50, "zoom": [0.9, 1.1], "jitter": 0.1, "mask_discriminator": False}
    paper |= {"lambda_adv": 1, "lambda_cycle": 6, "lambda_identity": 3, "lambda_pixel": 6, "lambda_grey": 1}
    assert {key: config[key] for key in paper} == paper
    assert all(config["train"]["optimizers"][name]["betas"] == [0.5, 0.999] for name in ("g", "d_x", "d_y"))


def test_importing_the_package_downloads_nothing_and_is_quiet():
    modules = "bundle.evaluation.paired, bundle.training.trainers, bundle.training.publish"
    code = f"import socket; socket.socket.connect = None\nimport {modules}"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
