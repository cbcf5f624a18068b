"""Tables that people write by hand or export from a spreadsheet."""

from __future__ import annotations

import csv
from pathlib import Path

from bundle.common.errors import InputError


def open_table(file: Path, what: str = "table") -> tuple[list[str], csv.DictReader[str]]:
    """The heads of a table of UTF-8 text, between commas or semicolons, and its lines.

    Args:
        file: the table.
        what: how the user names it, for messages.

    Raises:
        InputError: if it is not there or no such text.
    """
    if not file.is_file():
        raise InputError(f"{what} {file} does not exist.")
    try:
        text = file.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{what} {file} cannot be read as UTF-8 text: {error}") from error
    first = text.partition("\n")[0]
    lines = csv.DictReader(text.splitlines(), delimiter=";" if first.count(";") > first.count(",") else ",")
    return [head.strip() for head in lines.fieldnames or []], lines
