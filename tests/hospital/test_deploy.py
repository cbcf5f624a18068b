"""MONAI Deploy's own SDK stains a series to the bit as plain bundle inference does."""

from __future__ import annotations

import json
import pickle
import shutil
from pathlib import Path

import numpy as np
import pydicom
import pytest
import torch
from pydicom.uid import RLELossless

from bundle.common.trained_bundle import LIKENESS
from bundle.common.verdicts import NEITHER
from bundle.networks.likeness import learn
from tests.helpers.firm import change, make_firm
from tests.hospital.conftest import needs
from tests.hospital.deploy_parts import (
    LEVELS,
    SHAPE,
    hard_slices,
    level_words,
    make_bundle,
    plain_inference,
    run_app,
    stained,
)
from tests.hospital.series import ct_series, save

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def bundle(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle whose dataset declared reference intensities."""
    needs("deploy")
    return make_bundle(trained, tmp_path_factory.mktemp("deploy") / "bundle")


def test_pixels_are_those_of_plain_inference_and_the_same_run_again_leaves_them_alone(
    bundle: Path, tmp_path: Path
) -> None:
    scan, out = save(tmp_path / "ct", hard_slices()), tmp_path / "out"
    words = ["-i", scan, "-o", out, "-m", bundle, *level_words()]
    done = run_app(*words)
    assert done.returncode == 0, done.stderr
    assert done.stderr == "", "what it says to a user goes to stdout"
    assert "\x1b" not in done.stdout
    truth = plain_inference(bundle, scan, tmp_path / "truth")
    assert truth.shape == (*SHAPE, 3)
    assert truth.std() > 1
    np.testing.assert_array_equal(stained(out), truth)

    (path,) = out.iterdir()
    made, source = pydicom.dcmread(path), pydicom.dcmread(next(scan.iterdir()))
    assert path.name == f"{made.SOPInstanceUID}.dcm"
    assert made.StudyInstanceUID == source.StudyInstanceUID
    assert made.FrameOfReferenceUID == source.FrameOfReferenceUID
    path.rename(killed := out / f".{path.stem}.1.partial.dcm")  # as a killed run leaves it
    assert run_app(*words).returncode == 0
    np.testing.assert_array_equal(pydicom.dcmread(path).pixel_array, truth)
    killed.unlink()
    first = path.read_bytes()
    again = run_app(*words)
    assert again.returncode == 0, again.stderr
    assert "already" in again.stdout
    assert [each.read_bytes() for each in out.iterdir()] == [first]


def test_fractions_signs_and_compression_reach_the_network_as_they_do_plain_inference(
    bundle: Path, tmp_path: Path
) -> None:
    slices = ct_series()
    for number, each in enumerate(slices):
        each.RescaleSlope, each.RescaleIntercept, each.PixelRepresentation = "7.3", "9000.25", 1
        if number % 2:
            each.compress(RLELossless)
    scan, out = save(tmp_path / "ct", slices), tmp_path / "out"
    done = run_app("-i", scan, "-o", out, "-m", bundle, "--frames", "single", *level_words())
    assert done.returncode == 0, done.stderr
    assert len(list(out.iterdir())) == len(slices)
    np.testing.assert_array_equal(stained(out), plain_inference(bundle, scan, tmp_path / "truth"))


def test_of_two_series_one_is_named_and_a_maps_variables_and_rules_do_as_well(bundle: Path, tmp_path: Path) -> None:
    scan, out = save(tmp_path / "ct", ct_series()), tmp_path / "out"
    save(scan / "more", ct_series("2"))
    save(scan / "other", [each for each in ct_series("3") if setattr(each, "Modality", "MR") is None])
    rules = tmp_path / "rules.json"
    rules.write_text(json.dumps({"selections": [{"name": "any", "conditions": {"Modality": "CT"}}], **LEVELS}))
    places = {"HOLOSCAN_INPUT_PATH": scan, "HOLOSCAN_OUTPUT_PATH": out, "HOLOSCAN_MODEL_PATH": bundle.parent}
    variables = {"VIRTUAL_STAINING_RULES": str(rules)} | {name: str(path) for name, path in places.items()}
    both = run_app(**variables)
    assert both.returncode == 1
    assert "2 series meet" in both.stderr
    assert "--series UID" in both.stderr
    assert "77.3 " not in both.stderr
    assert not list(out.iterdir())
    one = run_app("--series", ct_series("2")[0].SeriesInstanceUID, **variables)
    assert one.returncode == 0, one.stderr
    (path,) = out.iterdir()
    sources = {each.ReferencedSOPInstanceUID for each in pydicom.dcmread(path).SourceImageSequence}
    assert sources <= {each.SOPInstanceUID for each in ct_series("2")}


def test_a_scan_unlike_the_training_data_is_said_to_be_or_refused(bundle: Path, tmp_path: Path) -> None:
    strange = shutil.copytree(bundle, tmp_path / "strange")
    learn([torch.full((3, 40, 36), level) for level in (0.9, 0.91, 0.92)], [0, 1, 2]).save(strange / LIKENESS)
    change(strange / "configs" / "series.json", {"sigma": 0})  # what is smoothed first is not judged
    scan, out = save(tmp_path / "ct", hard_slices()), tmp_path / "out"
    words = ["-i", scan, "-o", out, "-m", strange, *level_words()]
    refused = run_app(*words, "--refuse_unlike", "true")
    assert refused.returncode == 1
    (line,) = refused.stderr.strip().splitlines()
    assert line.startswith("error: the scan is unlike the training data: of 4 slices, 0 like the training data")
    assert not list(out.iterdir())
    done = run_app(*words)
    assert done.returncode == 0, done.stderr
    (path,) = out.iterdir()
    made = pydicom.dcmread(path)
    assert made.SeriesDescription == "SYNTHETIC stain of a scan UNLIKE its training - research only"
    (said,) = (line for line in done.stdout.splitlines() if line.startswith("of 4 slices"))
    assert made.ImageComments == f"SYNTHETIC virtual stain - research only. {said}"
    (strange / LIKENESS).unlink()
    path.unlink()
    before = run_app(*words)
    assert NEITHER in before.stdout.splitlines()
    assert pydicom.dcmread(path).ImageComments == "SYNTHETIC virtual stain - research only"


class Hostile:
    """What a pickle may hold."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple:
        """Unpickled with more than weights allowed, it makes a file."""
        return Path.touch, (self.marker,)


def test_a_model_file_that_would_run_code_does_not(trained: Path, tmp_path: Path) -> None:
    needs("deploy")
    bundle, marker, out = make_bundle(trained, tmp_path / "bundle"), tmp_path / "ran", tmp_path / "out"
    (bundle / "models" / "model.pt").write_bytes(pickle.dumps({"weight": Hostile(marker)}))
    scan = save(tmp_path / "ct", ct_series())
    done = run_app(
        "-i", scan, "-o", out, "-m", bundle, *level_words(), TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD="1"
    )  # a switch of PyTorch's own that is not to help it
    assert done.returncode == 1
    assert done.stderr.strip().splitlines() == [done.stderr.strip()]
    assert "other than weights" in done.stderr
    assert not marker.exists()
    assert not list(out.iterdir())


def test_one_section_decides_as_in_plain_inference_and_the_object_says_so(bundle: Path, tmp_path: Path) -> None:
    firm = make_firm(bundle, tmp_path / "firm")
    scan, out = save(tmp_path / "ct", hard_slices()), tmp_path / "out"
    done = run_app("-i", scan, "-o", out, "-m", firm, *level_words())
    assert done.returncode == 0, done.stderr
    truth = plain_inference(firm, scan, tmp_path / "truth")
    np.testing.assert_array_equal(stained(out), truth)
    assert (plain_inference(bundle, scan, tmp_path / "windows") != truth).mean() > 0.1
    (path,) = out.iterdir()
    assert '"normalisation": "specimen", "parts": "MONAI", "sigma": 1.0, "speed": "stock"' in str(pydicom.dcmread(path))
