"""A segmenter at work, with a network whose answers are known: what is checked first, written, kept, and where."""

import gc
import json
import logging
import weakref

import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser
from torch.nn import functional as F  # noqa: N812

from bundle.common.errors import InputError
from bundle.data.datalist import Modality
from bundle.images.slides import read_slide, write_slide
from bundle.nuclei import segmenter as segmenter_module
from bundle.nuclei.checks import id_faults
from bundle.nuclei.dataset import load_nuclei
from bundle.nuclei.evaluation import evaluate
from bundle.nuclei.pictures import outlined
from bundle.nuclei.segmenter import Segmenter, tuned
from bundle.nuclei.segmenting import segment
from tests.conftest import ROOT
from tests.helpers.nuclei import CONFIG, TINY, make_nuclei, nuclei, relist


class Bright(torch.nn.Module):
    """Finds a nucleus of radius 4 px about each second pixel that is bright."""

    def forward(self, image):
        bright = F.avg_pool2d(image, 2)
        return torch.cat([20 * bright, torch.full_like(bright, 4.0).expand(-1, 8, -1, -1)], 1)


def bright(pixel_um=None, device="cpu"):
    image = Modality("DAPI", 1, 0, 255)
    return Segmenter(Bright(), image, 2, 1.0, 8, 64, 0.5, 0.4, torch.device(device), pixel_um)


def write_image(path, pixel_um=None, seed=0):
    write_slide(path, nuclei((48, 56), 4, np.random.default_rng(seed))[0], pixel_um)


def lines(*arguments, **named):
    with pytest.raises(InputError) as caught:
        segment(*arguments, **named)
    return str(caught.value).splitlines()


def test_every_image_is_checked_before_anything_is_written(tmp_path):
    folder = tmp_path / "in"
    for name in ("a.png", "b.png", "b.tif", "d.png"):
        write_image(folder / name)
    write_slide(folder / "c.png", np.zeros((3, 48, 56), np.uint8))
    (folder / "d.png").write_bytes((folder / "d.png").read_bytes()[:60])
    before = sorted(folder.iterdir())
    found = lines(str(folder), str(folder), bright())
    wanted = (
        "output_dir",
        "b.png would both be written to b_labels.png",
        "c.png has 3 channels",
        "d.png cannot be read",
    )
    assert len(found) == len(wanted)
    for line, text in zip(found, wanted, strict=True):
        assert text in line
    assert sorted(folder.iterdir()) == before
    assert len(lines(str(folder), str(tmp_path / "out"), bright())) == 3
    assert not (tmp_path / "out").exists()


def test_results_do_not_go_beside_a_single_image_or_into_an_empty_folder(tmp_path):
    write_image(tmp_path / "in/a.png")
    assert "is the folder of the input" in lines(str(tmp_path / "in/a.png"), str(tmp_path / "in"), bright())[0]
    (tmp_path / "none").mkdir()
    found = lines(str(tmp_path / "none"), str(tmp_path / "none"), bright(), input_pixel_um=-1)
    assert ["holds no image" in found[0], "output_dir" in found[1], "input_pixel_um is -1" in found[2]] == [True] * 3


def test_images_of_another_pixel_size_are_refused(tmp_path):
    for name, pixel_um in {"a.png": 0.25, "b.png": 0.46, "c.tif": 0.54, "d.tif": 0.56}.items():
        write_image(tmp_path / "in" / name, pixel_um)
    folder, out = str(tmp_path / "in"), str(tmp_path / "out")
    found = lines(folder, out, bright(0.5))
    assert [line.split(" states")[0].rsplit("/")[-1] for line in found] == ["a.png", "d.tif"]
    assert "pixels of 0.25 µm but the segmenter was trained on pixels of 0.5 µm; scale" in found[0]
    assert "--input_pixel_um" in found[0]
    assert len(lines(folder, out, bright(0.5), input_pixel_um=1)) == 1
    segment(folder, out, bright(0.5), input_pixel_um=0.5)
    assert read_slide(tmp_path / "out/a_labels.png").pixel_um == pytest.approx(0.5, rel=1e-2)
    segment(folder, out, bright())
    assert read_slide(tmp_path / "out/a_labels.png").pixel_um == pytest.approx(0.25, rel=1e-2)


def test_unknown_pixel_sizes_are_one_warning(tmp_path, caplog):
    for number in range(3):
        write_image(tmp_path / f"in/{number}.png", 0.5 if number == 2 else None)
    caplog.set_level(logging.WARNING, "bundle")
    folder, out = str(tmp_path / "in"), str(tmp_path / "out")
    segment(folder, out, bright())
    segment(folder, out, bright(0.5), input_pixel_um=0.5)
    assert not caplog.records
    segment(folder, out, bright(0.5))
    assert [each.getMessage().split(",")[0] for each in caplog.records] == ["2 of 3 images state no pixel size"]


