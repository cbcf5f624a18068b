"""Tables for a terminal: what files hold as Markdown, in plain aligned columns."""

from __future__ import annotations

import re
import shutil
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from functools import partial

WIDTH = 80  # columns of a terminal that does not say how many it has
GAP = "  "
LEAST = 8  # characters of a head, before it is broken
WIDE = 20  # characters, of a column of names that is not repeated
NUMBER = re.compile(r"[−-]?[\d.]+(?:\s*[±[(–].*)?|[−-]?inf|∞|–|not computed|not defined")
BESIDE = re.compile(r"\s*[\[(].*")  # beside a figure

Rows = Sequence[Sequence[str]]


def plain(text: str, width: int | None = None) -> str:
    """A text whose Markdown tables are columns, and whose paragraphs are broken into lines.

    Columns that do not fit beside each other go below, the first of each line again before them. A word that is wider
    than the terminal stays whole.

    Args:
        text: Markdown: paragraphs, headings, tables with pipes.
        width: characters of a line; None for what the terminal has.

    Returns:
        Text without pipes and asterisks.
    """
    room = width or shutil.get_terminal_size((WIDTH, 24)).columns
    return "\n".join(line for part in _parts(text.splitlines()) for line in _lines(part, room)).rstrip()


def _parts(lines: Sequence[str]) -> Iterator[list[str]]:
    """Runs of lines that are a table, and other lines one by one."""
    table: list[str] = []
    for line in lines:
        if line.startswith("|"):
            table.append(line)
            continue
        if table:
            yield table
        table = []
        yield [line]
    if table:
        yield table


def _lines(part: Sequence[str], room: int) -> Iterator[str]:
    if part[0].startswith("|"):
        yield from columns([_cells(line) for line in part if not re.fullmatch(r"[|\s:-]+", line)], room)
    else:
        line = part[0].removeprefix("### ").replace("**", "")
        indent = "  " if line.startswith("- ") else ""
        # commands and paths stay whole
        broken = textwrap.wrap(line, room, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)
        yield from broken or [""]


def _cells(line: str) -> list[str]:
    return [cell.strip().replace("**", "") for cell in line.strip().strip("|").split("|")]


def columns(rows: Rows, room: int = WIDTH) -> list[str]:
    """Rows of cells as aligned lines: numbers to the right, words to the left, the first row as heads above a rule.

    Args:
        rows: of equal length, the heads first. The first of several names is told once where it repeats.
        room: characters of a line. Where a table is wider, what stands in brackets beside a figure is left out first.

    Returns:
        Lines without spaces at their ends; a blank one between groups of columns that do not fit beside each other.
    """
    heads, body = rows[0], [list(row) for row in rows[1:]]
    right = [bool(body) and all(NUMBER.fullmatch(row[place]) for row in body) for place in range(len(heads))]
    names = next((place for place, number in enumerate(right) if number), len(heads))  # leading columns
    lines: list[str] = []
    if _taken(_widths(heads, body, right), range(len(heads))) > room:
        short = [[BESIDE.sub("", cell) if right[place] else cell for place, cell in enumerate(row)] for row in body]
        lines = textwrap.wrap("(to fit, without what stands in brackets beside a figure)", room) * (short != body)
        body = short
    widths = _widths(heads, body, right)
    for group in _groups(widths, names, room):
        broken = [textwrap.wrap(_bound(heads[place]), widths[place]) or [""] for place in group]
        tall = max(map(len, broken))
        lines += [""] * bool(lines)
        aligned = partial(_aligned, widths=[widths[place] for place in group], right=[right[place] for place in group])
        lines += map(aligned, zip(*([""] * (tall - len(head)) + head for head in broken), strict=True))
        lines.append(GAP.join("─" * widths[place] for place in group))
        before = ""
        for row in body:
            told = "" if names > 1 and row[0] == before else row[0]
            lines.append(aligned([told if place == 0 else row[place] for place in group]))
            before = row[0]
    return lines


def _widths(heads: Sequence[str], body: Rows, right: Sequence[bool]) -> list[int]:
    """Of each column: a head of numbers may be broken between words."""
    least = [
        max(min(LEAST, len(head)), *map(len, _bound(head).split(" "))) if number else len(head)
        for head, number in zip(heads, right, strict=True)
    ]
    return [max([width, *(len(row[place]) for row in body)]) for place, width in enumerate(least)]


def _bound(head: str) -> str:
    """A head whose arrows stay with the word before."""
    return re.sub(r"\s+([↑↓])", "\u00a0\\1", head)


def _taken(widths: Sequence[int], places: Iterable[int]) -> int:
    return sum(widths[place] + len(GAP) for place in places) - len(GAP)


def _groups(widths: Sequence[int], names: int, room: int) -> Iterator[list[int]]:
    """Which columns stand beside each other: names, and as many others as fit; wide names are told once."""
    leading, others = list(range(names)), list(range(names, len(widths)))
    if not others:
        yield leading
    while others:
        group = [*leading, others.pop(0)]
        while others and _taken(widths, [*group, others[0]]) <= room:
            group.append(others.pop(0))
        yield group
        leading = [place for place in leading if widths[place] <= WIDE]


def _aligned(cells: Sequence[str], widths: Sequence[int], right: Sequence[bool]) -> str:
    padded = (
        cell.rjust(width) if number else cell.ljust(width)
        for cell, width, number in zip(cells, widths, right, strict=True)
    )
    return GAP.join(padded).replace("\u00a0", " ").rstrip()
