"""Ids of the configs as options: their texts are those of ``docs/configuration.md``, and stand nowhere else."""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from bundle.common.command_line import option_of
from bundle.common.described import Option, plain
from bundle.common.errors import InputError
from bundle.common.home import HOME

PAGE = HOME / "docs" / "configuration.md"
HEADING = re.compile(r"^#{2,3} (.+)$", re.MULTILINE)
ROW = re.compile(r"^\| (`[^|]+`) \| ([^|]*) \| ([^|]*) \| (.+) \|$", re.MULTILINE)
LINK = re.compile(r"\[([^]]+)\]\(([^)#]*)(?:#[^)]*)?\)")


@functools.cache
def sections() -> dict[str, dict[str, Option]]:
    """The documented ids with a default, by the heading that they stand under, then by name."""
    parts = HEADING.split(PAGE.read_text(encoding="utf-8"))
    return {heading: _options(text) for heading, text in zip(parts[1::2], parts[2::2], strict=True)}


def _options(text: str) -> dict[str, Option]:
    options = {}
    for names, default, may_be, meaning in ROW.findall(text):
        for name in re.findall(r"`([^`]+)`", names):
            value = _words(default)
            given = None if value in ("", "null", "none") else value
            options[name] = Option(name, _words(may_be), _words(meaning), given)
    return options


def _words(text: str) -> str:
    """A cell without Markdown's marks; what a link says is followed by the page that it leads to."""

    def told(found: re.Match[str]) -> str:
        words, page = found.groups()
        return words if words == page else f"{words} (docs/{page or PAGE.name})"

    return plain(LINK.sub(told, text)).replace("\\|", "|").replace("**", "")


def options_of(
    headings: Iterable[str], left_out: Iterable[str] = (), only: Iterable[str] | None = None
) -> list[Option]:
    """The ids of some sections, in order, each once.

    Args:
        headings: how the sections' headings begin.
        left_out: ids that a command sets itself.
        only: those that are wanted; None for all.
    """
    found: dict[str, Option] = {}
    for heading in headings:
        for title, options in sections().items():
            if title.startswith(heading):
                found = {**options, **found}
    wanted = found if only is None else only
    return [found[name] for name in wanted if name not in left_out]


def ids_in(files: Iterable[str | Path]) -> list[str]:
    """The top-level ids of some configs.

    Raises:
        InputError: if a file cannot be read as a config.
    """
    names: dict[str, None] = {}
    for file in files:
        try:
            content = json.loads(Path(file).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise InputError(f"{file} cannot be read as a config: {error}") from error
        if not isinstance(content, dict):
            raise InputError(f"{file} is no config: it holds {type(content).__name__} where ids with values belong.")
        names |= dict.fromkeys(re.split("#|::", name.lstrip("+"))[0] for name in content)
    return [name for name in names if name != "imports"]


def parted(words: Sequence[str], own: Iterable[str]) -> tuple[list[str], list[str]]:
    """Part a command line into what the command takes and what goes to the config as it was typed.

    Args:
        words: without the program's name.
        own: the command's options.

    Returns:
        The command's words; those of the config: an id with its dashes, and its value.
    """
    mine: list[str] = []
    others: list[str] = []
    own = {*own, "help"}
    places = iter(range(len(words)))
    for place in places:
        word = words[place]
        name = option_of(word)
        if name is None or name in own or (name.startswith("no") and name[2:] in own) or word == "--":
            mine.append(word)
            if name in own and "=" not in word and place + 1 < len(words) and not words[place + 1].startswith("--"):
                mine.append(words[next(places)])
            continue
        if "=" in word:
            others += [word.split("=", 1)[0], word.split("=", 1)[1]]
        else:
            others.append(word)
            if place + 1 < len(words) and not words[place + 1].startswith("--"):
                others.append(words[next(places)])
    return mine, others


def names_of(words: Iterable[str]) -> list[str]:
    """The top-level ids that words of a config set."""
    return [re.split("#|::", word[2:].lstrip("+"))[0] for word in words if word.startswith("--")]


def value_of(words: Sequence[str], name: str) -> str | None:
    """What words of a config set an id to, the last time; None if they do not."""
    found = [value for word, value in zip(words, words[1:], strict=False) if word == f"--{name}"]
    return found[-1] if found else None
