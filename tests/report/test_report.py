"""The report: what a reader is shown is what the run's files hold, and nothing else is needed to read it."""

from __future__ import annotations

import base64
import io
import json
import re
import shutil

import numpy as np
import pytest
from markupsafe import escape
from PIL import Image

from bundle.common.errors import InputError
from bundle.common.html import RESEARCH
from bundle.common.region import Region
from bundle.data.load import load_datalist
from bundle.evaluation.paired import evaluate
from bundle.images.slides import read_slide
from bundle.report.run import remake, tell
from tests.conftest import make_dataset
from tests.helpers.pages import Page, words
from tests.helpers.report import rows_of, write_rows, written


def test_evaluation_ends_with_the_report(measured_once):
    text = (measured_once / "report.html").read_text(encoding="utf-8")
    assert text == written(measured_once)  # the same folder gives the same page
    assert RESEARCH in text
    assert "toluidine blue from µCT" in text


def test_the_page_is_well_formed_and_needs_nothing_else(measured_once):
    text = written(measured_once)
    page = Page(text)
    assert page.all("script") == page.all("link") == page.all("iframe") == []
    images = page.all("img")
    assert len(images) > 30
    for image in images:
        assert image["alt"]
        kind, data = image["src"].split(",", 1)
        assert kind == "data:image/webp;base64"
        with Image.open(io.BytesIO(base64.b64decode(data))) as picture:
            assert picture.size == (int(image["width"]), int(image["height"]))
    for tag, attributes in page.elements:
        for name in ("src", "href", "xlink:href", "srcset", "data", "action"):
            value = attributes.get(name)
            assert value is None or value.startswith("#" if tag != "img" else "data:"), (tag, name, value)
    assert not re.search(r"https?://|@import", text)
    assert all(target.startswith("#") for target in re.findall(r"url\(([^)]*)\)", text))


