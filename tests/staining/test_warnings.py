"""What the page of a stained volume or slide says first: warnings by their rules, a calm line where nothing warns."""

from __future__ import annotations

import pytest

from bundle.common.verdicts import DOUBTFUL, LIKE, UNKNOWN, UNLIKE, Verdict, summary
from bundle.staining.answer import NOT_KNOWN, of_slide, of_volume

CALM_STRIPES = {"stained across z": {"index": [1.36, 0.75, None], "flicker_levels": [0.5, 0.3, 0.2]}}
SURE = "whether the stain is right, only a section can say."


def likeness(*ratios: float | None) -> dict:
    """By the verdicts of slices across z."""
    return {"z": summary(map(Verdict, ratios))}


def said(record: dict, of=of_volume) -> list[str]:
    return [str(each) for each in of(record)]


def test_a_calm_volume_says_so_with_its_numbers():
    (only,) = of_volume({"likeness": likeness(1.0, 1.2), "stripes": CALM_STRIPES})
    assert only.tone == "good"
    assert str(only) == (
        "Nothing here warns: all 2 slices across z are like the training data; no stripes: stripe index at most 1.4 (1 "
        f"is none), flicker at most 0.5 grey levels of 255; {SURE}"
    )


def test_what_was_not_measured_is_not_spoken_of():
    assert of_volume({}) == of_slide({}) == [NOT_KNOWN]
    assert said({"likeness": likeness(1.0)}) == [
        f"Nothing here warns: all 1 slices across z are like the training data; {SURE}"
    ]
    assert of_volume({"stripes": {"stained across z": {"index": [None] * 3}}}) == [NOT_KNOWN]


@pytest.mark.parametrize(
    ("ratios", "line"),
    [
        (
            (9.0, 2.0, 1.0, 1.0, 9.0),
            "In part unlike the training data, where the stain may be wrong: of 5 slices across z, 2 unlike (0, 4) and "
            "1 doubtful (1).",
        ),
        ((1.0, 2.0), "In part doubtful, where the stain may be wrong: of 2 slices across z, 1 doubtful (1)."),
        (
            (9.0, 9.0, 1.0),
            "Most slices of this scan are unlike the training data, and its stain is not to be believed: of 3 slices "
            "across z, 2 unlike (0 to 1).",
        ),
    ],
)
def test_the_gate_warns(ratios, line):
    found = of_volume({"likeness": likeness(*ratios), "stripes": CALM_STRIPES})
    assert [str(each) for each in found] == [line]  # and no calm line beside it
    assert found[0].tone == "bad"


def test_many_places_are_not_all_listed():
    (line,) = said({"likeness": likeness(*([1.0, 9.0] * 7), 1.0)})
    assert line.endswith("7 unlike (1, 3, 5, 7, and 3 more places).")


def test_too_few_sources_are_no_calm():
    assert said({"likeness": likeness(None, None)}) == [
        "Whether slices across z are like the training data is not known: that has too few sources."
    ]


@pytest.mark.parametrize(
    ("index", "flicker", "lines"),
    [
        (
            [6.41, 0.57, 0.27],  # of `make demo`
            [3.2, 0.84, 0.5],
            [
                "Stripes along z, the colours differ from slice to slice: index 6.4 (1 is none; true stains have at "
                "most 1.4), flicker 3.2 grey levels of 255."
            ],
        ),
        ([2.5, 0.7, 0.7], [0.4, 0.2, 0.2], None),  # nobody sees that
        (
            [0.7, 1.1, 1.2],  # a mean of three axes, of which half is left
            [1.1, 1.7, 0.9],
            [
                "The stain flickers from slice to slice: grey levels of 255: 1.1 along z, 1.7 along y (true stains at "
                "most 0.5)."
            ],
        ),
    ],
)
def test_stripes_and_flicker_warn(index, flicker, lines):
    found = said({"stripes": {"stained across z": {"index": index, "flicker_levels": flicker}}})
    assert found == lines if lines else found[0].startswith("Nothing here warns")


def test_of_several_stains_the_one_that_was_written_counts():
    across = {"index": [9.0, 0.5, 0.5], "flicker_levels": [4.0, 0.3, 0.3]}
    assert said({"stripes": {"stained across z": across, **CALM_STRIPES}})[0].startswith("Stripes") is False
    (line,) = said({"stripes": {**CALM_STRIPES, "mean": across}})
    assert line.startswith("Stripes along z")


def test_a_reference_that_is_unlike_warns():
    told = {"unlike": True, "distance": 4.25, "usual": 0.5}
    (line,) = said({"reference": told, "stripes": CALM_STRIPES})
    assert line == (
        "All is stained by the statistics of a region that is unlike the training: 4.2 from the nearest section of the "
        "training, which usually lie 0.5 apart."
    )
    assert said({"reference": {**told, "unlike": False}, "stripes": CALM_STRIPES})[0].startswith("Nothing here warns")


def test_a_slide_is_told_by_its_blocks():
    assert said({"likeness": {"blocks": {LIKE: 3}}}, of_slide) == [
        f"Nothing here warns: all 3 blocks are like the training data; {SURE}"
    ]
    assert said({"likeness": {"blocks": {LIKE: 3, DOUBTFUL: 1}}}, of_slide) == [
        "In part doubtful, where the stain may be wrong: of 4 blocks, 1 doubtful."
    ]
    (line,) = said({"likeness": {"blocks": {LIKE: 1, UNLIKE: 2}}}, of_slide)
    assert line.startswith("Most of this slide is unlike the training data, and its stain is not to be believed: of 3")
    assert said({"likeness": {"blocks": {UNKNOWN: 3}}}, of_slide)[0].startswith("Whether blocks are like")
