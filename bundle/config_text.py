"""Text of data that is written into configs, where MONAI would take some of it for code."""

from __future__ import annotations

import re
from typing import Any

from bundle.errors import InputError

SIGNS = {"$": "for Python", "@": "for a reference", "%": "for a file to open"}
RELATIVE = re.compile("[@%](#|::)")


def config_fault(what: str, value: Any) -> str | None:
    """What is wrong with text of a dataset that a config will hold, if anything.

    MONAI evaluates a config's strings by their first character and replaces relative ids anywhere in them; none of that
    can be escaped.

    Args:
        what: the text's place, for the message.
        value: the text; what is no text is no fault.
    """
    if not isinstance(value, str):
        return None
    if RELATIVE.search(value):
        return f"{what} is {value!r}; in a config MONAI takes @ and % before # and :: for relative ids: leave one out."
    if value[:1] not in SIGNS:
        return None
    return (
        f"{what} is {value!r}; in a config MONAI takes text that begins with {value[0]} {SIGNS[value[0]]}: "
        "begin it with a letter."
    )


def as_text(value: Any, what: str = "") -> Any:
    """The same value, once no text in it means anything to MONAI: for all that a config is given of a dataset.

    Args:
        value: text, numbers, lists and dictionaries of them.
        what: its place, for the message; none for a dictionary whose keys say it.

    Raises:
        InputError: naming the first text that a config would run, refer with or open.
    """
    children: list[tuple[str, Any]] = []
    if isinstance(value, dict):
        children = [(f"{what}.{key}".lstrip("."), each) for key, each in value.items()]
    elif isinstance(value, (list, tuple)):
        children = [(f"{what}[{place}]", each) for place, each in enumerate(value)]
    fault = config_fault(what, value)
    if fault:
        raise InputError(fault)
    for place, each in children:
        as_text(each, place)
    return value
