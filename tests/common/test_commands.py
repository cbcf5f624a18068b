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
