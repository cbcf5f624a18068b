"""Trainings of a segmenter: resumed equals uninterrupted, learns, scores, segments; bad input is a line."""

import csv
import json
import shutil
import signal

import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser

from bundle.common.errors import InputError, input_error
from bundle.common.palette import FOUND, TRUE
from bundle.data.datalist import Modality
from bundle.images.slides import read_slide, write_slide
from bundle.nuclei.dataset import load_nuclei, read_nuclei
from bundle.nuclei.evaluation import evaluate, worst_to_best
from bundle.nuclei.pictures import outlined
from bundle.nuclei.scoring import count
from bundle.nuclei.segmenter import Segmenter, load_segmenter, tuned
from bundle.nuclei.segmenting import segment
from tests.conftest import ROOT, run_bundle
from tests.helpers.nuclei import CONFIG, TINY, make_nuclei, make_nuclei_trainer, nuclei, relist
from tests.helpers.training import differences, latest, stop_at

LEARNS = {"epochs": 4, "steps_per_epoch": 40, "batch_size": 4, "width": 8, "learning_rate": 0.01, "decay_epochs": 2}
DEMO = f"['{CONFIG}','configs/profiles/nuclei_demo.json']"


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run that has learned to find bright discs; its dataset is ``data`` beside it."""
    folder = tmp_path_factory.mktemp("nuclei")
    make_nuclei(folder / "data", training=8, pixel_um=0.5)
    ids = {**TINY, **LEARNS, "tune_thresholds": "true"}
    done = run_bundle("training", DEMO, dataset_dir=folder / "data", output_dir=folder / "run", **ids)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder / "run"


def typed(run_id, config=CONFIG, **ids):
    """What ``python -m monai.bundle run`` does with ids, in this process."""
    parser = ConfigParser()
    parser.read_config(str(ROOT / config))
    parser.update({"device": "cpu", **{name: str(value) for name, value in ids.items()}})
    parser.get_parsed_content(run_id)


def test_a_stopped_run_that_is_resumed_equals_one_that_was_not(tmp_path):
    data = make_nuclei(tmp_path / "data")
    make_nuclei_trainer(data, tmp_path / "whole").run()
    part = make_nuclei_trainer(data, tmp_path / "part")
    stop_at(part, 3, signal.SIGTERM)
    part.run()
    assert latest(tmp_path / "part")["iteration"] == 3
    make_nuclei_trainer(data, tmp_path / "part", resume=True).run()
    assert latest(tmp_path / "part")["iteration"] == 10
    assert not differences(latest(tmp_path / "whole"), latest(tmp_path / "part"))
    best = [torch.load(tmp_path / run / "checkpoints/best_distance.pt", weights_only=True) for run in ("whole", "part")]
    assert not differences(*best)
    write_slide(data / "images/0.png", 255 - read_slide(data / "images/0.png").pixels)
    with pytest.raises(InputError, match="images/0.png changed since the run"):
        make_nuclei_trainer(data, tmp_path / "part", resume=True)


def test_a_step_that_is_not_finite_names_the_files(tmp_path):
    trainer = make_nuclei_trainer(make_nuclei(tmp_path / "data"), tmp_path / "run")
    with torch.no_grad():
        next(trainer.network.parameters()).fill_(torch.nan)
    with pytest.raises(InputError, match=r"loss is nan.*labels/0\.png"):
        trainer.run()


def test_a_run_leaves_a_bundle_and_the_record_of_its_thresholds(run):
    inference = json.loads((run / "bundle/configs/inference.json").read_text())
    provenance = json.loads((run / "provenance.json").read_text())
    assert provenance["complete"]
    assert provenance["thresholds"]["how"] == "tuned on 2 images held out of training"
    for name in ("probability_threshold", "nms_threshold"):
        assert provenance["thresholds"][name] == inference[name]
    assert inference["network_def"]["out_channels"] == 9
    assert len(latest(run)["data"]) == 2 * 6 + 1  # the other two were not trained on
    segmenter = load_segmenter(run / "bundle")
    assert (segmenter.pixel_um, segmenter.window) == (0.5, 1024)
    image = torch.rand(1, 1, 48, 32)
    script = torch.jit.load(run / "bundle/models/model.ts")
    with torch.no_grad():
        assert torch.allclose(script(image), segmenter.network(image), atol=1e-5)


def test_evaluation_scores_the_test_images(run, capsys):
    typed("evaluation", dataset_dir=run.parent / "data", output_dir=run)
    assert "2 images, 10 nuclei" in capsys.readouterr().out
    scores = json.loads((run / "evaluation/summary.json").read_text())
    assert scores["f1"]["value"] > 0.8
    assert scores["f1"]["low"] <= scores["f1"]["value"] <= scores["f1"]["high"]
    with (run / "evaluation/scores.csv").open() as stream:
        table = list(csv.DictReader(stream))
    assert [row["image"] for row in table] == ["images/8.png"] * 9 + ["images/9.png"] * 9
    at_half = [row for row in table if row["iou"] == "0.5"]
    tp, fp, fn = (sum(int(row[key]) for row in at_half) for key in ("tp", "fp", "fn"))
    assert scores["f1"]["value"] == pytest.approx(2 * tp / (2 * tp + fp + fn))
    assert scores["sensitivity"]["value"] == pytest.approx(tp / (tp + fn))
    assert tp + fn == 10
    pictures = list((run / "evaluation/outlines").glob("*.png"))
    assert [read_slide(each).pixels.shape for each in pictures] == [(3, 128, 144)] * 2


def test_a_folder_is_segmented_by_the_config_and_by_the_bundle_alone(run, tmp_path):
    image, labels = nuclei((50, 61), 4, np.random.default_rng(9))  # sides that the network does not take
    write_slide(tmp_path / "new/one.tif", image, pixel_um=0.5)
    new, bundle = tmp_path / "new", run / "bundle"
    typed("inference", input=new, model_bundle=bundle, output_dir=tmp_path / "a")
    alone = bundle / "configs/inference.json"
    typed("inference", alone, input=new, bundle_root=bundle, output_dir=tmp_path / "b")
    found = read_nuclei(tmp_path / "a/one_labels.png")
    assert np.array_equal(found, read_nuclei(tmp_path / "b/one_labels.png"))
    assert found.shape == (50, 61)
    assert count(labels[0], found).tp[0] >= 2
    assert read_slide(tmp_path / "a/one_labels.png").pixel_um == pytest.approx(0.5, rel=1e-2)
    with (tmp_path / "a/nuclei.csv").open() as stream:
        table = list(csv.DictReader(stream))
    assert [int(row["area_px"]) for row in table] == np.bincount(found.ravel())[1:].tolist()
    assert (tmp_path / "a/one_outlines.png").is_file()


def test_windows_give_the_nuclei_of_the_whole_image_but_for_the_norm(run):
    image, _ = nuclei((96, 96), 10, np.random.default_rng(4))
    whole, windows = (load_segmenter(run / "bundle", window=window)(image).labels for window in (1024, 64))
    assert count(whole, windows).tp[0] >= 9


def test_a_window_that_is_not_set_is_that_of_the_bundle(run, tmp_path):
    shutil.copytree(run / "bundle", tmp_path / "bundle")
    path = tmp_path / "bundle/configs/inference.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"window": 64}))
    for ids, window in (({}, 64), ({"window": 128}, 128)):
        parser = ConfigParser()
        parser.read_config(str(ROOT / CONFIG))
        parser.update({"device": "cpu", "model_bundle": str(tmp_path / "bundle"), **ids})
        assert parser.get_parsed_content("segmenter").window == window


def test_thresholds_are_tuned_to_what_matches_best():
    probability = np.full((64, 64), -9.0, np.float32)
    truth = np.zeros((64, 64), np.int32)
    output = torch.full((1, 9, 64, 64), 6.0)
    for row, column, logit, real in ((16, 16, 1.0, 1), (48, 48, 0.9, 1), (16, 48, 0.2, 0), (48, 16, 0.1, 0)):
        probability[row, column] = logit
        if real:
            rows, columns = np.ogrid[:64, :64]
            truth[(rows - row) ** 2 + (columns - column) ** 2 <= 36] = truth.max() + 1
    output[0, 0] = torch.from_numpy(probability)

    class Fixed(torch.nn.Module):
        def forward(self, image):
            return output.clone()  # MONAI weighs it in place

    segmenter = Segmenter(Fixed(), Modality("x", 1, 0, 255), 1, 1.0, 8, 64, 0.5, 0.4, torch.device("cpu"))
    image = np.zeros((1, 64, 64), np.uint8)
    assert len(segmenter(image).probabilities) == 4
    better = tuned(segmenter, [image], [truth])
    assert 0.55 < better.probability_threshold < 0.72  # between the sigmoids of 0.2 and 0.9
    assert len(better(image).probabilities) == 2


def test_ids_that_make_no_sense_are_listed(tmp_path):
    make_nuclei(tmp_path / "data")
    output = tmp_path / "run"
    alone = {"probability_threshold": 1.5, "held_out": 1, "tune_thresholds": "maybe", "rays": 2, "grid": 3, "window": 0}
    together = {"patch_size": 40, "held_out": 0, "decay_epochs": 9, "tune_thresholds": True}
    for bad, texts in (
        (alone, ("threshold is 1.5", "held_out is 1;", "'maybe'", "rays is 2", "grid is 3", "window is 0")),
        (together, ("multiples of 16", "decay_epochs is 9", "held_out is 0", "")),
    ):
        parser = ConfigParser()
        parser.read_config(str(ROOT / CONFIG))
        parser.update({"dataset_dir": str(tmp_path / "data"), "output_dir": str(output), **TINY, **bad})
        with pytest.raises(RuntimeError) as caught:
            parser.get_parsed_content("training")
        found = str(input_error(caught.value))
        assert len(found.splitlines()) == len([text for text in texts if text])
        assert all(text in found for text in texts)
    assert not output.exists()


def test_what_cannot_be_scored_or_segmented_is_a_line(run, tmp_path):
    colour = make_nuclei(tmp_path / "colour", image={"name": "IHC", "channels": 3, "range": [0, 255]})
    for number in range(5):
        grey = read_slide(colour / f"images/{number}.png").pixels
        write_slide(colour / f"images/{number}.png", grey.repeat(3, 0))
    segmenter = load_segmenter(run / "bundle")
    with pytest.raises(InputError, match="IHC .3 channel.*is not what the network was trained on, DAPI"):
        evaluate(load_nuclei(str(colour)), segmenter, str(tmp_path))
    with pytest.raises(InputError, match="has 3 channels but DAPI declares 1"):
        segment(str(colour / "images"), str(tmp_path / "out"), segmenter)
    relist(run.parent / "data", testing=[])
    with pytest.raises(InputError, match="has no testing images; give --dataset_dir"):
        evaluate(load_nuclei(str(run.parent / "data")), segmenter, str(tmp_path))
    with pytest.raises(InputError, match="input is not set"):
        segment(None, str(tmp_path / "out"), segmenter)
    with pytest.raises(InputError, match="nms_threshold is 2"):
        load_segmenter(run / "bundle", nms_threshold=2)
    with pytest.raises(InputError, match="is no trained bundle"):
        load_segmenter(tmp_path)
    assert not (tmp_path / "evaluation").exists()


def test_pictures_show_what_is_found_and_what_is_true():
    labels = np.zeros((20, 20), np.int32)
    labels[4:10, 4:10] = 1
    picture = outlined(np.zeros((1, 20, 20), np.uint8), Modality("x", 1, 0, 255), labels, np.roll(labels, 8, 1))
    assert picture.shape == (40, 40, 3)
    assert picture[8, 12].tolist() == list(FOUND)
    assert picture[8, 30].tolist() == list(TRUE)
    assert not picture[30:].any()
    same = outlined(np.zeros((2, 20, 20), np.uint8), Modality("x", 2, 0, 255), labels, labels)
    assert same[8, 12].tolist() == [255] * 3


def test_pictures_are_of_the_worst_image_and_the_best():
    labels = np.zeros((20, 20), np.int32)
    labels[4:10, 4:10] = 1
    missed, hit = count(labels, np.zeros_like(labels)), count(labels, labels)
    assert worst_to_best([hit, missed, hit], 2)[0] == 1
    assert worst_to_best([hit], 4) == [0]
