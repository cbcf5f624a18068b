"""A number that is none makes no sentence, and least of all a calm one."""

from __future__ import annotations

import pytest

from bundle.report import answer
from bundle.staining.answer import NOT_KNOWN, of_volume

NAN = float("nan")


@pytest.mark.parametrize(
    "record",
    [
        {},
        {"stripes": {"mean": {"index": [NAN] * 3, "flicker_levels": [NAN] * 3}}},
        {"likeness": {"z": {"slices": {}}}},
        {"likeness": {"z": {}}},
        {"reference": {"unlike": True, "distance": NAN}},
    ],
)
def test_a_volume_of_which_nothing_was_measured_is_not_called_calm(record):
    assert of_volume(record) == [NOT_KNOWN]


def test_stripes_show_though_other_numbers_are_none():
    (found,) = of_volume({"stripes": {"mean": {"index": [NAN, None, 3.0], "flicker_levels": [NAN] * 3}}})
    assert found.verdict.startswith("Stripes along x")
    assert "nan" not in found.numbers


def test_a_run_is_not_judged_by_nan():
    names = ("above_chance", "recall", "chance")
    assert not list(answer.cells([{"row": answer.NETWORK, **{f"lacunae_{name}": "nan" for name in names}}]))
    assert not list(answer.detail_in_place({"detail_median": "nan", "gradient_correlation_median": "0.3"}))
    rows = {row: {f"{name}_median": "nan" for name in answer.CLEARLY} for row in (answer.NETWORK, answer.COLOUR_TABLE)}
    assert not list(answer.against_colour_table(rows))
    line = dict.fromkeys(("index_difference", "index_real", "index_virtual"), NAN)
    (found,) = answer._indices([{"split": "testing", **line}])
    assert found.verdict == answer.NO_PAIRS
