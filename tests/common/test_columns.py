"""Markdown for a terminal: aligned columns without pipes that fit, and nothing of what is told lost without a word."""

from __future__ import annotations

import re

import pytest

from bundle.common.columns import columns, plain

TABLE = """Median of *patches*.

| split | image | SSIM ↑ | detail (1 = as real) |
|---|---|---|---|
| testing | network | **0.63** [0.49–0.71] | -0.89 [0.85–0.91] |
| testing | colour table | 0.14 [0.08–0.21] | – |
| training | network | 0.54 [0.50–0.58] | not computed |

- a note that is rather long and goes on over the end of its line, as notes do"""


def test_columns_are_aligned_and_the_first_name_is_told_once():
    lines = plain(TABLE, 80).splitlines()
    start = next(place for place, line in enumerate(lines) if set(line) == {"─", " "})
    ends = [match.end() for match in re.finditer("─+", lines[start])]
    first, second, third = lines[start + 1 : start + 4]
    assert first.split("  ")[0] == "testing"
    assert second.startswith("         ")  # the same split
    assert third.startswith("training")
    assert first[: ends[2]].endswith("0.63 [0.49–0.71]")  # to the right
    assert second[: ends[2]].endswith("0.14 [0.08–0.21]")
    assert second.endswith("–")
    assert "|" not in "\n".join(lines)
    assert "**" not in "\n".join(lines)


@pytest.mark.parametrize("width", [44, 50, 60, 80, 200])
def test_it_fits_the_terminal_and_loses_no_figure(width):
    shown = plain(TABLE, width)
    assert max(map(len, shown.splitlines())) <= width
    for figure in ("0.63", "0.14", "0.54", "-0.89", "not computed"):
        assert figure in shown
    assert ("[0.49–0.71]" in shown) != ("without what stands in" in shown)
    assert shown.splitlines()[-1].startswith(("- a note", "  "))


def test_columns_that_do_not_fit_go_below_with_the_names_again():
    rows = [["image", *(f"measure {number}" for number in range(12))], ["network", *["0.123"] * 12]]
    lines = columns(rows, 40)
    assert max(map(len, lines)) <= 40
    assert "\n".join(lines).count("network") == lines.count("") + 1 > 1
    assert "\n".join(lines).count("0.123") == 12


def test_words_stay_to_the_left_and_a_command_stays_whole():
    assert columns([["who", "what"], ["a", "long words"]]) == ["who  what", "───  ──────────", "a    long words"]
    command = "x" * 100
    assert plain(f"run {command} now", 40).splitlines() == ["run", command, "now"]


def test_text_without_a_table_is_only_wrapped():
    assert plain("### Heading\n\none two three", 9) == "Heading\n\none two\nthree"
