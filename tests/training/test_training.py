"""A training run as a whole: what it leaves, that it can be repeated, and what it refuses."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from PIL import Image

from bundle.staining.model import load_model
from bundle.training.displays import LEGIBLE_PX, labelled, sample_grid
from tests.conftest import TINY, run_bundle
from tests.helpers.training import TRAIN, differences, latest, make_trainer


def test_a_run_leaves_what_design_promises(trained):
    files = {str(path.relative_to(trained)) for path in trained.rglob("*") if path.is_file()}
    expected = {"config.json", "log.txt", "provenance.json", "samples/epoch_0002.png", "checkpoints/latest.pt"}
    expected |= {f"checkpoints/best_{term}.pt" for term in ("adv", "cycle", "identity", "pixel", "grey")}
    expected |= {"bundle/models/model.pt", "bundle/reverse.pt", "bundle/configs/inference.json", "bundle/LICENSE"}
    expected |= {"bundle/configs/metadata.json", "bundle/docs/README.md", "bundle/bundle/networks/__init__.py"}
    assert expected <= files
    assert any(name.startswith("tensorboard/") for name in files)
    assert not any("partial" in name or "__pycache__" in name for name in files)
    provenance = json.loads((trained / "provenance.json").read_text())
    assert provenance["pixel_um"] == 5.0
    assert len(provenance["data_sha256"]) == 1 + 3 * 3


def test_the_run_bundle_fits_its_network(trained):
    inference = json.loads((trained / "bundle" / "configs" / "inference.json").read_text())
    assert inference["network_def"]["width"] == TINY["width"]
    assert inference["network_def"]["blocks"] == TINY["blocks"]
    assert (inference["window"], inference["step"]) == (256, 64)
    assert inference["bone_intensity"] is None
    assert len(inference["background_rgb"]) == 3
    model = load_model(trained / "bundle")
    saved = torch.load(trained / "checkpoints" / "latest.pt", weights_only=True)["parts"]["g_xy"]
    assert all(torch.equal(value, saved[key]) for key, value in model.network.state_dict().items())


def test_a_run_can_be_repeated_from_its_saved_config(trained, tmp_path):
    done = run_bundle("run", str(trained / "config.json"), output_dir=tmp_path / "again", resume="false")
    assert done.returncode == 0, done.stderr
    assert not differences(latest(trained), latest(tmp_path / "again"))


REFUSED = {
    "mistyped id": ({"epohcs": 3}, "'epohcs' is not an id of this config; did you mean 'epochs'?"),
    "missing dataset": ({"dataset_dir": "nowhere"}, "nowhere/datalist.json does not exist"),
    "bad number": ({"batch_size": 0}, "batch_size is 0; it must be a whole number of at least 1."),
    "bad weight": ({"lambda_pixel": -1}, "lambda_pixel is -1; it must be a number of at least 0."),
    "patch too large": ({"patch_size": 128}, "smaller than a patch of 128 px"),
    "skips": ({"skip_nonfinite": -1}, "skip_nonfinite is -1; it must be a whole number of at least 0."),
    "precision": (
        {"precision": "fp8"},
        "precision is 'fp8'; it must be fast, half, or an arithmetic of this cpu: fp32",
    ),
    "upsampling": ({"upsampling": "bicubic"}, "upsampling is 'bicubic'; it must be one of nearest, transposed."),
    "output below a file": ({"output_dir": "LICENSE/run"}, "output_dir LICENSE/run cannot be written"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_bad_input_is_one_line_and_nothing_is_written(dataset, tmp_path, name):
    changed, message = REFUSED[name]
    ids = {"dataset_dir": dataset, "output_dir": tmp_path / "run", **TINY, **changed}
    done = run_bundle("training", TRAIN, **ids)
    assert done.returncode == 1
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "run").exists()


def test_a_folder_that_holds_a_run_is_not_overwritten(trained):
    done = run_bundle("training", TRAIN, dataset_dir=trained.parent / "data", output_dir=trained, **TINY)
    assert done.returncode == 1
    assert "already holds a run; pass --resume true" in done.stderr


def test_masked_discriminator_option_reaches_the_trainer(dataset, tmp_path):
    trainer = make_trainer(dataset, tmp_path / "run", mask_discriminator=True)
    batch = next(iter(trainer.data_loader))
    translation = trainer.translate(batch)
    shown = translation.show(translation.y, translation.background_y)
    outside = batch["mask"].expand(-1, 3, -1, -1) == 0
    assert outside.any()
    assert torch.equal(shown[outside], trainer.background_y.expand_as(shown)[outside])
    assert torch.equal(shown[~outside], translation.y[~outside])
    assert sample_grid(translation, batch["mask"]).shape == (2 * 32, 5 * 32, 3)


def test_inverting_the_source_negates_it(dataset, tmp_path):
    plain, inverted = (
        next(iter(make_trainer(dataset, tmp_path / "run", jitter=0, invert_source=flag).data_loader))["source"]
        for flag in (False, True)
    )
    assert torch.allclose(plain, -inverted, atol=1e-6)
    assert plain.shape == (2, 3, 32, 32)


def test_a_sample_picture_says_what_its_columns_are(trained):
    with Image.open(trained / "samples" / "epoch_0002.png") as picture:
        told, size = picture.info, picture.size
    assert told["columns"] == "source, generated stain, mask, real stain, generated source"
    assert told["step"] == "epoch 2 of 2, step 8"
    assert size[0] >= 5 * LEGIBLE_PX  # patches of 32 px are magnified, so that labels can be read


def test_labels_stand_over_their_columns_and_leave_the_patches_as_they_are():
    grid = np.random.default_rng(0).integers(0, 200, (64, 3 * 32, 3)).astype(np.uint8)
    picture = labelled(grid, ["one", "two of them", ""], "step 7")
    times = LEGIBLE_PX // 32
    patches = grid.repeat(times, 0).repeat(times, 1)
    top = next(row for row in range(60) if np.array_equal(picture[row : row + len(patches)], patches))
    inked = (picture[:top] < 128).all(-1).any(0).reshape(3, LEGIBLE_PX).any(1)
    assert inked.tolist() == [True, True, False]  # by column
    assert (picture[top + len(patches) :] < 128).any()  # the step below
