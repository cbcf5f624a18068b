"""Two slides onto one grid: planted transforms recovered, what cannot be registered refused, and a dataset of it."""

import csv
import json
import sys
from dataclasses import dataclass
from pathlib import Path

import itk
import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from bundle.common.errors import InputError
from bundle.images.slides import read_slide, write_slide
from bundle.preparation.pairs.dataset import prepare
from bundle.preparation.registration.forms import is_of_slides
from bundle.preparation.registration.two_slides.models import compared
from bundle.preparation.registration.two_slides.placing import Placing
from bundle.preparation.registration.two_slides.run import MARKS, PAGE, RESULT, register_slides
from tests.conftest import ROOT, TINY
from tests.helpers.forked import run_module
from tests.helpers.two_slides import errors_px, laid, restained, tissue, write_two

SHIFT = (14.0, -9.0)


@dataclass(frozen=True)
class Case:
    folder: Path
    facts: dict
    planted: np.ndarray
    source: np.ndarray
    said: str

    def errors(self):
        return errors_px(np.array(self.facts["matrix"]), self.planted, self.source.shape[1:])


def registered(folder, source, target, planted, **options):
    said = register_slides(**write_two(folder, source, target), output=str(folder / "pairs" / "one"), **options)
    return Case(folder, json.loads((folder / "pairs" / "one" / RESULT).read_text()), planted, source, said)


@pytest.fixture(scope="module")
def case(tmp_path_factory):
    """Another stain of the tissue, turned by 137° and 3 % larger."""
    source = tissue()
    target, planted = laid(restained(source), 137, SHIFT, scale=1.03)
    return registered(tmp_path_factory.mktemp("two"), source, target, planted)


def test_another_stain_turned_by_137_degrees_is_found_without_a_guess(case):
    assert np.median(case.errors()) < 1
    assert case.errors().max() < 2
    assert case.facts["accepted"]
    assert not case.facts["mirrored"]
    assert case.said.startswith("accepted")


def test_the_pair_lies_on_one_grid(case):
    folder = case.folder / "pairs" / "one"
    source, target = (read_slide(folder / name) for name in ("source.tif", "target.png"))
    field = read_slide(folder / "field.png").pixels[0] > 0
    top, left = case.facts["pair"]["first"]
    rows, columns = field.shape
    np.testing.assert_array_equal(source.pixels, case.source[:, top : top + rows, left : left + columns])
    expected = restained(case.source)[:, top : top + rows, left : left + columns].astype(float)
    off = np.abs(gaussian_filter(target.pixels - expected, (0, 1, 1)))[:, field]
    shifted = np.abs(gaussian_filter(np.roll(target.pixels, 3, 2) - expected, (0, 1, 1)))[:, field]
    assert off.mean() < 0.5 * shifted.mean()


def test_its_transforms_are_itks(case):
    """A pixel of the pair, by ITK, on both slides; against the planted matrix."""
    folder = case.folder / "pairs" / "one"
    pixel = np.array([60.0, 85.0])
    on_source, on_target = (
        np.array(itk.transformread(str(folder / name))[0].TransformPoint([*(pixel[::-1] * 0.002), 0.0]))[1::-1] / 0.002
        for name in ("source.tfm", "target.tfm")
    )
    np.testing.assert_allclose(on_source, pixel + case.facts["pair"]["first"], atol=1e-6)
    assert np.hypot(*(case.planted @ [*on_source, 1] - on_target)) < 1.5


def test_the_page_shows_it(case):
    page = (case.folder / "pairs" / "one" / PAGE).read_text()
    for words in (
        "Two slides: one",
        "Accepted, confidence",
        "checkerboard",
        "edges: source red",
        "held-out",
        "similarity",
    ):
        assert words in page
    assert page.count("data:image/") >= 6


def test_the_same_again_is_known_and_another_is_refused(case):
    paths = {name: str(case.folder / f"{name}.tif") for name in ("source", "target")}
    output = str(case.folder / "pairs" / "one")
    assert "already" in register_slides(**paths, output=output)
    with pytest.raises(InputError, match="holds another registration"):
        register_slides(**paths, output=output, seed=1)