def test_ids_are_unique_and_what_refers_to_them_finds_them(measured_once):
    text = written(measured_once)
    ids = [attributes["id"] for _, attributes in Page(text).elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    assert set(re.findall(r'(?:url\(|href=")#([^")]*)', text)) <= set(ids)


def test_slides_come_test_first_with_all_their_panels(measured_once):
    text = words(written(measured_once))
    assert text.index("Test slide: testing_002_02") < text.index("Training slide: training_000_00")
    for caption in (
        "source: µCT, 72 × 64 px",
        "generated toluidine blue",
        "real toluidine blue",
        "generated, unmasked",
    ):
        assert text.count(caption) >= 3
    assert "the whole slide" in text
    assert "distance along the line (µm)" in text


def test_panels_are_what_was_compared(measured_once, trained):
    folder = measured_once / "evaluation" / "slides" / "testing_002_02"
    panel = {path.stem: read_slide(path) for path in folder.glob("*.png")}
    mask = panel["mask"].pixels[0] == 255
    assert mask.sum() == 36 * 44
    assert panel["source"].pixel_um == pytest.approx(5, rel=1e-3)
    real = read_slide(trained.parent / "data" / "target" / "02.png").pixels
    assert np.array_equal(panel["real"].pixels[:, mask], real[:, mask])
    assert np.array_equal(panel["generated"].pixels[:, mask], panel["unmasked"].pixels[:, mask])
    outside = [panel[name].pixels[:, ~mask] for name in ("generated", "real", "colour_table")]
    assert all((values == outside[0][:, :1]).all() for values in outside)
    distance = np.abs(panel["generated"].pixels.astype(int) - panel["real"].pixels).mean(0)
    assert np.abs(panel["difference"].pixels[0] - distance).max() <= 0.5


def test_patches_are_scored_ones_in_both_directions(measured_once):
    slide = measured_once / "evaluation" / "slides" / "testing_002_02"
    folders = sorted(slide.glob("patch_*"))
    assert len(folders) == 3
    scored = {(row["top"], row["left"]) for row in rows_of(measured_once / "evaluation" / "patches.csv")}
    whole = read_slide(slide / "unmasked.png").pixels
    for folder in folders:
        _, top, left = folder.name.split("_")
        assert (top, left) in scored
        place = Region(int(top), int(left), 32, 32)
        assert np.array_equal(read_slide(folder / "generated.png").pixels, place.cut(whole))
        assert read_slide(folder / "generated_source.png").pixels.shape == (1, 32, 32)
    assert len(list(measured_once.glob("evaluation/slides/training_*/patch_*"))) == 3


def test_a_run_that_is_not_measured_says_how(measured):
    shutil.rmtree(measured / "evaluation")
    text = words(written(measured))
    assert "Not evaluated yet: nothing here says how good the stain is." in text
    assert text.index("Not evaluated yet") < text.index("steps are recorded")
    assert "run evaluation --config_file \"['configs/train.json','configs/evaluate.json']\"" in text
    assert f"--output_dir {measured}" in text
    assert "8 steps are recorded" in text
    assert "Training patches after epoch 2 of 2" in text
    assert "code" in text
    assert "5 µm" in text
    Page(written(measured))


def test_the_command_that_measures_a_fold_names_it(measured):
    shutil.rmtree(measured / "evaluation")
    config = json.loads((measured / "config.json").read_text())
    (measured / "config.json").write_text(json.dumps({**config, "fold": 1, "datalist": "other.json"}))
    assert "--datalist other.json --fold 1" in words(written(measured))


def test_an_empty_folder_is_reported_as_empty(tmp_path):
    text = written(tmp_path)
    Page(text)
    for line in ("no provenance.json", "Not evaluated yet", "No loss curves", "No sample pictures", "no date recorded"):
        assert line in text


def test_a_copied_bundle_measured_elsewhere(measured_once, tmp_path):
    shutil.copytree(measured_once / "evaluation", tmp_path / "evaluation")
    text = words(written(tmp_path))
    for line in ("the model was trained elsewhere", "No loss curves", "No sample pictures", "toluidine blue from µCT"):
        assert line in text
    assert "Test slide: testing_002_02" in text
    assert "What is not named here" not in text


def test_a_bundle_without_reverse_generator_leaves_that_column_out(trained, tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    shutil.copytree(trained / "bundle", tmp_path / "bundle")
    (tmp_path / "bundle" / "reverse.pt").unlink()
    data = load_datalist(str(trained.parent / "data"))
    evaluate(data, str(tmp_path / "bundle"), str(tmp_path / "run"), "cpu", 32, 16, 0.5, ["testing"], None)
    tell(str(tmp_path / "run"))
    text = words((tmp_path / "run" / "report.html").read_text(encoding="utf-8"))
    assert "no reverse generator (reverse.pt)" in text
    assert "→ generated toluidine blue" in text
    assert text.count("→ generated µCT") == 1  # in the sentence that explains the order


@pytest.mark.parametrize(
    ("gone", "line"),
    [
        ("evaluation/slides/testing_002_02", "Panels not shown:"),
        ("evaluation/slides/testing_002_02/real.png", "real.png does not exist. Evaluate again"),
        ("evaluation/slides", "no patches were kept"),
        ("evaluation/provenance.json", "measured by an earlier version"),
        ("tensorboard", "No loss curves"),
        ("samples", "No sample pictures"),
        ("provenance.json", "the model was trained elsewhere"),
    ],
)
def test_what_is_missing_is_named(measured, gone, line):
    path = measured / gone
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    text = written(measured)
    Page(text)
    assert line in words(text)


def test_figures_of_another_model_are_marked(measured):
    line = "The model has changed since it was measured"
    assert line not in written(measured)
    with (measured / "bundle" / "models" / "model.pt").open("ab") as file:
        file.write(b" ")
    assert line in written(measured)


def test_four_slides_of_a_split_are_shown_and_the_others_counted(measured):
    path = measured / "evaluation" / "slides.csv"
    rows = rows_of(path)
    more = [{**row, "slide": f"testing_{number}"} for number in range(5) for row in rows if row["split"] == "testing"]
    write_rows(path, [*rows, *more])
    text = words(written(measured))
    assert text.count("Test slide: ") == 4
    assert "Not shown: 2 more test slides." in text


def test_the_caveat_stands_on_the_page(trained, tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    data = load_datalist(str(make_dataset(tmp_path / "data", allow_same_specimen=True)))
    evaluate(data, str(trained / "bundle"), str(tmp_path / "run"), "cpu", 32, 16, 0.5, ["testing"], None)
    tell(str(tmp_path / "run"))
    assert data.caveat in words((tmp_path / "run" / "report.html").read_text(encoding="utf-8"))
    folder = tmp_path / "alone"
    folder.mkdir()
    (folder / "provenance.json").write_text('{"allow_same_specimen": true}')
    assert "allows one specimen in more than one split" in written(folder)


def test_hostile_names_are_escaped(measured):
    nasty = '<script>alert("1")</script><b>&'
    for name in ("provenance.json", "evaluation/provenance.json"):
        content = json.loads((measured / name).read_text())
        content |= {
            "dataset_dir": f"/data/{nasty}",
            "machine": nasty,
            "source": nasty,
            "target": nasty,
            "caveat": nasty,
        }
        content |= {"command": ["python", nasty], "code": nasty, "versions": {nasty: nasty}, "config_sha256": nasty}
        content["resumed"] = [
            {"started": content["started"], "code": nasty, "config_sha256": nasty, "command": [nasty]}
        ]
        content["arithmetic"] = {"chosen": nasty, "seconds": {nasty: 1.0}}
        (measured / name).write_text(json.dumps(content))
    config = json.loads((measured / "config.json").read_text())
    (measured / "config.json").write_text(json.dumps({**config, "epochs": nasty, "lambda_adv": nasty}))
    path = measured / "evaluation" / "slides.csv"
    rows = rows_of(path)
    missing = [{**row, "slide": f"no{nasty}".replace("/", "")} for row in rows if row["split"] == "training"]
    write_rows(path, [{**row, "specimen": nasty} for row in [*rows, *missing]])
    text = written(measured)
    page = Page(text)
    assert page.all("script") == []
    assert "<b>&" not in text
    assert text.count(escape(nasty)) >= 12


def test_a_folder_without_a_run_gets_no_report(tmp_path):
    with pytest.raises(InputError, match="holds no run"):
        remake(str(tmp_path / "RUM"))
    assert not (tmp_path / "RUM").exists()


def test_a_report_is_made_again_by_its_command(measured):
    (measured / "report.html").unlink()
    assert remake(str(measured)) == str(measured / "report.html")
    assert "Research only" in (measured / "report.html").read_text(encoding="utf-8")
