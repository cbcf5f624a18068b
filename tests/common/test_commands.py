"""What a command makes of the words that a user types."""

from __future__ import annotations

import sys

import pytest

from bundle.common.command_line import command
from bundle.common.errors import InputError


def packed(output: str, onnx: bool = True, small: bool = False, name: str = "true", more: bool | None = None) -> str:
    """Say what arrived."""
    return repr((output, onnx, small, name, more))


@pytest.mark.parametrize(
    ("typed", "arrived"),
    [
        ("", ("o", True, False, "true", None)),
        ("--onnx false", ("o", False, False, "true", None)),
        ("--onnx=False --small TRUE", ("o", False, True, "true", None)),
        ("--noonnx --small", ("o", False, True, "true", None)),
        ("--name false --more yes", ("o", True, False, "false", "yes")),  # none of these has true or false as default
    ],
)
def test_true_and_false_are_words(typed, arrived, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["packed", "--output", "o", *typed.split()])
    command(packed)
    assert capsys.readouterr().out.strip() == repr(arrived)


@pytest.mark.parametrize("word", ["maybe", "0", "None"])
def test_any_other_word_is_refused(word, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["packed", "--output", "o", "--onnx", word])
    with pytest.raises(InputError, match=r"onnx is .*; it must be true or false\."):
        command(packed)


def counted(number: int, size: float = 1.0, most: float | None = None, either: int | str = "all") -> str:
    """Say what arrived."""
    return repr((number, size, most, either))


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ("--number x", "number is 'x'; it must be a whole number."),
        ("--number 1.5", "number is 1.5; it must be a whole number."),
        ("--number True", "number is True; it must be a whole number."),
        ("--number None", "number is None; it must be a whole number."),
        ("--number 1 --size nan", "size is 'nan'; it must be a number."),
        ("--number 1 --size 1e999", "size is inf; it must be a number."),
        ("--number 1 --size [1,2]", "size is [1, 2]; it must be a number."),
        ("--number 1 --most many", "most is 'many'; it must be a number."),
    ],
)
def test_an_option_that_is_a_number_takes_nothing_else(typed, said, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["counted", *typed.split()])
    with pytest.raises(InputError) as error:
        command(counted)
    assert str(error.value) == said


def test_numbers_arrive_as_they_are(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["counted", "--number", "3", "--size", "2", "--most", "None", "--either", "all"])
    command(counted)
    assert capsys.readouterr().out.strip() == "(3, 2, None, 'all')"


@pytest.mark.parametrize("typed", ["--output", "--output --small", "--output -x"])
def test_an_option_without_its_value_is_refused(typed, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["packed", *typed.split()])
    with pytest.raises(InputError, match=r"^output is True; give it a value\.$"):
        command(packed)


@pytest.mark.parametrize("word", ["0.10", "1e3", "[a]", "(a)", "True", "007", "1_0"])
def test_text_arrives_as_typed(word, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["packed", "--output", word, f"--name={word}"])
    command(packed)
    assert capsys.readouterr().out.strip() == repr((word, True, False, word, None))


def test_text_has_no_opposite_and_is_not_empty(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["packed", "--output", "o", "--noname"])
    with pytest.raises(InputError, match="^--noname is not an option; did you mean --name"):
        command(packed)
    monkeypatch.setattr(sys, "argv", ["packed", "--output", ""])
    with pytest.raises(InputError, match="^output is empty; give it a value"):
        command(packed)


def measured(image: str, *, size: int = 1, by_hand: tuple[str, ...] = ()) -> str:
    """Measure an image.

    Args:
        image: the file.
        size: side of ``a`` square, see :func:`bundle.somewhere.square`.
        by_hand: no option.
    """
    return repr((image, size, by_hand))


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ("", r"^--image is missing; see measured --help$"),
        ("--size 2", r"^--image is missing; see measured --help$"),
        ("a b", r"^'b' is a word too many; see measured --help$"),
        ("a upper", r"^'upper' is a word too many"),  # fire alone would call that of the result
    ],
)
def test_a_word_missing_or_too_many_is_told_before_anything_runs(typed, said, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["measured", *typed.split()])
    with pytest.raises(InputError, match=said):
        command(measured, program="measured")
    assert capsys.readouterr().err == ""


def test_help_is_whole_and_in_words(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["measured", "--help"])
    command(measured, ["measured a.tif"], "measured", {"by_hand": ("x",)})
    text = capsys.readouterr().out
    assert "  measured --image IMAGE [--OPTION VALUE]" in text
    assert "  measured a.tif" in text
    assert "(whole number; default 1)" in text
    assert "side of a square, see square." in text
    assert "by_hand" not in text


def test_what_is_given_beside_is_no_option(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["measured", "a", "--size", "3"])
    command(measured, given={"by_hand": ("x",)})
    assert capsys.readouterr().out.strip() == "('a', 3, ('x',))"
    monkeypatch.setattr(sys, "argv", ["measured", "a", "--by_hand", "3"])
    with pytest.raises(InputError, match="--by_hand is not an option"):
        command(measured, given={"by_hand": ("x",)})
