"""The report: what a reader is shown is what the run's files hold, and nothing else is needed to read it."""

from __future__ import annotations

import base64
import csv
import html
import io
import json
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from markupsafe import escape
from PIL import Image
from torch.utils.tensorboard import SummaryWriter

from bundle.common.charts import POINTS, smoothed
from bundle.common.errors import InputError
from bundle.common.html import RESEARCH
from bundle.common.region import Region
from bundle.data.load import load_datalist
from bundle.evaluation.paired import evaluate
from bundle.evaluation.panels import BINS, best_region, difference, draw_corners, histograms, patches_to_keep, profile
from bundle.evaluation.tables import METRICS, ROWS, SUMMARY_COLUMNS, summarise, write_csv
from bundle.evaluation.truth import MEASURES
from bundle.images.slides import read_slide
from bundle.report.records import read_losses
from bundle.report.run import remake, tell, write
from tests.conftest import TINY, make_dataset, run_bundle

VOID = {"meta", "img", "br", "link", "input", "hr"}
FLAGS = "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
FLAGS += "--disable-component-update --disable-sync"


class Page(HTMLParser):
    """Every element of a page; fails where one is not closed in the order it was opened."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.cells: list[tuple[str, str]] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)
        if tag in ("td", "th"):
            self.cells.append((tag, ""))

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if {"td", "th"} & set(self.open):
            self.cells[-1] = (self.cells[-1][0], self.cells[-1][1] + data)

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


def written(folder: Path) -> str:
    return write(folder).read_text(encoding="utf-8")


def words(text: str) -> str:
    """What a reader sees of a page."""
    return html.unescape(
        re.sub(r"\s+", " ", re.sub(r"<[^>]*>", "", re.sub(r"<style>.*?</style>", "", text, flags=re.S)))
    )


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def write_rows(path: Path, rows: list[dict]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


@pytest.fixture(scope="module")
def measured_once(trained, tmp_path_factory) -> Path:
    """A finished run, measured without LPIPS."""
    folder = tmp_path_factory.mktemp("measured") / "run"
    shutil.copytree(trained, folder, ignore=shutil.ignore_patterns("checkpoints", "evaluation", "report.html"))
    data = load_datalist(str(trained.parent / "data"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TORCH_HOME", str(folder.parent))
        evaluate(data, str(folder / "bundle"), str(folder), "cpu", 32, 16, 0.5, ["training", "testing"], None)
        tell(str(folder))
    return folder


@pytest.fixture
def measured(measured_once, tmp_path) -> Path:
    """A copy of it to change."""
    return shutil.copytree(measured_once, tmp_path / "run")


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


def table_of(text: str) -> dict[str, dict[str, list[str]]]:
    """The table of results: by split and row, the cells."""
    table: dict[str, dict[str, list[str]]] = {}
    for kind, cell in Page(text[text.index("<table>") : text.index("</table>") + 8]).cells:
        if kind == "th" and (split := re.match(r"(\w+): ", cell)):
            lines = table.setdefault(split[1], {})
        elif kind == "th" and cell in ROWS:
            line = lines.setdefault(cell, [])
        elif kind == "td":
            line.append(cell)
    return table


def with_lpips(folder: Path) -> list[dict[str, str]]:
    """Give every patch an LPIPS and make the summary anew."""
    patches = rows_of(folder / "evaluation" / "patches.csv")
    for number, patch in enumerate(patches):
        patch["lpips"] = str((7 * number) % 11 / 20)
    write_rows(folder / "evaluation" / "patches.csv", patches)
    known = lambda text: None if text == "not computed" else float(text)
    numbers = [{**patch, **{metric: known(patch[metric]) for metric in METRICS}} for patch in patches]
    write_csv(folder / "evaluation" / "summary.csv", SUMMARY_COLUMNS, summarise(numbers))
    return patches


def test_the_table_holds_the_medians_of_the_patches(measured):
    patches = with_lpips(measured)
    table = table_of(written(measured))
    assert list(table) == ["testing", "training"]
    for split, lines in table.items():
        assert list(lines) == list(ROWS)
        for row, cells in lines.items():
            for metric, cell, digits in zip(METRICS, cells, (2, 2, 2, 2, 1), strict=True):
                values = [float(p[metric]) for p in patches if (p["split"], p["row"]) == (split, row)]
                expected = [f"{np.percentile(values, share):.{digits}f}" for share in (50, 25, 75)]
                assert re.findall(r"-?[\d.]+", cell.replace("−", "-")) == expected


def test_the_best_of_each_split_and_measure_is_bold(measured):
    with_lpips(measured)
    text = written(measured)
    for split, lines in table_of(text).items():
        block = text[text.index(f">{split}: ") :].split("</tbody>")[0]
        for place, metric in enumerate(METRICS):
            medians = {row: float(cells[place].split()[0].replace("−", "-")) for row, cells in lines.items()}
            away = {"lpips": abs, "detail": lambda value: abs(np.log(max(value, 1e-9)))}
            best = min(medians.values(), key=away.get(metric, np.negative))
            for row, median in medians.items():
                cell = re.findall(r"<td[^>]*>(.*?)</td>", block.split(f">{row}</th>")[1].split("</tr>")[0])[place]
                assert cell.startswith("<b>") == (median == best), (split, row, metric)


def test_without_lpips_the_table_and_the_chart_say_so(measured_once):
    text = written(measured_once)
    assert all(cells[4] == "not computed" for lines in table_of(text).values() for cells in lines.values())
    assert "LPIPS not computed: no SqueezeNet weights." in words(text)
    assert text.count('id="box-') > 0
    assert 'id="box-lpips' not in text
    assert text.index(">detail (1 = as real)</th>") < text.index("gradient correlation ↑") < text.index("SSIM ↑")


def test_the_page_of_an_older_run_says_what_was_not_computed(measured):
    new = ("detail", "gradient_correlation", "lacunae", "new_bone")
    for path in (measured / "evaluation").glob("*.csv"):
        rows = rows_of(path)
        write_rows(path, [{key: value for key, value in row.items() if not key.startswith(new)} for row in rows])
    lines = table_of(written(measured))["testing"].values()
    assert all(len(cells) == 5 and cells[2:] == ["not computed"] * 3 for cells in lines)  # nor was LPIPS
    assert not any("not computed" in cells[:2] for cells in lines)


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


def test_patches_are_drawn_by_a_fixed_seed():
    corners = [(top, left) for top in range(0, 90, 10) for left in range(0, 90, 10)]
    drawn = draw_corners(corners, 3)
    assert drawn == draw_corners(corners, 3)
    assert len(set(drawn)) == 3
    assert set(drawn) <= set(corners)
    assert draw_corners(corners[:2], 3) == corners[:2]
    assert draw_corners(corners, 0) == draw_corners([], 3) == []


def test_a_run_that_is_not_measured_says_how(measured):
    shutil.rmtree(measured / "evaluation")
    text = words(written(measured))
    assert "Not measured yet" in text
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
    for line in ("no provenance.json", "Not measured yet", "No loss curves", "No sample pictures", "no date recorded"):
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


def test_a_split_without_a_scored_patch_says_so(measured):
    for name in ("summary", "patches"):
        path = measured / "evaluation" / f"{name}.csv"
        write_rows(path, [row for row in rows_of(path) if row["split"] != "testing"])
    assert "(1 slide, no patch has enough of its pixels in the mask)" in written(measured)


def test_four_slides_of_a_split_are_shown_and_the_others_counted(measured):
    path = measured / "evaluation" / "slides.csv"
    rows = rows_of(path)
    more = [{**row, "slide": f"testing_{number}"} for number in range(5) for row in rows if row["split"] == "testing"]
    write_rows(path, [*rows, *more])
    text = words(written(measured))
    assert text.count("Test slide: ") == 4
    assert "Not shown: 2 more test slides." in text


def test_the_truth_is_shown_as_medians_over_slides_if_it_is_there(measured):
    path = measured / "evaluation" / "truth.csv"
    path.unlink()
    assert "Is the stain right" not in written(measured)
    values = {"one": "0.25", "two": "0.5", "three": "not computed", "four": "0.375"}
    rest = {name: "not computed" for name in MEASURES if name != "lacunae_recall"}
    rows = [
        {"split": "testing", "slide": slide, "row": "network", "lacunae_recall": value, **rest}
        for slide, value in values.items()
    ]
    write_rows(path, rows)
    text = words(written(measured))
    assert re.search(r"lacunae recall ↑\s*testing: slides that training never saw\s*network\s*0\.38", text)
    assert "new bone recall" not in text  # nothing of it was measured


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


def test_a_resumed_run_ends_with_all_its_steps_and_says_when(trained, tmp_path):
    folder = shutil.copytree(trained, tmp_path / "run", ignore=shutil.ignore_patterns("evaluation", "report.html"))
    configs = "['configs/train.json','configs/profiles/demo.json']"
    ids = {**TINY, "epochs": 3, "resume": "true", "dataset_dir": trained.parent / "data", "output_dir": folder}
    done = run_bundle("training", configs, **ids)
    assert done.returncode == 0, done.stdout + done.stderr
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert page.count("<dt>resumed</dt>") == 1
    text = words(page)
    assert "12 steps are recorded" in text
    assert "Training patches after epoch 3 of 3" in text
    (resumed,) = json.loads((folder / "provenance.json").read_text())["resumed"]
    assert f"config {resumed['config_sha256']}" in text
    assert "--epochs 3 --pool_size" in text  # the command of the second part
    assert "<dt>arithmetic</dt><dd>fp32</dd>" in page
    assert "<dt>ended</dt><dd>by itself</dd>" in page


def test_a_step_that_was_repeated_counts_once(tmp_path):
    for values in ((5.0, 4.0, 3.0), (2.0, 1.0)):
        with SummaryWriter(str(tmp_path)) as writer:
            for value in values:
                writer.add_scalar("loss", value, 10 + (5 if value > 2 else 3) - int(value))
    steps, values = read_losses(tmp_path)["loss"]
    assert steps.tolist() == [10, 11, 12]
    assert values.tolist() == [5, 2, 1]
    assert read_losses(tmp_path / "nowhere") == {}


def test_validation_during_the_run_is_drawn_with_its_best_epoch(tmp_path):
    values = {25: (0.5, 0.7), 50: (0.7, 0.8), 60: (0.9, 0.5)}
    rows = [
        {"epoch": epoch, "slide": f"<{number}>", "ssim": value, "psnr": 20 - epoch / 10 + number, "lpips": None}
        for epoch, pair in values.items()
        for number, value in enumerate(pair)
    ]
    write_csv(tmp_path / "validation.csv", ("epoch", "slide", *METRICS), rows)
    text = written(tmp_path)
    page = Page(text)
    assert "Best after epoch 50 (circle): 0.75. Grey: each slide." in words(text)
    assert "Best after epoch 25 (circle): 18. Grey: each slide." in words(text)
    labels = [attributes["aria-label"] for attributes in page.all("svg")]
    assert labels == [
        f"{heading} of the validation slides over the epochs; best after epoch {best}."
        for heading, best in (("SSIM ↑", 50), ("PSNR ↑ (dB)", 25))
    ]


def test_curves_are_smoothed_by_means_of_windows():
    assert smoothed(np.array([[1, 2, 3], [5.0, 7.0, 6.0]])).tolist() == [[1, 2, 3], [5, 7, 6]]
    long = np.stack([np.arange(1, 2 * POINTS), np.arange(1, 2 * POINTS)]).astype(float)  # one short of two a window
    steps, values = smoothed(long)
    assert len(steps) == POINTS
    assert (steps[0], values[0], steps[-1], values[-1]) == (2, 1.5, 2 * POINTS - 1, 2 * POINTS - 1)


def test_the_region_holds_most_of_the_mask():
    mask = np.zeros((40, 60), bool)
    mask[5:15, 38:48] = True
    mask[30, 3] = True
    region = best_region(mask, 10)
    assert region == (5, 38, 10, 10)
    assert region.cut(mask).all()


def test_the_region_is_the_nearest_to_the_centre_among_equals():
    assert best_region(np.ones((41, 61), bool), 11) == (15, 25, 11, 11)
    corners = np.zeros((30, 30), bool)
    corners[0, 0] = corners[29, 29] = True
    assert best_region(corners, 29) == (0, 0, 29, 29)  # both as near: the first


def test_a_small_slide_is_its_own_region():
    assert best_region(np.ones((20, 64), bool), 32) == (0, 16, 20, 32)
    assert best_region(np.eye(8, dtype=bool), 256) == (0, 0, 8, 8)


def test_histograms_profile_and_difference_by_hand():
    image = np.array([[[0, 7, 8], [255, 255, 16]]], np.uint8).repeat(3, axis=0)
    inside = np.array([[True, True, True], [False, True, False]])
    shares = histograms(image, inside)
    assert shares.shape == (3, BINS)
    assert shares[0, [0, 1, 2, BINS - 1]].tolist() == [0.5, 0.25, 0, 0.25]
    np.testing.assert_array_equal(profile(image, 1, inside), [[np.nan, 255, np.nan]] * 3)
    assert profile(image, 0, inside)[2].tolist() == [0, 7, 8]
    other = image.copy()
    other[0] = 255 - image[0]
    assert difference(image, other).tolist() == [[[85, 80, 80], [85, 85, 74]]]


@pytest.fixture(scope="module")
def chromium() -> str:
    found = shutil.which("chromium")
    if not found:
        pytest.skip("chromium is not installed, so the page was not laid out")
    return found


def browse(program: str, folder: Path, *options: str) -> str:
    command = [program, *FLAGS.split(), f"--user-data-dir={folder / 'profile'}", *options]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout


FRAME = """<!DOCTYPE html><iframe id="frame" style="border:0;width:{width}px;height:40000px"></iframe><script>
const frame = document.getElementById("frame");
frame.onload = () => {{ document.title = frame.contentDocument.documentElement.scrollWidth; }};
frame.srcdoc = {page};
</script>"""


@pytest.mark.parametrize("width", [390, 1200])
def test_nothing_is_wider_than_the_screen(measured, chromium, tmp_path, width):
    text = written(measured)
    wide = text.replace("<body>", '<body><div style="width:1500px">.</div>')
    found = []
    for page in (text, wide):  # the second shows that the first would be noticed
        (tmp_path / "frame.html").write_text(FRAME.format(width=width, page=json.dumps(page)), encoding="utf-8")
        address = (tmp_path / "frame.html").as_uri()
        shown = browse(chromium, tmp_path, "--virtual-time-budget=10000", "--dump-dom", address)
        found.append(int(re.search(r"<title>(\d+)</title>", shown)[1]))
    assert found[0] == width
    assert found[1] >= 1500


def test_the_page_prints(measured, chromium, tmp_path):
    page, paper = write(measured), tmp_path / "report.pdf"
    browse(chromium, tmp_path, "--no-pdf-header-footer", f"--print-to-pdf={paper}", page.as_uri())
    content = paper.read_bytes()
    assert content.startswith(b"%PDF")
    sizes = set(re.findall(rb"/MediaBox\s*\[([^\]]*)\]", content))
    assert {tuple(round(float(side)) for side in size.split()) for size in sizes} == {(0, 0, 595, 842)}
    assert len(re.findall(rb"/Type\s*/Page\b", content)) >= 4


@pytest.mark.parametrize(("slides", "kept"), [(0, []), (1, [3]), (2, [1, 2]), (3, [1, 1, 1]), (5, [1, 0, 1, 0, 1])])
def test_the_patches_shown_are_spread_over_the_slides(slides, kept):
    assert sorted(patches_to_keep(slides)) == sorted(kept)
    assert patches_to_keep(slides)[::2] == kept[::2] or slides == 2


def test_a_folder_without_a_run_gets_no_report(tmp_path):
    with pytest.raises(InputError, match="holds no run"):
        remake(str(tmp_path / "RUM"))
    assert not (tmp_path / "RUM").exists()


def test_a_report_is_made_again_by_its_command(measured):
    (measured / "report.html").unlink()
    assert remake(str(measured)) == str(measured / "report.html")
    assert "Research only" in (measured / "report.html").read_text(encoding="utf-8")
