"""How configs are written: the one place where text of data could become code to MONAI, and does not."""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bundle.common.atomic import write_json
from bundle.common.errors import InputError
from bundle.common.ids import CODE, WORDS
from bundle.common.values import is_text, shown

SIGNS = {"$": "for Python", "@": "for a reference", "%": "for a file to open"}
MEANT = re.compile("^[_+$@%]|#|::")  # of keys: components, additions, and ids of more levels
RELATIVE = re.compile("[@%]::")


def is_relative(text: str) -> bool:
    """Whether MONAI finds a relative id in text, in which it first writes each # as ::."""
    return RELATIVE.search(text.replace("#", "::")) is not None


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
    if is_relative(value):
        told = "in a config MONAI takes @ and % before # and :: for relative ids: leave one out."
        return f"{what} is {shown(value)}; {told}"
    if value[:1] not in SIGNS:
        return None
    return (
        f"{what} is {shown(value)}; in a config MONAI takes text that begins with {value[0]} {SIGNS[value[0]]}: "
        "begin it with a letter."
    )


def as_text(value: Any, what: str = "") -> Any:
    """The same value, once no text in it means anything to MONAI: for all that a config is given of a dataset.

    Args:
        value: text, numbers, lists and dictionaries of them.
        what: its place, for the message; none for a dictionary whose keys say it.

    Raises:
        InputError: naming the first text that a config would run, refer with or open, or the first key that would
            make a component of its object or set another id.
    """
    if fault := config_fault(what, value):
        raise InputError(fault)
    if isinstance(value, dict):
        for key, each in value.items():
            if not isinstance(key, str) or MEANT.search(key):
                raise InputError(f"{what or 'it'} has the key {shown(key)}, which means something to MONAI: rename it.")
            as_text(each, f"{what}.{shown(key)[1:-1]}".lstrip("."))
    elif isinstance(value, (list, tuple)):
        for place, each in enumerate(value):
            as_text(each, f"{what}[{place}]")
    return value


def as_path(value: Any) -> Any:
    """The same path, or list of them, written so that it is a path to MONAI and to its command line.

    A name may begin with what MONAI takes for code or what fire takes for an option, or be a word such as ``null``.
    """
    if isinstance(value, (list, tuple)):
        return [as_path(each) for each in value]
    if isinstance(value, str) and (value.startswith((*CODE, "-")) or value in WORDS):
        return f"./{value}"
    return value


def check_names(names: Mapping[str, str]) -> None:
    """See that options which name a scan or a stain are names, and mean nothing to MONAI.

    Raises:
        InputError: naming the first that is none.
    """
    for option, name in names.items():
        if not is_text(name):
            raise InputError(f"{option} is {shown(name)}; it must be a name.")
    as_text(dict(names))


def write_config(path: Path, own: Mapping[str, Any], data: Mapping[str, Any] | None = None) -> None:
    """Write what MONAI will read as a config or its metadata; nothing else in this package writes any.

    Args:
        path: the file.
        own: what a config of this package, or of the run itself, says; code in it is meant.
        data: what comes of a dataset or an option, by id, ``#`` between its levels: never code.

    Raises:
        InputError: if text in ``data`` means anything to MONAI; nothing is written.
    """
    content = copy.deepcopy(dict(own))
    for name, value in (data or {}).items():
        *parents, last = name.split("#")
        place = content
        for parent in parents:
            place = place[parent]
        place[last] = as_text(value, name)
    write_json(path, content)
