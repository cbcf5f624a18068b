"""``--help`` of a command: whole, in plain columns, as wide as the terminal."""

from __future__ import annotations

import re
import shutil
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

from bundle.common.described import NOTHING, Described, Option

LEAST, MOST = 60, 110  # columns
NAMES = 24  # columns of the names


def width_of_terminal() -> int:
    """Columns to write in."""
    return max(LEAST, min(MOST, shutil.get_terminal_size((100, 24)).columns))


def help_of(
    command: Described,
    program: str,
    usage: str | None = None,
    examples: Sequence[str] = (),
    more: Sequence[tuple[str, Sequence[Option]]] = (),
    width: int | None = None,
) -> str:
    """The text of a command's ``--help``.

    Args:
        command: what its function says.
        program: the words that start it.
        usage: the words after them; by default made of the arguments.
        examples: whole lines.
        more: further groups of options, each with a heading.
        width: columns; None for the terminal's.
    """
    width = width or width_of_terminal()
    lines = [*wrapped(command.summary, width)]
    for paragraph in command.more.split("\n\n"):
        lines += ["", *wrapped(paragraph, width)] if paragraph else []
    lines += ["", "Usage:", *wrapped(f"{program} {usage or usage_of(command)}".strip(), width, "  ", "      ")]
    if examples:
        lines += ["", "Examples:" if len(examples) > 1 else "Example:"]
        for each in examples:
            lines += command_lines(each, width)
    bare = words_alone(usage or "")
    required = [option for option in command.options if option.required]
    others = [option for option in command.options if not option.required]
    for heading, options in (("Must be given:", required), ("Options:", others), *more):
        if options:
            lines += ["", *wrapped(f"{heading.removesuffix(':')}:", width)]
            for option in options:
                lines += option_lines(option, width, option.several or option.name in bare)
    return "\n".join(lines)


def usage_of(command: Described) -> str:
    """The words after a command's name."""
    needed = [option for option in command.options if option.required]
    words = [
        f"{option.name.upper()} [MORE]" if option.several else f"--{option.name} {value_of(option)}"
        for option in needed
    ]
    if len(needed) < len(command.options):
        words.append("[--OPTION VALUE]")
    return " ".join(words)


def words_alone(usage: str) -> set[str]:
    """Names of the arguments that a usage line has without an option before them."""
    words = usage.split()
    pairs = zip(["", *words], words, strict=False)
    return {word.lower() for before, word in pairs if word.isupper() and "--" not in before}


def value_of(option: Option) -> str:
    """What stands for an option's value in a usage line."""
    return option.name.upper()


def option_lines(option: Option, width: int, bare: bool = False) -> list[str]:
    """An option's name, what its value is, and what it means.

    Args:
        option: the option.
        width: columns.
        bare: its value is typed without its name.
    """
    name = option.name.upper() if bare else f"--{option.name}"
    about = option.kind
    if option.default is not NOTHING and option.default is not None:
        about += f"; default {in_text(option.default)}"
    body = [*wrapped(f"({about})" if about else "", width - NAMES), *wrapped(option.text, width - NAMES)]
    first = f"  {name}"
    if len(first) >= NAMES:
        return [first, *(" " * NAMES + line for line in body)]
    return [first.ljust(NAMES) + (body[0] if body else ""), *(" " * NAMES + line for line in body[1:])]


def in_text(value: Any) -> str:
    """A default as it would be typed."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (tuple, list)):
        return "[" + ", ".join("null" if each is None else in_text(each) for each in value) + "]"
    if isinstance(value, float):
        return f"{value:.6g}"
    return str(value)


def wrapped(text: str, width: int, first: str = "", rest: str | None = None) -> list[str]:
    """Lines of a paragraph; no word is cut or parted."""
    if not text:
        return []
    return textwrap.wrap(
        text,
        width,
        initial_indent=first,
        subsequent_indent=first if rest is None else rest,
        break_long_words=False,
        break_on_hyphens=False,
    )


def command_lines(text: str, width: int) -> list[str]:
    """A line to be pasted; where it is too long it goes on after a backslash, before an option."""
    parts = re.split(r" (?=--)", text)
    lines, line = [], f"  {parts[0]}"
    for part in parts[1:]:
        if len(line) + len(part) + 3 > width:
            lines.append(line + " \\")
            line = f"      {part}"
        else:
            line += f" {part}"
    return [*lines, line]


def columns(rows: Mapping[str, str], width: int, least: int = 0) -> list[str]:
    """Names with a text each, all texts from one column on."""
    indent = 2 + max([least, *map(len, rows)]) + 2
    lines = []
    for name, text in rows.items():
        body = wrapped(text, width - indent) or [""]
        lines += [f"  {name}".ljust(indent) + body[0], *(" " * indent + line for line in body[1:])]
    return lines
