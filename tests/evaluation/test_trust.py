"""What an evaluation says of a bundle's expected error: by hand, for planted maps, and of a whole evaluation."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from bundle.common.verdicts import LIKE, UNKNOWN, UNLIKE, Verdict
from bundle.data.load import load_datalist
from bundle.evaluation.error_map import TRIVIAL, windows_of
from bundle.evaluation.paired import evaluate
from bundle.evaluation.tables import NOT
from bundle.evaluation.trust import (
    COVERAGE_OF,
    HEAD,
    PERFECT,
    SECTION,
    TrustTables,
    cells_of,
    markdown,
    scores_of,
    summarise,
)
from bundle.images.slides import read_slide, write_slide
from bundle.networks.error_head import ErrorHead
from bundle.networks.error_map import Calibration, ErrorMap
from bundle.staining.model import load_model
from tests.conftest import make_dataset

SIDE = 128
ABOUT = {"split": "testing", "slide": "testing_000_01", "specimen": "rat 1"}
CALIBRATION = Calibration(bound=2.0, level=0.9, specimens=2.0, pixels=100.0, auroc=0.8, coverage=0.9, mean=12.0)


@pytest.fixture
def error() -> np.ndarray:
    """Errors that differ from window to window, and little within one."""
    rng = np.random.default_rng(0)
    return (rng.random((4, 4)).repeat(32, 0).repeat(32, 1) * 40 + rng.random((SIDE, SIDE))).astype(np.float32)


def test_a_planted_map_that_is_the_error_has_auroc_1_and_a_constant_one_half(error):
    mask, trivial = np.ones(error.shape, bool), {name: np.ones(error.shape) for name in TRIVIAL}
    found = scores_of(error, error, mask, 1.0, trivial, {})
    assert found["auroc"] == 1
    assert found["auroc_grey"] == found["auroc_spread_16"] == 0.5
    assert found["coverage"] == 1
    assert found["expected_error"] == found["true_error"] == pytest.approx(error.mean())
    assert scores_of(np.full_like(error, 9), error, mask, 1.0, trivial, {})["auroc"] == 0.5


def test_a_bound_is_told_by_tissue_inside_the_mask(error):
    expected, mask = np.full_like(error, 10.0), np.zeros(error.shape, bool)
    mask[:, :96] = True
    bone, lacuna = np.zeros_like(mask), np.zeros_like(mask)
    bone[:64], lacuna[:, 100:] = True, True
    found = scores_of(expected, error, mask, 2.5, {}, {"bone": bone, "lacuna": lacuna})
    assert found["coverage"] == pytest.approx((error[:, :96] <= 25).mean())
    assert found[COVERAGE_OF + "bone"] == pytest.approx((error[:64, :96] <= 25).mean())
    assert found[COVERAGE_OF + "lacuna"] is None


def test_of_a_slide_too_small_for_two_windows_no_auroc_is_told():
    small = np.ones((40, 40), np.float32)
    assert scores_of(small, small, np.ones((40, 40), bool), 1.0, {}, {})["auroc"] is None


def tables_of(error: np.ndarray, verdicts: dict[str, Verdict | None]) -> TrustTables:
    """Slides with the same planted stain: the section is black, so the stain is the error, and it is expected."""
    stain = np.rint(error)[None].repeat(3, 0).astype(np.uint8)
    black, source, mask = np.zeros_like(stain), stain[:1], np.ones(error.shape, bool)
    tables = TrustTables(1.0, {"bone": [1], "lacuna": [2]})
    for slide, verdict in verdicts.items():
        unlike = verdict is not None and verdict.word == UNLIKE
        expected = np.full_like(error, np.nan) if unlike else stain[0].astype(np.float32)
        references = {SECTION: black, PERFECT: stain}
        about = {**ABOUT, "slide": slide}
        tables.add(about, verdict, expected, stain, references, source, mask, np.ones(error.shape, np.uint8))
    return tables


def test_a_slide_that_is_unlike_is_told_without_numbers_and_counts_in_no_curve(error):
    verdicts = {"a": Verdict(1.0), "b": Verdict(3.5, 1.5), "c": None}
    tables = tables_of(error, verdicts)
    assert [row["verdict"] for row in tables.rows] == [LIKE] * 2 + [UNLIKE] * 2 + [UNKNOWN] * 2
    like, _, unlike, *_ = tables.rows
    assert (unlike["distance"], unlike["statistics"]) == (3.5, 1.5)
    assert unlike["true_error"] == like["true_error"] == pytest.approx(np.rint(error).mean())
    assert {unlike[name] for name in tables.columns[tables.columns.index("auroc") :]} == {None}
    assert unlike["expected_error"] is None
    assert like["auroc"] == 1
    assert like["auroc_grey"] == 1  # the source is the stain
    assert like[COVERAGE_OF + "bone"] == 1
    assert like[COVERAGE_OF + "lacuna"] is None
    windows = windows_of(np.rint(error), np.ones(error.shape, bool), 32)
    curve = {(row["against"], row["kept"]): row for row in tables.curves}
    assert {row["windows"] for row in curve.values()} == {32}  # of two slides with 16 each
    assert curve[SECTION, 1.0]["error"] == pytest.approx(windows.mean())
    assert (
        curve[SECTION, 0.5]["error"] == curve[SECTION, 0.5]["least_error"] == pytest.approx(np.sort(windows)[:8].mean())
    )
    assert curve[PERFECT, 0.5]["error"] == 0


def test_a_split_is_summarised_in_medians_and_means(error):
    tables = tables_of(error, {"a": Verdict(1.0), "b": Verdict(3.5)})
    section, perfect = summarise(tables.rows, tables.curves)
    assert (section["split"], section["against"], perfect["against"]) == ("testing", SECTION, PERFECT)
    assert section["slides"] == {LIKE: 1, UNLIKE: 1}
    assert (section["auroc"], section["trivial"], section["auroc_trivial"]) == (1, "grey value", 1)
    assert section["tissues"] == {"bone": 1, "lacuna": None}
    text = markdown([section, perfect], 0.9)
    assert "| " + " | ".join(HEAD) + " |" in text
    assert "| testing | real section | 1 like the training data, 1 unlike | 1.00 | 1.00 (grey value) | 100.0 |" in text
    assert "90 % wanted" in text


def test_where_every_slide_is_unlike_the_table_has_dashes(error):
    tables = tables_of(error, {"a": Verdict(3.5)})
    assert tables.curves == []
    line = summarise(tables.rows, tables.curves)[0]
    assert cells_of(line) == ["testing", SECTION, "1 unlike", *["–"] * 6]


def with_error_map(bundle: Path, folder: Path) -> Path:
    """A copy of a trained bundle that expects the same error everywhere."""
    copy = shutil.copytree(bundle, folder / "bundle")
    head = ErrorHead(load_model(copy).network.features)
    for weights in head.parameters():
        weights.data.zero_()
    ErrorMap(head, CALIBRATION).save(copy / "models" / "error_map.pt")
    return copy


def test_an_evaluation_writes_what_the_error_map_is_worth(trained, tmp_path):
    folder = make_dataset(tmp_path / "data")
    listed = json.loads((folder / "datalist.json").read_text())
    listed["testing"][0] |= {"perfect": listed["testing"][0]["target"], "labels": "labels/02.png"}
    write_slide(folder / "labels/02.png", np.ones((1, 64, 72), np.uint8))
    listed["tissues"] = {"bone": [1]}
    (folder / "datalist.json").write_text(json.dumps(listed))
    bundle, data = with_error_map(trained / "bundle", tmp_path), load_datalist(str(folder))
    evaluate(data, str(bundle), str(tmp_path / "run"), "cpu", 32, 16, 0.5, ["testing"], None, eval_baselines=False)
    measured = tmp_path / "run" / "evaluation"
    with (measured / "trust.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["against"], row["verdict"]) for row in rows] == [(SECTION, UNKNOWN), (PERFECT, UNKNOWN)]
    images = {
        name: read_slide(measured / "slides" / "testing_000_02" / f"{name}.png").pixels
        for name in ("unmasked", "mask", "expected_error")
    }
    inside = images["mask"][0] != 0
    real = read_slide(folder / "target/02.png").pixels.astype(float)
    true = np.abs(images["unmasked"] - real).mean(0)[inside]
    expected = 10 * np.log(2) + 0.5  # a head of zeros gives the softplus of 0, and the least
    for row in rows:
        assert float(row["true_error"]) == pytest.approx(true.mean(), abs=1e-4)
        assert float(row["expected_error"]) == pytest.approx(expected, abs=1e-3)
        assert float(row["coverage"]) == float(row["coverage of bone"]) == pytest.approx((true <= 2 * expected).mean())
        assert row["auroc"] in ("0.5", NOT)  # it is the same everywhere
    assert set(images["expected_error"].ravel()) == {7}
    told = json.loads((measured / "provenance.json").read_text())["expected_error"]
    assert told == {"bound": 2.0, "level": 0.9}
    assert "| testing | real section | 1 not known |" in (measured / "table.md").read_text()

    (bundle / "models" / "error_map.pt").unlink()
    evaluate(data, str(bundle), str(tmp_path / "run"), "cpu", 32, 16, 0.5, ["testing"], None, eval_baselines=False)
    assert not {path.name for path in measured.rglob("*")} & {"trust.csv", "abstention.csv", "expected_error.png"}
    text = (measured / "table.md").read_text()
    assert text.count("no error map: this bundle has none; a method that learns from pairs makes one") == 1
    assert "Where not to believe it" not in text
