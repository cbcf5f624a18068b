"""An unpaired evaluation: planted networks and slides of known index, a real run, and what a study makes of cells."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch

from bundle.common.errors import InputError
from bundle.common.work.engine import Engine
from bundle.data.datalist import Modality
from bundle.data.load import load_datalist
from bundle.evaluation.unpaired import image_scores as unpaired_evaluation
from bundle.evaluation.unpaired.consecutive import blocks, carried, division, pooled
from bundle.evaluation.unpaired.evaluation import evaluate
from bundle.evaluation.unpaired.reconstruction import Cycle
from bundle.images.slides import read_slide, write_slide
from bundle.images.stain_vectors import densities, mixed
from bundle.report.run import tell
from bundle.studies.checks import CHECKS
from bundle.studies.page import write_study
from bundle.studies.plan import UNPAIRED_EVALUATION, plan_cells
from bundle.studies.study import Study
from tests.conftest import ROOT, TINY, run_bundle
from tests.evaluation.test_labelling_index import slide
from tests.evaluation.test_perceptual_hash import planted as planted_hash
from tests.helpers.volumes import files_of

IDS = {
    "device": "cpu",
    "eval_splits": ["testing"],
    "eval_patch": 140,
    "eval_pictures": 1,
    "eval_window": None,
    "eval_step": None,
    "hash_weights": None,
    "labelling_index": True,
    "nucleus_um": 7.0,
    "dab_threshold": 0.2,
    "region_um": 70,
    "seed": 0,
}


def table(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def dataset(folder: Path, images: dict[str, np.ndarray], testing: list[dict], **changes) -> Path:
    """An unpaired dataset; every image may stand in ``testing``, the first of each side is trained on, mirrored."""
    for name, pixels in images.items():
        write_slide(folder / name, pixels)
    first = {side: next(name for name in images if name.startswith(side)) for side in ("source", "target")}
    sides = {side: f"{side}/mirrored{Path(name).suffix}" for side, name in first.items()}
    for side, mirrored in sides.items():
        write_slide(folder / mirrored, images[first[side]][:, :, ::-1])
    listed = {
        "pixel_um": 0.5,
        "source": {"name": "H&E", "channels": 3, "range": [0, 255]},
        "target": {"name": "Ki-67", "channels": 3, "range": [0, 255]},
        "training": [{side: name, "specimen": "slide 1"} for side, name in sides.items()],
        "testing": [{**entry, "specimen": "slide 2"} for entry in testing],
        **changes,
    }
    (folder / "datalist.json").write_text(json.dumps(listed))
    return folder


class Planted:
    """A trained bundle that adds a number to every value, and says what it was trained on."""

    def __init__(self, data, added: int) -> None:
        self.source, self.target, self.added = data.source, data.target, added

    def __call__(self, pixels: np.ndarray) -> np.ndarray:
        return np.clip(np.rint(pixels) + self.added, 0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def sections(tmp_path_factory) -> Path:
    """Two consecutive sections, 30 % positive where the real one has 20 %, and images of one side alone."""
    folder = tmp_path_factory.mktemp("sections")
    images = {"source/a.png": slide(0.3, 1.3, seed=1)[0], "target/a.png": slide(0.2, 1.3, seed=2)[0]}
    images |= {"source/b.png": images["source/a.png"][:, :100], "target/b.png": images["target/a.png"][:, :90]}
    testing = [{"source": "source/a.png", "target": "target/a.png"}]
    return dataset(folder, images, [*testing, {"source": "source/b.png"}, {"target": "target/b.png"}])


@pytest.fixture(scope="module")
def measured(sections, tmp_path_factory) -> Path:
    """The sections measured with G_XY that changes nothing, and G_YX that makes brighter by 2."""
    folder = tmp_path_factory.mktemp("run")
    data = load_datalist(str(sections), paired=False)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(unpaired_evaluation, "load_cycle", lambda *_: Cycle(Planted(data, 0), Planted(data, 2)))
        weights = planted_hash(folder / "hash.pth")
        evaluate(data, str(folder / "bundle"), str(folder), **{**IDS, "hash_weights": weights})
        tell(str(folder))
    return folder


def test_what_comes_back_is_measured_for_every_image_of_both_sides(measured):
    rows = table(measured / "evaluation" / "reconstruction.csv")
    assert [(row["side"], row["image"][-1]) for row in rows] == [(s, i) for s in ("source", "target") for i in "ab"]
    for row in rows:
        assert 1.9 < float(row["mae"]) <= 2
        assert float(row["ssim"]) > 0.99
        assert float(row["psnr"]) == pytest.approx(20 * np.log10(255 / 2), abs=0.2)
    (line,) = [
        line
        for line in json.loads((measured / "evaluation" / "summary.json").read_text())["reconstruction"]
        if (line["side"], line["metric"]) == ("source", "mae")
    ]
    values = [float(row["mae"]) for row in rows if row["side"] == "source"]
    assert (line["number"], line["mean"]) == (2, pytest.approx(np.mean(values)))
    assert line["sd"] == pytest.approx(np.std(values, ddof=1))


def test_planted_indices_of_virtual_and_real_stain_are_found_by_region(measured):
    rows = table(measured / "evaluation" / "labelling.csv")
    assert [(row["top"], row["left"]) for row in rows] == [("0", "0"), ("0", "140"), ("140", "0"), ("140", "140")]
    (found,) = json.loads((measured / "evaluation" / "summary.json").read_text())["labelling"]
    assert found["index_virtual"] == pytest.approx(30, abs=2)
    assert found["index_real"] == pytest.approx(20, abs=2)
    assert found["index_difference"] == pytest.approx(found["index_virtual"] - found["index_real"])
    assert found["index_difference_low"] < 10 < found["index_difference_high"]
    for stain in ("real", "virtual"):
        for count in ("positive", "nuclei"):
            assert found[f"{stain}_{count}"] == sum(int(row[f"{stain}_{count}"]) for row in rows)


def test_the_hash_is_taken_tile_by_tile_and_pixels_are_not_compared(measured):
    rows = table(measured / "evaluation" / "hash.csv")
    assert len(rows) == 4
    text = (measured / "evaluation" / "table.md").read_text()
    page = (measured / "report.html").read_text()
    for said in (text, page):
        assert "not compared pixel by pixel" in said
        assert "0.7767 ± 0.1870" in said
        assert "of one specimen (slide 2)" in said
    assert "index-0" in page  # the chart
    # image, virtual, given back, residual, real and the nuclei of both; of a target image the first four
    assert page.count("<img") == 7 + 4
    (folder,) = (measured / "evaluation" / "images").glob("testing_source_*")
    assert (read_slide(folder / "residual.png").pixels <= 2).all()


def test_channels_are_told_apart_by_the_stain_they_carry(tmp_path):
    rng = np.random.default_rng(0)
    amounts = rng.uniform(0.05, 0.6, (2, 40, 48))
    stains = np.stack([amounts[0], np.zeros((40, 48)), amounts[1]])
    rows = carried(mixed(stains), np.stack([amounts[1], amounts[0], np.ones((40, 48))]), ["m", "n", "even"], None)
    assert rows[0]["DAB"] > 0.99 > 0.3 > abs(rows[0]["hematoxylin"])
    assert rows[1]["hematoxylin"] > 0.99
    assert rows[2] == {"channel": "even", "hematoxylin": None, "DAB": None}
    half = np.zeros((40, 48), bool)
    half[:20] = True
    expected = np.corrcoef(amounts[1][half], densities(mixed(stains))[2][half])[0, 1]
    assert carried(mixed(stains), amounts[1:], ["m"], half)[0]["DAB"] == pytest.approx(expected)


class Channels:
    """G_XY of an IHC image: its hematoxylin and its DAB as two channels, and the way back."""

    def __init__(self, data, back: bool) -> None:
        self.source, self.target, self.back = data.source, data.target, back

    def __call__(self, pixels: np.ndarray) -> np.ndarray:
        if self.back:
            return mixed(np.stack([pixels[0] / 255, np.zeros(pixels.shape[1:]), pixels[1] / 255]))
        return np.clip(255 * densities(pixels.astype(np.uint8))[[0, 2]], 0, 255).astype(np.uint8)


def test_a_target_that_is_not_rgb_is_told_by_channel_and_not_counted(tmp_path, monkeypatch):
    rgb = slide(0.3, 1.3, side=98)[0]
    made = np.clip(255 * densities(rgb)[[0, 2]], 0, 255).astype(np.uint8)
    two = {"name": "IF", "channels": 2, "range": [0, 255], "channel_names": ["DAPI", "membrane"]}
    images = {"source/a.png": rgb, "target/a.tif": made}
    folder = dataset(tmp_path / "data", images, [{"source": "source/a.png", "target": "target/a.tif"}], target=two)
    data = load_datalist(str(folder), paired=False)
    cycle = Cycle(Channels(data, False), Channels(data, True))
    monkeypatch.setattr(unpaired_evaluation, "load_cycle", lambda *_: cycle)
    evaluate(data, "bundle", str(tmp_path), **IDS)
    tell(str(tmp_path))
    rows = table(tmp_path / "evaluation" / "channels.csv")
    assert [(row["side"], row["channel"]) for row in rows] == [
        (s, c) for s in ("source", "target") for c in two["channel_names"]
    ]
    for row in rows:
        carrier, other = ("hematoxylin", "DAB") if row["channel"] == "DAPI" else ("DAB", "hematoxylin")
        assert float(row[carrier]) > 0.95 > float(row[other])
    assert not (tmp_path / "evaluation" / "hash.csv").exists()
    assert not (tmp_path / "evaluation" / "labelling.csv").exists()
    assert (
        "IF has 2 channels: no perceptual hash and no labelling index" in (tmp_path / "evaluation/table.md").read_text()
    )
    assert "Which channel carries which stain" in (tmp_path / "report.html").read_text()


def test_blocks_divide_an_image_and_counts_add_up():
    assert division((250, 90), 100) == (2, 1)
    places = blocks((5, 4), (2, 2))
    seen = np.zeros((5, 4), int)
    for place in places:
        place.cut(seen)[...] += 1
    assert (seen == 1).all()
    assert [tuple(place) for place in places] == [(0, 0, 2, 2), (0, 2, 2, 2), (2, 0, 3, 2), (2, 2, 3, 2)]


COUNT_NAMES = ("real_positive", "real_nuclei", "virtual_positive", "virtual_nuclei")


def counted(*regions: tuple[str, tuple[int, int, int, int]]) -> list[dict]:
    return [{"specimen": specimen, **dict(zip(COUNT_NAMES, counts, strict=True))} for specimen, counts in regions]


def test_indices_of_regions_are_pooled():
    found = pooled(counted(("a", (1, 10, 2, 10)), ("a", (3, 30, 6, 30))), 0)
    assert (found["index_real"], found["index_virtual"], found["index_difference"]) == (10, 20, 10)
    assert (found["index_difference_low"], found["index_difference_high"]) == (10, 10)  # both regions say the same
    assert pooled(counted(("a", (0, 0, 0, 0))), 0)["index_difference"] is None


def test_of_several_specimens_specimens_are_drawn_again_not_their_regions():
    regions = [(1, 10, 2, 10), (3, 10, 2, 10)]  # a specimen's two regions cancel: index 20 % in both stains
    several = pooled(counted(*((name, counts) for name in "abc" for counts in regions)), 0)
    assert (several["index_difference_low"], several["index_difference_high"]) == (0, 0)
    one = pooled(counted(*(("a", counts) for counts in regions * 3)), 0)
    assert one["index_difference_low"] < 0 < one["index_difference_high"]
    assert (several["specimens"], one["specimens"], one["regions"]) == (3, 1, 6)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"eval_splits": ["tests"]}, "eval_splits has 'tests'; the splits are training, validation, testing."),
        ({"eval_splits": ["validation"]}, "there is nothing to evaluate: no image in validation."),
        ({"eval_patch": 8}, "eval_patch is 8; it must be a whole number of at least 32."),
        ({"region_um": 0}, "region_um is 0; it must be above 0."),
        ({"dab_threshold": "much"}, "dab_threshold is 'much'; it must be above 0."),
        ({"labelling_index": "yes"}, "labelling_index is 'yes'; it must be true or false."),
        ({"nucleus_um": 0.5}, r"a nucleus of 0.5 µm \(nucleus_um\) is 1.0 px across at 0.5 µm a pixel"),
        ({"hash_weights": "nowhere.pth"}, "hash_weights nowhere.pth does not exist"),
    ],
)
def test_bad_input_is_named_before_anything_is_written(sections, tmp_path, monkeypatch, change, message):
    data = load_datalist(str(sections), paired=False)
    monkeypatch.setattr(unpaired_evaluation, "load_cycle", lambda *_: Cycle(Planted(data, 0), Planted(data, 0)))
    with pytest.raises(InputError, match=message):
        evaluate(data, "bundle", str(tmp_path / "run"), **{**IDS, **change})
    assert not (tmp_path / "run").exists()


def test_a_model_of_other_data_is_refused(sections, tmp_path, monkeypatch):
    data = load_datalist(str(sections), paired=False)
    cycle = Cycle(Planted(data, 0), Planted(data, 0))
    cycle.modalities["target"] = Modality("PAS", 3, 0, 255)
    monkeypatch.setattr(unpaired_evaluation, "load_cycle", lambda *_: cycle)
    with pytest.raises(InputError, match="the model was trained on target PAS .* but the dataset has Ki-67"):
        evaluate(data, "bundle", str(tmp_path), **IDS)


@pytest.fixture(scope="module")
def trained(sections, tmp_path_factory) -> Path:
    """A tiny run of the Ki-67 method, whose validation fold is one image of each side."""
    folder = tmp_path_factory.mktemp("ki67")
    names = [f"{side}/{letter}.png" for side in ("source", "target") for letter in "ab"]
    images = {name: read_slide(sections / name).pixels[:, :90, :96] for name in names}
    images |= {name: pixels[:, ::-1] for name, pixels in images.items() if name.endswith("b.png")}  # else a part of a
    training = [
        {name.split("/")[0]: name, "specimen": f"slide {'ab'.index(name[-5])}", "fold": "ab".index(name[-5])}
        for name in names
    ]
    dataset(folder / "data", images, [{"source": "source/mirrored.png"}], training=training)
    ids = {
        **TINY,
        "epochs": 2,
        "patches_per_pair": 2,
        "fold": 0,
        "validate_every": 1,
    }
    ids |= {"train#slides#_target_": "bundle.training.cycle_scores.CycleScores", "device": "cpu"}
    configs = "['configs/train.json','configs/methods/ki67.json']"
    done = run_bundle("training", configs, dataset_dir=folder / "data", output_dir=folder / "run", **ids)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder / "run"


def test_figures_of_the_last_epoch_are_those_of_an_evaluation_of_the_run(trained, tmp_path):
    data = load_datalist(str(trained.parent / "data"), fold=0, paired=False)
    evaluate(data, str(trained / "bundle"), str(tmp_path), **{**IDS, "eval_splits": ["validation"]})
    rows = [row for row in table(trained / "validation.csv") if row["epoch"] == "2"]
    assert [row["slide"] for row in rows] == ["source/a.png", "target/a.png"]
    for row, other in zip(rows, table(tmp_path / "evaluation" / "reconstruction.csv"), strict=True):
        for name in ("ssim", "ms_ssim", "psnr", "mae"):
            assert float(row[f"{other['side']}_{name}"]) == pytest.approx(float(other[name]))
    assert not rows[0]["target_ssim"]
    best = torch.load(trained / "checkpoints" / "best_source_mae.pt", weights_only=True)
    by_epoch = [float(row["source_mae"]) for row in table(trained / "validation.csv") if row["source_mae"]]
    assert best["value"] == min(by_epoch)
    page = (trained / "report.html").read_text()
    assert "validation-source_ssim" in page
    assert "validation-target_mae" in page
    assert "configs/evaluate_unpaired.json" in page  # how to measure it


def test_the_command_evaluates_a_run(trained):
    configs = "['configs/train.json','configs/evaluate_unpaired.json','configs/methods/ki67.json']"
    done = run_bundle("evaluation", configs, dataset_dir=trained.parent / "data", output_dir=trained, device="cpu")
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"testing +H&E +1 ", done.stdout)
    assert "No entry has both sides" in done.stdout
    assert "What the cycle gives back" in (trained / "report.html").read_text()


def test_a_study_shows_what_its_cells_measured(tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    variants = json.loads((ROOT / "configs" / "studies" / "ki67.json").read_text())
    cells = plan_cells(variants, [None], [0], None, {}, UNPAIRED_EVALUATION)
    assert UNPAIRED_EVALUATION in cells[0].command("evaluation", "D", tmp_path)[6]
    study = Study(tmp_path, "D", cells, {}, variants)
    ends = {f"index_{name}{end}": 1.0 for name in ("real", "virtual") for end in ("", "_low", "_high")}
    for number, cell in enumerate(cells):
        folder = study.cell_folder(cell) / "evaluation"
        folder.mkdir(parents=True)
        about = {"variant": cell.variant, "datalist": cell.datalist, "fold": None, "seed": 0, "training": 2.0}
        (folder.parent / "done.json").write_text(json.dumps(about))
        (folder / "provenance.json").write_text('{"caveat": ""}')
        rows = "".join(f"testing,i,s,source,{ssim},0.8,20,{9 - number}\n" for ssim in (0.5, 0.7))
        (folder / "reconstruction.csv").write_text(f"split,image,specimen,side,ssim,ms_ssim,psnr,mae\n{rows}")
        rows = "".join(f"testing,i,s,0,0,{alike},0.9\n" for alike in (0.7, 0.8))
        (folder / "hash.csv").write_text(f"split,image,specimen,top,left,hash,hash_correlation\n{rows}")
        line = {"split": "testing", **ends, "index_difference": 0.0, "index_difference_low": -1.5}
        (folder / "summary.json").write_text(json.dumps({"labelling": [{**line, "index_difference_high": 2.5}]}))
    write_study(tmp_path)
    text = (tmp_path / "table.md").read_text()
    assert "| SSIM of the source given back ↑ |" in text
    assert "LPIPS" not in text
    line = next(
        line for line in text.splitlines() if line.startswith("| testing | CycleGAN + skip connection + SSIM |")
    )
    cells_of_line = [cell.strip() for cell in line.split("|")]
    assert "0.600" in cells_of_line  # the mean; all are alike, so none is bold
    assert "**6.0**" in cells_of_line  # the least error
    assert "0.7500 ± 0.0707" in cells_of_line
    assert "0.0 [-1.5, 2.5]" in cells_of_line
    assert "0.7767 ± 0.1870" in text  # the paper's
    assert "labelling index, virtual − real" in (tmp_path / "report.html").read_text()
    assert "source_mae_mean" in (tmp_path / "table.csv").read_text().splitlines()[0]
    assert "bundle.evaluation.unpaired.evaluation.evaluate" in CHECKS
    with pytest.raises(InputError, match="holds a study with other evaluation_config"):
        Study(tmp_path, "D", plan_cells(variants, [None], [0], None, {}), {}, variants)
    with pytest.raises(InputError, match="evaluation_config nowhere.json does not exist; there are configs/evaluate"):
        plan_cells(variants, [None], [0], None, {}, "nowhere.json")


def test_two_workers_measure_what_one_process_does(trained, sections, tmp_path):
    data, weights = load_datalist(str(sections), paired=False), planted_hash(tmp_path / "hash.pth")
    ids = {**IDS, "hash_weights": weights}
    found = []
    for name, workers in (("alone", 1), ("shared", 2)):
        evaluate(data, str(trained / "bundle"), str(tmp_path / name), **ids, engine=Engine(workers=workers))
        files = files_of(tmp_path / name / "evaluation")
        found.append({path: content for path, content in files.items() if path != "provenance.json"})
        assert not (tmp_path / name / ".evaluation").exists()
    assert {"reconstruction.csv", "hash.csv", "labelling.csv", "summary.json", "table.md"} <= set(found[0])
    assert found[0] == found[1]