def test_a_torn_off_piece_that_lies_face_down_finds_its_place(tmp_path):
    source = tissue()
    piece = restained(source)[:, :, :140]
    target, planted = laid(piece, -70, (5.0, 8.0), mirrored=True)
    found = registered(tmp_path, source, target, planted)
    errors = found.errors().reshape(source.shape[1:])[:, :140]
    assert np.median(errors) < 2
    assert found.facts["mirrored"]


def test_slides_of_two_magnifications_meet_at_the_coarser(tmp_path):
    source = tissue()
    fine = np.repeat(np.repeat(restained(source), 2, 1), 2, 2)
    paths = write_two(tmp_path, source, fine, (2.0, 1.0))
    register_slides(**paths, output=str(tmp_path / "one"))
    facts = json.loads((tmp_path / "one" / RESULT).read_text())
    assert facts["pixel_um"] == 2
    assert errors_px(np.array(facts["matrix"]), np.eye(3)[:2], source.shape[1:]).max() < 1


def test_landmarks_overrule(tmp_path):
    """Landmarks that say the files lie right already; in pixels of each slide."""
    source = tissue()
    target, planted = laid(restained(source), 5, (0, 0))
    places = np.array([[60, 60], [60, 180], [180, 60], [150, 170], [120, 120]])
    for name, points in (("source", places), ("target", places)):
        with (tmp_path / f"{name}.csv").open("w", newline="") as file:
            csv.writer(file).writerows([("row", "column"), *points.tolist()])
    marks = {f"{name}_landmarks": str(tmp_path / f"{name}.csv") for name in ("source", "target")}
    found = registered(tmp_path, source, target, planted, **marks)
    assert found.facts["model"] == "as the files lie"
    assert found.facts["landmarks"]["as the files lie"]["median_um"] == 0
    away = np.hypot(*(places @ planted[:, :2].T + planted[:, 2] - places).T) * 2  # µm
    assert found.facts["landmarks"]["affine"]["median_um"] == pytest.approx(np.median(away), abs=4)
    assert len((tmp_path / "pairs" / "one" / MARKS).read_text().splitlines()) == 6


def test_a_gain_counts_only_if_it_is_sure():
    before = dict.fromkeys(range(8), 1.0)
    gain, error = compared(before, {number: 1.1 + 0.01 * number for number in range(8)})
    assert gain == pytest.approx(0.135)
    assert error == pytest.approx(0.01 * np.arange(8).std(ddof=1) / np.sqrt(8))
    assert compared({0: 1.0}, {0: 2.0}) == (0, np.inf)


def test_a_placing_holds_at_every_pixel_size():
    """The middle of a pixel of 4 µm is the corner between four of 2 µm."""
    placing = Placing.of_pixels(np.array([[0.0, -1.0, 30.0], [1.0, 0.0, 5.0]]), 2.0)
    fine, coarse = placing.in_pixels(2.0), placing.in_pixels(4.0)
    np.testing.assert_allclose(fine @ [10.5, 4.5, 1], (coarse @ [5, 2, 1]) * 2 + 0.5)


