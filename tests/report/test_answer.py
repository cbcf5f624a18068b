"""What a run's page says first: each sentence by its rule, from planted tables; none where the number is missing."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest

from bundle.common.html import Answer
from bundle.common.verdicts import DOUBTFUL, LIKE, UNKNOWN, UNLIKE
from bundle.evaluation.tables import NOT
from bundle.report.answer import against_colour_table, against_the_rest, answers, cells, detail_in_place, like_training
from bundle.report.records import read_record
from tests.helpers.pages import Page, words
from tests.helpers.report import write_rows, written


def truth(row: str, *recalls: tuple[float, float]) -> list[dict[str, str]]:
    """Lines of truth.csv: recall of lacunae and that by chance, a slide each."""
    names = ("lacunae_recall", "lacunae_chance", "lacunae_above_chance")
    return [
        {"row": row, **dict(zip(names, map(str, (recall, chance, recall - chance)), strict=True))}
        for recall, chance in recalls
    ]


def summary(**rows: dict[str, float]) -> dict[str, dict[str, str]]:
    """Lines of summary.csv by row, of medians; what is not given was not computed."""
    names = ("lpips", "detail", "gradient_correlation", "ssim", "psnr")
    return {
        row.replace("_", " "): {f"{name}_median": str(values.get(name, NOT)) for name in names}
        for row, values in rows.items()
    }


@pytest.mark.parametrize(
    ("network", "section", "said", "tone"),
    [
        ([(0.01, 0.03)], [(0.6, 0.1)], "No cells found: recall 0.01 where chance gives 0.03.", "bad"),
        (
            [(0.2, 0.1), (0.3, 0.1), (0.1, 0.1)],  # medians 0.2 and 0.1
            [(0.5, 0.1)],
            "Few cells found: recall 0.20 where chance gives 0.10; the real section itself has 0.50.",
            "bad",
        ),
        (
            [(0.5, 0.1)],
            [(0.6, 0.1)],
            "Cells found: recall 0.50 where chance gives 0.10; the real section itself has 0.60.",
            "good",
        ),
        ([(0.5, 0.1)], [], "Some cells found: recall 0.50 where chance gives 0.10.", "plain"),
    ],
)
def test_cells_are_told_against_chance_and_the_section(network, section, said, tone):
    (answer,) = cells(truth("network", *network) + truth("real section", *section))
    assert (str(answer), answer.tone) == (said, tone)


def test_noise_finds_many_lacunae_and_no_more_than_chance():
    (answer,) = cells(truth("network", (0.7, 0.68)))
    assert answer.verdict == "No cells found"


@pytest.mark.parametrize(
    "lines", [[], [{"row": "network", "lacunae_recall": "0.5"}], truth("real section", (0.5, 0.1))]
)
def test_nothing_is_said_of_cells_that_were_not_counted(lines):
    assert list(cells(lines)) == []


@pytest.mark.parametrize(
    ("network", "table", "said", "tone"),
    [
        (
            {"gradient_correlation": 0.64, "ssim": 0.63, "psnr": 19.6},
            {"gradient_correlation": -0.17, "ssim": 0.14, "psnr": 10.5},
            "It beats the colour table, which needs no network: gradient correlation 0.64 against −0.17; SSIM 0.63 "
            "against 0.14; PSNR 19.6 against 10.5 dB.",
            "good",
        ),
        (
            {"lpips": 0.5, "psnr": 10.9},  # less by no more than seeds differ
            {"lpips": 0.51, "psnr": 10.5},
            "It does not beat the colour table, which needs no network: LPIPS 0.50 against 0.51, lower is better; PSNR "
            "10.9 against 10.5 dB.",
            "bad",
        ),
        (
            {"lpips": 0.2, "ssim": 0.2},
            {"lpips": 0.5, "ssim": 0.3},
            "It beats the colour table, which needs no network, in part: LPIPS 0.20 against 0.50, lower is better. Not "
            "clearly in SSIM 0.20 against 0.30.",
            "plain",
        ),
    ],
)
def test_the_network_is_held_against_what_needs_none(network, table, said, tone):
    (answer,) = against_colour_table(summary(network=network, colour_table=table))
    assert (str(answer), answer.tone) == (said, tone)


def test_noise_is_told_that_one_colour_does_better():
    noise = {"gradient_correlation": 0.01, "ssim": 0.05, "psnr": 8.0}
    rows = {"mean_colour": {"gradient_correlation": 0, "ssim": 0.2, "psnr": 9.3}, "inverted_source": {"ssim": 0.18}}
    (answer,) = against_the_rest(summary(network=noise, **rows))
    assert str(answer) == (
        "Rows that need no network do better: mean colour in SSIM 0.20 against 0.05, PSNR 9.3 against 8.0; inverted "
        "source in SSIM 0.18 against 0.05."
    )
    assert answer.tone == "bad"
    trained = {"gradient_correlation": 0.64, "ssim": 0.63, "psnr": 19.6}
    assert list(against_the_rest(summary(network=trained, **rows))) == []


def test_without_baselines_the_network_is_held_against_nothing():
    assert list(against_colour_table(summary(network={"ssim": 0.9}))) == []
    assert list(against_colour_table(summary(network={}, colour_table={"ssim": 0.9}))) == []


@pytest.mark.parametrize(
    ("detail", "gradient", "verdict", "tone"),
    [  # as measured in docs/results.md, "Which measure tells mush from stain"
        (0.84, 0.50, "Detail is in place", "good"),  # a trained network
        (1.00, 0.71, "Detail is in place", "good"),  # the section moved by 2 px
        (0.42, 0.18, "Detail is missing, the stain is a blurred picture", "bad"),  # seven steps
        (0.23, 0.76, "Detail is missing, the stain is a blurred picture", "bad"),  # the section blurred by 3 px
        (0.00, 0.00, "Detail is missing, the stain is a blurred picture", "bad"),  # one colour
        (1.17, 0.18, "Detail is there but not in place", "bad"),  # the colour table, noise
        (0.80, 0.30, "Detail is only partly in place", "plain"),
    ],
)
def test_detail_is_told_as_what_is_no_stain_was_measured(detail, gradient, verdict, tone):
    line = summary(network={"detail": detail, "gradient_correlation": gradient})["network"]
    (answer,) = detail_in_place(line)
    assert (answer.verdict, answer.tone) == (verdict, tone)
    assert f"{detail:.2f}" in answer.numbers
    assert list(detail_in_place(summary(network={"detail": detail})["network"])) == []


def test_slides_that_are_not_like_the_training_are_counted_once_each():
    lines = [{"slide": slide, "verdict": word} for slide, word in (("a", LIKE), ("b", UNLIKE), ("c", DOUBTFUL))] * 2
    (answer,) = like_training(lines, "testing")
    assert str(answer) == (
        "Not all slides are like the training data: of 3 test slides 1 unlike and 1 doubtful; the stain may be wrong "
        "there."
    )
    (answer,) = like_training([{"slide": "a", "verdict": LIKE}], "testing")
    assert str(answer) == "The slides are like the training data: the test slide."
    assert (
        list(like_training([], "testing")) == list(like_training([{"slide": "a", "verdict": UNKNOWN}], "testing")) == []
    )


def test_the_best_split_is_spoken_of_and_training_slides_prove_nothing(tmp_path):
    measured = tmp_path / "evaluation"
    measured.mkdir()
    slide = {"slide": "one", "specimen": "a", "row": "network"}
    line = {"row": "network", "patches": "4", "detail_median": "0.9", "gradient_correlation_median": "0.9"}
    splits = ("training", "testing")
    write_rows(measured / "slides.csv", [{"split": split, **slide} for split in splits])
    write_rows(measured / "summary.csv", [{"split": split, **line} for split in splits])
    said = list(map(str, answers(read_record(tmp_path))))
    assert "Measured on 1 test slide: training never saw them; medians of 4 patches." in said
    write_rows(measured / "slides.csv", [{"split": "training", **slide}])
    (told,) = [each for each in map(str, answers(read_record(tmp_path))) if each.startswith("Measured")]
    assert told.startswith(
        "Measured on 1 training slide: the network has learnt from them, so this says nothing of new"
    )


def test_an_unpaired_run_is_told_by_its_labelling_index(tmp_path):
    (tmp_path / "evaluation").mkdir()

    def said(**index: float | None) -> list[Answer]:
        line = {"split": "testing", "index_real": 20.0, "index_virtual": 31.0, **index}
        found = {"labelling": [line], "notes": []}
        (tmp_path / "evaluation/summary.json").write_text(json.dumps(found))
        return answers(read_record(tmp_path))

    (other,) = said(index_difference=11.0, index_difference_low=2.0, index_difference_high=19.0)
    assert other.tone == "bad"
    assert "real 20.0 %, virtual 31.0 % (testing); difference 11.0, 95 % interval 2.0 to 19.0" in other.numbers
    (alike,) = said(index_difference=11.0, index_difference_low=-2.0, index_difference_high=19.0)
    assert "not told apart" in alike.verdict
    (unsure,) = said(index_difference=None)
    assert unsure.verdict == "Whether each place is right is not known"


def test_the_page_begins_with_the_answer_and_ends_with_where_it_comes_from(measured):
    text = written(measured)
    (first,) = [each for each in Page(text).all("ul") if each.get("class") == "answers"]
    assert first["aria-label"]
    plain = words(text)
    said = [str(each) for each in answers(read_record(measured))]
    assert said[-1] == "Trained on 2 pairs: 8 steps."
    assert all(each in plain for each in said)
    order = ["Measured on 1 test slide", "Test slide:", "steps are recorded", "Median [quartiles]", "config SHA-256"]
    places = [plain.index(each) for each in order]
    assert places == sorted(places)
    assert re.search(
        r"<details><summary>Commands, checksums, versions</summary>.*config SHA-256.*</details>", text, re.S
    )


def test_the_folder_alone_decides_and_nothing_is_invented(tmp_path):
    (only,) = answers(read_record(tmp_path))
    assert str(only) == "Not evaluated yet: nothing here says how good the stain is."
    assert only.tone == "bad"


def test_numbers_on_the_page_are_those_of_the_tables(measured):
    rows = [{"split": "testing", "slide": "x", **line} for line in truth("network", (0.01, 0.03))]
    write_rows(measured / "evaluation" / "truth.csv", rows)
    assert "No cells found: recall 0.01 where chance gives 0.03." in words(written(measured))
    assert np.isclose(float(rows[0]["lacunae_above_chance"]), -0.02)
