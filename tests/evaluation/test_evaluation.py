"""Evaluation: what is compared with what, and what the tables say."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path

import numpy as np
import pytest
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from bundle.common.errors import InputError
from bundle.data.load import load_datalist
from bundle.evaluation.paired import evaluate
from bundle.evaluation.similarity import patch_corners
from bundle.evaluation.tables import METRICS, ROWS, TRUTHS, merit, shown, summarise
from bundle.images.slides import read_slide, write_slide
from bundle.staining.model import load_model
from tests.conftest import make_dataset, run_bundle

CONFIGS = "['configs/train.json','configs/evaluate.json']"
WITH_PROFILE = "['configs/train.json','configs/evaluate.json','configs/profiles/demo.json']"


def table(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def evaluated(trained, shared) -> Path:
    weights = shared / "weights" / "squeezenet1_1_features.pth"
    ids = {"dataset_dir": trained.parent / "data", "output_dir": trained, "eval_patch": 32, "lpips_weights": weights}
    done = run_bundle("evaluation", WITH_PROFILE, **ids)
    assert done.returncode == 0, done.stderr
    assert re.search(r"^testing +network +\d+ ", done.stdout, re.M)
    assert "|" not in done.stdout  # Markdown is in files
    assert "Measured on 1 test slide: training never saw them" in done.stdout  # the page's answer
    written = (trained / "evaluation" / "table.md").read_text(encoding="utf-8")
    assert "| patches | LPIPS ↓ | detail (1 = as real) | gradient correlation ↑ | SSIM ↑ | PSNR ↑ (dB) |" in written
    return trained / "evaluation"


def test_every_table_has_the_network_and_four_rows_without_one(evaluated):
    for name in ("patches", "slides", "summary"):
        rows = table(evaluated / f"{name}.csv")
        for split in ("training", "testing"):
            assert {row["row"] for row in rows if row["split"] == split} == set(ROWS)
    text = (evaluated / "table.md").read_text()
    assert all(f"| testing | {row} |" in text for row in ROWS)


def test_scores_are_those_of_scikit_image_on_masked_patches(evaluated, trained):
    data = load_datalist(str(trained.parent / "data"))
    mask = read_slide(data.testing[0].mask).pixels[0] != 0
    background = np.rint(data.background_rgb).reshape(3, 1, 1)
    on_background = lambda pixels: np.where(mask, pixels, background).astype(np.uint8).transpose(1, 2, 0)
    real = on_background(read_slide(data.testing[0].target).pixels)
    grey = np.rint(read_slide(data.testing[0].source).pixels / 257.0)
    made = {
        "network": read_slide(evaluated / "slides" / "testing_002_02" / "unmasked.png").pixels,
        "raw source": grey,
        "inverted source": 255 - grey,
    }
    rows = [row for row in table(evaluated / "patches.csv") if row["split"] == "testing"]
    for name, pixels in made.items():
        shown = on_background(np.broadcast_to(pixels, (3, 64, 72)))
        for row in (row for row in rows if row["row"] == name):
            place = (slice(int(row["top"]), int(row["top"]) + 32), slice(int(row["left"]), int(row["left"]) + 32))
            expected = structural_similarity(real[place], shown[place], channel_axis=-1, data_range=255)
            assert float(row["ssim"]) == pytest.approx(expected, abs=1e-9)
            expected = peak_signal_noise_ratio(real[place], shown[place], data_range=255)
            assert float(row["psnr"]) == pytest.approx(expected, abs=1e-9)


def test_patches_with_less_than_half_in_the_mask_are_left_out(evaluated, trained):
    mask = np.zeros((64, 72), bool)
    mask[20:-8, 20:-8] = True
    inside = {
        (top, left)
        for top, left in patch_corners(64, 72, 32, 16)
        if mask[top : top + 32, left : left + 32].sum() >= 512
    }
    rows = table(evaluated / "patches.csv")
    scored = {(int(row["top"]), int(row["left"])) for row in rows if row["split"] == "testing"}
    assert scored == inside
    assert len(inside) < len(list(patch_corners(64, 72, 32, 16)))


def test_summary_is_the_median_and_quartiles_of_the_patches(evaluated):
    patches = table(evaluated / "patches.csv")
    for line in table(evaluated / "summary.csv"):
        chosen = [row for row in patches if (row["split"], row["row"]) == (line["split"], line["row"])]
        assert int(line["patches"]) == len(chosen)
        for metric in METRICS:
            values = sorted(float(row[metric]) for row in chosen if row[metric] != "not computed")
            assert float(line[f"{metric}_median"]) == pytest.approx(np.percentile(values, 50))
            assert float(line[f"{metric}_q3"]) == pytest.approx(np.percentile(values, 75))


def test_the_colour_table_wins_where_grey_decides_the_colour(evaluated):
    medians = {row["row"]: float(row["psnr_median"]) for row in table(evaluated / "summary.csv")}
    assert max(medians, key=medians.get) == "colour table"
    assert medians["colour table"] > 35


def test_without_weights_lpips_is_not_computed_and_says_how(trained, tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    ids = {"dataset_dir": trained.parent / "data", "output_dir": tmp_path / "run", "eval_patch": 32}
    done = run_bundle("run", CONFIGS, model_bundle=trained / "bundle", eval_splits="['testing']", **ids)
    assert done.returncode == 0, done.stderr
    text = (tmp_path / "run" / "evaluation" / "table.md").read_text()
    assert text.count("not computed") == len(ROWS) + 1
    assert "| patches | detail (1 = as real) | gradient correlation ↑ | SSIM ↑ | PSNR ↑ (dB) | LPIPS ↓ |" in text
    assert "--lpips_weights" in text
    assert {row["lpips"] for row in table(tmp_path / "run" / "evaluation" / "patches.csv")} == {"not computed"}


def test_the_network_can_be_measured_alone_and_with_other_windows(trained, tmp_path):
    data = load_datalist(str(trained.parent / "data"))
    first = (str(trained / "bundle"), str(tmp_path), "cpu", 32, 16, 0.5, ["testing"], None)
    evaluate(data, *first, eval_baselines=False, eval_window=32, eval_step=8)
    folder = tmp_path / "evaluation"
    assert {row["row"] for name in ("patches", "slides", "truth") for row in table(folder / f"{name}.csv")} == {
        "network"
    }
    with_32 = load_model(trained / "bundle", window=32, step=8)(read_slide(data.testing[0].source).pixels)
    made = read_slide(folder / "slides" / "testing_000_02" / "unmasked.png").pixels
    np.testing.assert_array_equal(made, with_32)
    assert (made != load_model(trained / "bundle")(read_slide(data.testing[0].source).pixels)).any()
    ids = json.loads((folder / "provenance.json").read_text())["ids"]
    assert (ids["window"], ids["step"], ids["eval_baselines"]) == (32, 8, False)


def test_a_dataset_that_divides_a_specimen_is_reported_as_such(trained, tmp_path):
    folder = make_dataset(tmp_path / "data", allow_same_specimen=True)
    data = load_datalist(str(folder))
    evaluate(data, trained / "bundle", tmp_path / "run", "cpu", 32, 16, 0.5, ["testing"], None)
    assert "One specimen stands in more than one split" in (tmp_path / "run" / "evaluation" / "table.md").read_text()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"eval_patch": 65}, "smaller than eval_patch 65"),
        ({"eval_stride": 0}, "eval_stride is 0"),
        ({"eval_overlap": 2}, "eval_overlap is 2"),
        ({"eval_splits": ["tests"]}, "eval_splits has 'tests'"),
        ({"eval_splits": ["validation"]}, "nothing to evaluate"),
        ({"model_bundle": "nowhere"}, "nowhere is no trained bundle"),
        ({"lpips_weights": "nowhere.pth"}, "nowhere.pth does not exist"),
    ],
)
def test_bad_input_is_named_before_anything_is_written(trained, tmp_path, change, message):
    data = load_datalist(str(trained.parent / "data"))
    ids = {"eval_patch": 32, "eval_stride": 16, "eval_overlap": 0.5, "eval_splits": ["testing"], "lpips_weights": None}
    ids |= {"model_bundle": trained / "bundle", "output_dir": str(tmp_path / "run"), "device": "cpu", **change}
    with pytest.raises(InputError, match=message):
        evaluate(data, **ids)
    assert not (tmp_path / "run").exists()


def test_a_model_of_other_data_is_refused(trained, tmp_path):
    other = make_dataset(tmp_path / "data", source={"name": "µCT", "channels": 1, "range": [0, 70000]})
    with pytest.raises(InputError, match="was trained on source"):
        evaluate(load_datalist(str(other)), trained / "bundle", tmp_path, "cpu", 32, 16, 0.5, ["testing"], None)


def test_summarise_by_hand():
    about = {"split": "testing", "row": "network"}
    rows = [{**about, **dict.fromkeys(METRICS, value), "lpips": None} for value in (1.0, 2.0, 4.0)]
    rows.append({**rows[0], "detail": None, "ssim": 2.0})  # a patch of one colour
    slides = [{**about, **dict.fromkeys(TRUTHS), "new_bone_recall": value} for value in (0.5, None, 0.7)]
    (line,) = summarise(rows, slides)
    assert (line["patches"], line["ssim_median"], line["ssim_q1"], line["lpips_median"]) == (4, 2.0, 1.75, None)
    assert line["detail_median"] == 2.0
    assert line["new_bone_recall_median"] == pytest.approx(0.6)
    assert line["new_bone_precision_median"] is None
    measured = ("detail", "gradient_correlation", "new_bone_recall", "ssim", "psnr", "lpips")
    assert shown([line]) == measured


def test_what_an_older_evaluation_did_not_compute_stands_last():
    old = {"split": "testing", "row": "network", "ssim_median": "0.3", "psnr_median": "12", "lpips_median": "0.2"}
    assert shown([old]) == ("lpips", "ssim", "psnr", "detail", "gradient_correlation")


def test_half_the_detail_is_as_wrong_as_twice_and_none_is_worst():
    values = {"half": 0.5, "twice": 2.0, "all": 1.0, "none": 0.0, "most": 0.8}
    order = sorted(values, key=lambda name: merit("detail", values[name]))
    assert order[0] == "none"
    assert merit("detail", 0.5) == pytest.approx(merit("detail", 2.0))
    assert order[-2:] == ["most", "all"]
    assert merit("lpips", 0.1) > merit("lpips", 0.2)
    assert merit("ssim", 0.2) > merit("ssim", 0.1)


def test_truth_measures_stand_beside_those_of_the_section_itself(trained, tmp_path):
    data_dir = make_dataset(tmp_path / "data")
    listed = json.loads((data_dir / "datalist.json").read_text())
    rng = np.random.default_rng(0)
    for entry in listed["training"] + listed["testing"]:
        labels = rng.integers(0, 2, (1, 8, 9), dtype=np.uint8).repeat(8, 1).repeat(8, 2)
        write_slide(data_dir / "labels" / entry["source"][-6:], labels)
        entry["labels"] = f"labels/{entry['source'][-6:]}"
    listed["tissues"] = {"bone": [0], "new bone": [1]}
    (data_dir / "datalist.json").write_text(json.dumps(listed))
    evaluate(
        load_datalist(str(data_dir)), str(trained / "bundle"), str(tmp_path), "cpu", 32, 16, 0.5, ["testing"], None
    )
    rows = {row["row"]: row for row in table(tmp_path / "evaluation" / "truth.csv")}
    assert set(rows) == {*ROWS, "real section"}
    text = (tmp_path / "evaluation" / "table.md").read_text()
    assert "gradient correlation ↑ | new bone precision ↑ | new bone recall ↑ | SSIM ↑" in text
    line = next(row for row in table(tmp_path / "evaluation" / "summary.csv") if row["row"] == "mean colour")
    assert float(line["new_bone_recall_median"]) == float(rows["mean colour"]["new_bone_recall"])
    assert float(rows["real section"]["correlation"]) == pytest.approx(1)
    assert float(rows["real section"]["new_bone_recall"]) > 0
    assert rows["network"]["lacunae_recall"] == "not computed"  # the dataset names no lacunae
    assert rows["network"]["seam_index"] == "not computed"  # one window covers the slide
