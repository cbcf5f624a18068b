"""A source of any number of channels is declared once, in the datalist, and goes through all of the house."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from bundle.common.errors import InputError
from bundle.data.load import load_datalist
from bundle.images.slides import read_slide, write_slide
from bundle.staining.model import load_model
from bundle.training.export import export
from tests.conftest import TINY, make_dataset, run_bundle

METHODS = {2: "cyclegan", 5: "one_way"}  # by number of channels


def channels_of(grey: np.ndarray, number: int) -> np.ndarray:
    """(1, H, W) → (number, H, W), each weaker and lighter than the one before."""
    return np.concatenate([(grey * (1 - place / 10) + 3000 * place).astype(np.uint16) for place in range(number)])


def make_channels(folder: Path, number: int) -> Path:
    """A dataset of which the source has several channels, a page each in a TIFF."""
    make_dataset(folder)
    listed = json.loads((folder / "datalist.json").read_text())
    for entry in listed["training"] + listed["testing"]:
        grey = folder / entry["source"]
        entry["source"] = entry["source"].replace("source/", "ct/").replace(".png", ".tif")
        write_slide(folder / entry["source"], channels_of(read_slide(grey).pixels, number), 5.0)
    listed["source"] = {"name": "energies", "channels": number, "range": [0, 65535]}
    (folder / "datalist.json").write_text(json.dumps(listed))
    return folder


@pytest.fixture(scope="module", params=METHODS)
def run(request, tmp_path_factory) -> tuple[int, Path]:
    """How many channels, and the folder of a tiny run that was evaluated; its dataset is ``data`` beside it."""
    folder = tmp_path_factory.mktemp("channels")
    make_channels(folder / "data", request.param)
    configs = ["configs/train.json", f"configs/methods/{METHODS[request.param]}.json"]
    ids = {"dataset_dir": folder / "data", "output_dir": folder / "run", "fold": 0}
    only = {"validate_every": 1, "lambda_identity": 0, **TINY, "epochs": 1}
    done = run_bundle("training", configs, **ids, **only)
    assert done.returncode == 0, done.stdout + done.stderr
    done = run_bundle("evaluation", [configs[0], "configs/evaluate.json"], **ids, eval_patch=32)
    assert done.returncode == 0, done.stdout + done.stderr
    return request.param, folder / "run"


def test_a_network_learns_from_them(run):
    number, folder = run
    bundle = folder / "bundle"
    network = load_model(bundle).network
    assert network.layers[1].in_channels == number
    described = json.loads((bundle / "configs/metadata.json").read_text())["network_data_format"]["inputs"]["image"]
    assert described["num_channels"] == number
    assert described["channel_def"] == {str(place): f"channel {place}" for place in range(number)}
    assert (bundle / "reverse.pt").exists() == (METHODS[number] == "cyclegan")
    assert (folder / "samples/epoch_0001.png").exists()


def test_they_are_evaluated_beside_the_baselines(run):
    number, folder = run
    table = (folder / "evaluation/table.md").read_text(encoding="utf-8")
    for row in ("network", "colour table", "mean colour", "inverted source", "raw source"):
        assert f"| testing | {row} |" in table
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert "source: energies, 72 × 64 px" in page
    (slide,) = (folder / "evaluation/slides").glob("testing_*")
    assert read_slide(slide / "source.png").pixels.shape == (3, 64, 72)  # false colours
    back = [read_slide(path).pixels.shape for path in slide.glob("patch_*/generated_source.png")]
    assert bool(back) == (number == 2)
    assert set(back) <= {(3, 32, 32)}


def test_slides_of_them_are_stained_and_of_others_are_not(run, tmp_path):
    number, folder = run
    ids = {"bundle_root": folder / "bundle", "output_dir": tmp_path}
    config, image = folder / "bundle/configs/inference.json", folder.parent / "data/ct/02.tif"
    done = run_bundle("inference", config, **ids, input=image)
    assert done.returncode == 0, done.stdout + done.stderr
    expected = load_model(folder / "bundle")(read_slide(image).pixels)
    assert np.array_equal(read_slide(tmp_path / "02_stained.tif").pixels, expected)
    done = run_bundle("inference", config, **ids, input=folder.parent / "data/source/02.png")
    assert f"02.png has 1 channels but energies declares {number}" in done.stderr
    if number == 2:
        stain = folder.parent / "data/target/02.png"
        done = run_bundle("inference", config, **ids, input=stain, direction="reverse")
        assert done.returncode == 0, done.stdout + done.stderr
        assert read_slide(tmp_path / "02_source.tif").pixels.shape == (2, 64, 72)


@pytest.mark.slow
def test_the_zip_stains_a_volume_of_them_with_monai_alone(run, tmp_path):
    number, folder = run
    said = export(str(folder / "bundle"), str(tmp_path / "zoo.zip"))
    assert "models/model.onnx gives it within" in said
    assert "stained a volume, from an empty folder" in said


def test_what_has_no_meaning_is_refused_by_its_id(tmp_path):
    data = make_channels(tmp_path / "data", 5)
    done = run_bundle("training", "configs/train.json", dataset_dir=data, output_dir=tmp_path / "run", **TINY)
    assert done.stderr.strip().splitlines()[-2:] == [
        "error: lambda_identity is 3, but energies has 5 channel(s) and toluidine blue 3, so a generator cannot take "
        "what it makes; set it to 0.",
        "lambda_grey is 1, but energies has 5 channel(s) and toluidine blue 3, so energies need not be grey; set it to "
        "0.",
    ]
    assert not (tmp_path / "run").exists()


def test_targets_of_pairs_are_rgb(tmp_path):
    data = make_dataset(tmp_path, target={"name": "stain", "channels": 2, "range": [0, 255]})
    with pytest.raises(InputError, match=r"target\.channels is 2; it must be 3 \(RGB\) for a method that learns"):
        load_datalist(str(data))