@pytest.fixture(scope="module")
def slides(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bad")
    paths = write_two(folder, tissue(), laid(restained(tissue()), 20, SHIFT)[0])
    write_slide(folder / "none.png", tissue())
    write_slide(folder / "again.png", tissue(), 2.0)
    write_slide(folder / "small.png", tissue()[:, :40], 2.0)
    glass = np.full((3, 200, 200), 240) + np.random.default_rng(0).integers(-4, 5, (3, 200, 200))
    write_slide(folder / "glass.png", glass.astype(np.uint8), 2.0)
    write_slide(folder / "wide.png", np.full((1, 20, 90), 255, np.uint8))
    (folder / "three.csv").write_text("row,column\n1,1\n2,2\n3,1\n")
    (folder / "off.csv").write_text("row,column\n1,1\n2,2\n3,900\n4,4\n")
    (folder / "full").mkdir()
    (folder / "full" / "notes.txt").touch()
    return {**paths, "folder": folder}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"source": "none.png"}, r"source .*none.png states no pixel size; .* --source_pixel_um"),
        ({"target": "glass.png"}, "target .*glass.png is blank"),
        ({"target": "source.tif"}, "same file"),
        ({"target": "again.png"}, "hold the same pixels"),
        ({"target": "small.png"}, "only 40×240 px of 2 µm"),
        ({"pixel_um": 1.0}, "finer than the source's pixels of 2 µm"),
        ({"pixel_um": -1}, "pixel_um is -1"),
        ({"seed": -1}, "seed is -1"),
        ({"source_mask": "wide.png"}, "another shape"),
        ({"source_landmarks": "three.csv"}, "give --source_landmarks and --target_landmarks"),
        ({"source_landmarks": "three.csv", "target_landmarks": "three.csv"}, "4 are the least"),
        ({"source_landmarks": "off.csv", "target_landmarks": "off.csv"}, "has landmarks off"),
        ({"output": "full"}, "is there and is no registration"),
    ],
)
def test_what_makes_no_sense_is_refused_in_one_line(slides, tmp_path, changes, words):
    folder = slides["folder"]
    paths = {name: str(folder / value) for name, value in changes.items() if isinstance(value, str)}
    options = {"source": slides["source"], "target": slides["target"], "output": str(tmp_path / "pair")}
    with pytest.raises(InputError, match=words) as error:
        register_slides(**{**options, **changes, **paths})
    assert "\n" not in str(error.value)
    assert not (tmp_path / "pair").exists()


@pytest.mark.parametrize("there", [None, object()])
def test_without_its_engine_it_says_how_to_get_it(there, monkeypatch, slides, tmp_path):
    monkeypatch.setitem(sys.modules, "itk", there)
    with pytest.raises(InputError, match=r"pip install 'virtual-staining\[elastix\]'"):
        register_slides(slides["source"], slides["target"], str(tmp_path / "pair"))


def test_the_command_tells_its_two_forms_apart():
    assert is_of_slides(["--source", "a", "--target=b"])
    assert not is_of_slides(["--volume", "a", "--section=b", "--pixel_um", "2"])
    for words, said in (
        (["--volume", "a", "--target", "b"], "give one of the two"),
        (["--source", "a"], "--target is missing"),
        (["--source", "a", "--target", "b", "--refine", "true"], "--refine belongs to a section in a scan"),
    ):
        with pytest.raises(InputError, match=said):
            is_of_slides(words)


def test_prepared_it_is_a_dataset_that_trains(case, tmp_path):
    pairs = case.folder / "pairs"
    said = prepare(str(pairs), str(tmp_path / "data"), target_name="brown")
    assert said.startswith("1 pairs")
    stated = json.loads((tmp_path / "data" / "datalist.json").read_text())
    assert stated["source"] == {"name": "source stain", "channels": 3, "range": [0, 255]}
    assert stated["target"] == {"name": "brown", "channels": 3, "range": [0, 255]}
    for name, file in (("source", "source.tif"), ("target", "target.png")):
        kept = read_slide(tmp_path / "data" / stated["training"][0][name]).pixels
        np.testing.assert_array_equal(kept, read_slide(pairs / "one" / file).pixels)
    mask = read_slide(tmp_path / "data" / stated["training"][0]["mask"]).pixels
    np.testing.assert_array_equal(mask, read_slide(pairs / "one" / "field.png").pixels)
    ids = {**TINY, "epochs": 1, "dataset_dir": tmp_path / "data", "output_dir": tmp_path / "run"}
    configs = "['configs/train.json','configs/methods/one_way.json','configs/profiles/demo.json']"
    words = ["monai.bundle", "run", "training", "--config_file", configs]
    done = run_module([*words, *(word for name, value in ids.items() for word in (f"--{name}", str(value)))], ROOT)
    assert done.returncode == 0, done.stderr[-2000:]
    assert list((tmp_path / "run").glob("**/*.pt"))


def test_pairs_of_slides_and_of_scans_are_not_mixed(case, tmp_path):
    for name, kind in (("a", "two slides"), ("b", None)):
        (tmp_path / name).mkdir()
        facts = {"voxel_um": 2, "accepted": True, "kind": kind}
        (tmp_path / name / RESULT).write_text(json.dumps(facts))
    with pytest.raises(InputError, match=r"two slides \(a\) and of scan and section \(b\)"):
        prepare(str(tmp_path), str(tmp_path.parent / "mixed"))