def test_a_dataset_of_another_pixel_size_is_not_scored(tmp_path, caplog):
    folder = make_nuclei(tmp_path / "data", pixel_um=0.25)
    with pytest.raises(InputError, match=r"pixels of 0.25 µm but .* trained on pixels of 0.5 µm.*datalist"):
        evaluate(load_nuclei(str(folder)), bright(0.5), str(tmp_path))
    assert not (tmp_path / "evaluation").exists()
    relist(folder, pixel_um=None)
    evaluate(load_nuclei(str(folder)), bright(0.5), str(tmp_path))
    assert [each.levelname for each in caplog.records if "states no pixel_um" in each.getMessage()] == ["WARNING"]


def test_pictures_of_images_of_one_name_are_all_kept(tmp_path):
    folder = make_nuclei(tmp_path / "data", testing=3)
    entries = json.loads((folder / "datalist.json").read_text())["testing"]
    for number, entry in enumerate(entries):
        (folder / f"slide{number}").mkdir()
        (folder / entry["image"]).rename(folder / f"slide{number}/tile.png")
        entry["image"] = f"slide{number}/tile.png"
    relist(folder, testing=entries)
    evaluate(load_nuclei(str(folder)), bright(), str(tmp_path))
    pictures = sorted((tmp_path / "evaluation/outlines").iterdir())
    assert [each.name for each in pictures] == ["01_tile.png", "02_tile.png", "03_tile.png"]


def allow_one(monkeypatch, name, part):
    """Let a method fail while what it gave before is still in memory; a list that has an entry a call."""
    whole, kept = getattr(Segmenter, name), []

    def watched(self, *arguments):
        gc.collect()
        assert not any(each() is not None for each in kept)
        result = whole(self, *arguments)
        kept.append(weakref.ref(getattr(result, part)))
        return result

    monkeypatch.setattr(Segmenter, name, watched)
    return kept


def test_an_evaluation_keeps_no_label_image(tmp_path, monkeypatch):
    calls = allow_one(monkeypatch, "__call__", "labels")
    evaluate(load_nuclei(str(make_nuclei(tmp_path / "data", testing=3))), bright(), str(tmp_path), pictures=1)
    assert len(calls) == 3 + 1


def test_thresholds_are_tuned_with_one_prediction_in_memory(monkeypatch):
    calls = allow_one(monkeypatch, "predict", "probability")
    monkeypatch.setattr(segmenter_module, "PROBABILITIES", (0.4, 0.6))
    made = [nuclei((48, 56), 4, np.random.default_rng(seed)) for seed in range(3)]
    tuned(bright(), (image for image, _ in made), (labels[0] for _, labels in made))
    assert len(calls) == 3


def test_a_device_is_given_windows_and_the_image_stays_in_main_memory(monkeypatch):
    asked = {}

    def windows(inputs, roi, *_, **where):
        asked.update(where, image=inputs.device.type, roi=roi)
        return torch.zeros(1, 9, inputs.shape[2] // 2, inputs.shape[3] // 2)

    monkeypatch.setattr(segmenter_module, "sliding_window_inference", windows)
    prediction = bright(device="meta").predict(np.zeros((1, 100, 60), np.uint8))
    assert (asked["image"], str(asked["device"]), str(asked["sw_device"])) == ("cpu", "cpu", "meta")
    assert asked["roi"] == [64, 64]
    assert prediction.probability.shape == (50, 30)


@pytest.mark.parametrize(
    ("ids", "said"),
    [
        ({"held_out": 0}, None),
        ({"held_out": 0, "tune_thresholds": True}, "held_out is 0"),
        ({"deploy_checkpoint": "best_distance"}, None),
        ({"deploy_checkpoint": "best"}, "deploy_checkpoint is 'best'; it must be one of latest, best_object"),
        ({"window": 256}, None),
    ],
)
def test_what_the_end_of_a_training_needs_is_checked_at_its_beginning(ids, said):
    parser = ConfigParser()
    parser.read_config(str(ROOT / CONFIG))
    parser.update({**TINY, **ids})
    found = id_faults(parser)
    assert len(found) == (said is not None)
    assert all(said in line for line in found)


def test_outlines_take_a_colour_and_leave_an_rgb_image_as_it_is():
    labels = np.zeros((20, 20), np.int32)
    labels[4:10, 4:10] = 1
    rgb = np.arange(1200, dtype=np.uint8).reshape(3, 20, 20)
    picture = outlined(rgb, Modality("IHC", 3, 0, 255), labels, scale=1, colour=(255, 220, 0)).transpose(2, 0, 1)
    assert picture[:, 4, 4].tolist() == [255, 220, 0]
    line = np.zeros((20, 20), bool)
    line[4:10, 4:10] = True
    line[5:9, 5:9] = False
    assert np.array_equal(picture[:, ~line], rgb[:, ~line])
