"""What a command still has to know: asked at a terminal, listed all at once elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from bundle.common.errors import InputError


@dataclass(frozen=True)
class Question:
    """One thing that is missing.

    Attributes:
        option: that gives it.
        why: what is missing and why it is not known, one line without a full stop.
        example: what the option may look like.
        read: turns text into the value; raises :class:`InputError` for what is none.
    """

    option: str
    why: str
    example: str
    read: Callable[[str], Any]


def answers(questions: Sequence[Question]) -> dict[str, Any]:
    """Ask each question in a line of its own, again until the answer is one.

    Returns:
        The answers by option.

    Raises:
        InputError: with a line for each question where nobody can be asked, or if the answers end.
    """
    if questions and not sys.stdin.isatty():
        raise InputError("\n".join(f"{each.why}; pass --{each.option} {each.example}" for each in questions))
    return {each.option: _answer(each) for each in questions}


def _answer(question: Question) -> Any:
    while True:
        try:
            text = input(f"{question.why}. {question.option}, such as {question.example}: ")
        except EOFError as error:
            raise InputError(f"{question.why}; pass --{question.option} {question.example}") from error
        try:
            return question.read(text.strip())
        except InputError as error:
            print(error)
