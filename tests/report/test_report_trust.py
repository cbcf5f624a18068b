"""Where not to believe a stain, on the page of a run: in words, tables, charts, and beside each slide."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest

from bundle.common.verdicts import DOUBTFUL, LIKE, UNLIKE, Verdict
from bundle.evaluation.trust import PERFECT, SECTION, TrustTables
from bundle.images.slides import write_slide
from tests.helpers.pages import FRAME, Page, browse, words
from tests.helpers.report import rows_of, written

SIDE = 128


def plant(run: Path, verdicts: list[Verdict]) -> None:
    """Tables of trust for the slides of a run: errors are expected as they are, but of one that is unlike."""
    measured, rng = run / "evaluation", np.random.default_rng(0)
    error = (rng.random((4, 4)).repeat(32, 0).repeat(32, 1) * 40).astype(np.float32)
    stain = np.rint(error)[None].repeat(3, 0).astype(np.uint8)
    tables, mask = TrustTables(1.0, {"bone": [1], "lacuna": [2]}), np.ones((SIDE, SIDE), bool)
    slides = [row for row in rows_of(measured / "slides.csv") if row["row"] == "network"]
    for row, verdict in zip(slides, verdicts, strict=True):
        expected = np.full_like(error, np.nan) if verdict.word == UNLIKE else stain[0].astype(np.float32)
        about = {name: row[name] for name in ("split", "slide", "specimen")}
        references = {SECTION: np.zeros_like(stain), PERFECT: stain // 2}
        labels = np.ones((SIDE, SIDE), np.uint8)
        tables.add(about, verdict, expected, stain, references, rng.integers(0, 255, (1, SIDE, SIDE)), mask, labels)
        if verdict.word != UNLIKE:
            write_slide(measured / "slides" / row["slide"] / "expected_error.png", np.full((1, 64, 72), 9, np.uint8))
    tables.write(measured)
    told = json.loads((measured / "provenance.json").read_text())
    (measured / "provenance.json").write_text(json.dumps({**told, "expected_error": {"bound": 1.0, "level": 0.9}}))


@pytest.fixture
def trusting(measured) -> Path:
    """A run with two training slides and a test slide that is unlike them."""
    plant(measured, [Verdict(1.0), Verdict(2.0), Verdict(1.2, 3.5)])
    return measured


def test_the_page_says_in_words_what_the_error_map_is_worth(trusting):
    text = words(written(trusting))
    assert "Not all slides are like the training data: of 1 test slide 1 unlike; the stain may be wrong there." in text
    assert "Testing: of 1 slide, 1 unlike." in text
    assert "Training: of 2 slides, 1 like the training data, 1 doubtful." in text
    assert "finds the worst tenth of the windows with AUROC 1.00; the " in text
    assert "The error is within the bound in 100.0 % of the pixels; 90 % is wanted." in text
    assert re.search(r"has a mean error of [\d.]+ levels in place of [\d.]+; who leaves out a fifth, [\d.]+\.", text)
    assert "mean error of what is kept of 32 windows" in text
    assert "learnt on the validation fold" not in text  # which this run has not measured


def test_the_page_has_a_line_for_each_split_and_what_it_is_held_against(trusting):
    cells = [text for _, text in Page(written(trusting)).cells]
    assert cells.count("real section") >= 4
    assert "within the bound (%)" in cells
    place = cells.index("error against", cells.index("within the bound (%)"))  # of the table by tissue
    assert cells[place : place + 3] == ["error against", "bone", "lacuna"]
    assert ["real section", "100.0", "–"] in [cells[at : at + 3] for at in range(place, len(cells))]


def test_a_slide_that_is_not_like_the_training_has_a_badge_and_one_that_is_unlike_no_map(trusting):
    text = written(trusting)
    page = Page(text)
    badges = [each["class"] for each in page.all("span") if "badge" in (each.get("class") or "")]
    assert badges == ["badge unlike", "badge doubtful"]  # testing comes first
    unlike = "unlike (1.2 × the usual distance from the training data, 3.5 × in the network's statistics)"
    assert f"Its source is {unlike}; its stain may be wrong everywhere" in words(text)
    assert f"Its source is {LIKE} (1.0 ×" in words(text)
    assert f"Its source is {DOUBTFUL} (2.0 × the usual distance from the training data); its stain may" in words(text)
    assert sum("error to be expected" in image["alt"] for image in page.all("img")) == 2
    assert text.count("0 to 64 or more of 255") == 5  # 3 differences, on the same scale


def test_a_map_that_no_network_is_needed_for_is_said_to_be_no_better(trusting):
    path = trusting / "evaluation" / "trust.csv"
    header, *lines = path.read_text().splitlines()
    place = header.split(",").index("auroc")
    changed = [",".join([*line.split(",")[:place], *(["0.7"] * 5), *line.split(",")[place + 5 :]]) for line in lines]
    path.write_text("\n".join([header, *changed]) + "\n")
    assert "AUROC 0.70, not clearly better than the grey value, which needs no network, with 0.70." in words(
        written(trusting)
    )


def test_where_all_are_unlike_there_is_no_figure_and_no_chart(measured):
    plant(measured, [Verdict(9.0)] * 3)
    text = written(measured)
    assert "Testing: of 1 slide, 1 unlike." in words(text)
    assert "Training: of 2 slides, 2 unlike." in words(text)
    assert "mean error of what is kept" not in text
    assert "kept-" not in text


def test_a_run_without_an_error_map_has_no_such_section(measured_once):
    text = written(measured_once)
    assert "Where not to believe it" not in text
    assert "0 to 128 or more of 255" in text
    assert "Its source is" not in text


@pytest.mark.parametrize("width", [420, 1200])
def test_it_is_no_wider_than_the_screen(trusting, chromium, tmp_path, width):
    frame = tmp_path / "frame.html"
    frame.write_text(FRAME.format(width=width, page=json.dumps(written(trusting))), encoding="utf-8")
    shown = browse(chromium, tmp_path, "--virtual-time-budget=10000", "--dump-dom", frame.as_uri())
    assert int(re.search(r"<title>(\d+)</title>", shown)[1]) == width
