"""What a value is that came from JSON, YAML or a command line, and how a message shows it."""

from __future__ import annotations

import math
import reprlib
import unicodedata
from collections.abc import Iterable
from typing import Any

LEAST_UM, MOST_UM = 1e-4, 1e4
LONG = 300  # characters
_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = 120
_SHORT.maxlevel, _SHORT.maxlist, _SHORT.maxtuple, _SHORT.maxdict = 3, 6, 6, 6


def shown(value: Any) -> str:
    """A value in a message: one line, not long however long or deep it is."""
    text = _SHORT.repr(value)
    return text if len(text) <= LONG else f"{text[: LONG - 1]}…"


def is_number(value: Any) -> bool:
    """Whether a value is a finite number that a float can hold."""
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:
        return False


def is_size_um(value: Any) -> bool:
    """Whether a value can be the side of a pixel or voxel in µm: no image of tissue has smaller or larger ones."""
    return is_number(value) and LEAST_UM <= value <= MOST_UM


def is_text(value: Any) -> bool:
    """Whether a value is text that a file can hold and a line can show: not empty, no control characters."""
    if not isinstance(value, str) or not value.strip():
        return False
    return not any(unicodedata.category(sign) in ("Cc", "Cs") for sign in value)


def first_spelling(names: Iterable[str]) -> dict[str, str]:
    """For each name, the first of those that :func:`same_text` takes for the same."""
    first: dict[str, str] = {}
    return {name: first.setdefault(same_text(name), name) for name in names}


def same_text(text: str) -> str:
    """What texts have in common that a reader takes for the same.

    Unicode's form and widths, case, blanks, and signs that are not seen, as word processors leave them, are set aside.
    """
    seen = "".join(sign for sign in text if unicodedata.category(sign) != "Cf")
    composed = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", seen).casefold())
    return " ".join(composed.split())
