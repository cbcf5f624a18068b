"""Kinds of values that an id of a config may have."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bundle.common.values import is_number, is_text

MOST = 2**31 - 1


@dataclass(frozen=True)
class Kind:
    """What a value may be.

    Attributes:
        what: in words that follow "it must be".
        fits: whether a value is that.
        of_numbers: a numeral, which YAML and shells may give as text, is a number here.
    """

    what: str
    fits: Callable[[Any], bool]
    of_numbers: bool = False


def whole(least: int = 0, most: int | None = None) -> Kind:
    """A whole number; without ``most`` up to what 32 bits hold."""
    what = f"a whole number of at least {least}" if most is None else f"a whole number from {least} to {most}"
    return Kind(what, lambda value: type(value) is int and least <= value <= (most or MOST), of_numbers=True)


def number(least: float = 0, most: float = math.inf) -> Kind:
    """A finite number, ``least`` and ``most`` among them."""
    what = f"a number of at least {least:g}" if most == math.inf else f"a number from {least:g} to {most:g}"
    what = "a number" if least == -math.inf else what
    return Kind(what, lambda value: is_number(value) and least <= value <= most, of_numbers=True)


def above(least: float) -> Kind:
    """A finite number of more than ``least``."""
    return Kind(f"a number above {least:g}", lambda value: is_number(value) and value > least, of_numbers=True)


def between(low: float, high: float) -> Kind:
    """A number of more than ``low`` and less than ``high``."""
    what = f"a number above {low:g} and below {high:g}"
    return Kind(what, lambda value: is_number(value) and low < value < high, of_numbers=True)


def below(most: float) -> Kind:
    """A number of at least 0 and less than ``most``."""
    what = f"a number of at least 0 and less than {most:g}"
    return Kind(what, lambda value: is_number(value) and 0 <= value < most, of_numbers=True)


def one_of(*names: Any) -> Kind:
    """One of some words or numbers."""
    return Kind(
        f"one of {', '.join(map(str, names))}" if len(names) > 1 else str(names[0]),
        lambda value: type(value) is type(names[0]) and value in names,
        of_numbers=isinstance(names[0], int),
    )


def some_of(*names: str) -> Kind:
    """A list of some words, each once."""
    return Kind(
        f"a list of some of {', '.join(names)}",
        lambda value: (
            isinstance(value, (list, tuple))
            and 0 < len(value) == len(set(map(str, value)))
            and all(one in names for one in value)
        ),
    )


def numbers(
    what: str, least: float, lengths: tuple[int, ...] = (), ordered: bool = False, most: float = math.inf
) -> Kind:
    """A list of numbers from ``least`` to ``most``; any length if none is given."""

    def fits(value: Any) -> bool:
        if not isinstance(value, (list, tuple)) or not value or (lengths and len(value) not in lengths):
            return False
        fit = all(is_number(one) and least <= one <= most for one in value)
        return fit and (not ordered or list(value) == sorted(value))

    return Kind(what, fits)


def either(*kinds: Kind) -> Kind:
    """What fits one of several."""
    return Kind(
        ", or ".join(kind.what for kind in kinds),
        lambda value: any(kind.fits(value) for kind in kinds),
        any(kind.of_numbers for kind in kinds),
    )


def _is_axes(value: Any) -> bool:
    return isinstance(value, str) and 0 < len(value) == len(set(value)) and set(value) <= set("zyx")


def _is_path(value: Any) -> bool:
    if not isinstance(value, (str, Path)) or not str(value).strip():
        return False
    try:
        return b"\0" not in os.fsencode(value)
    except UnicodeEncodeError:
        return False


def _is_there(value: Any) -> bool:
    """Whether a device is one of this machine."""
    import torch  # here, as it takes seconds

    try:
        device = torch.device(value)
    except (RuntimeError, TypeError, ValueError):  # the last of numbers that no C type holds
        return False
    if device.type == "cuda":
        return (device.index or 0) < torch.cuda.device_count()
    return device.type == "cpu" or (device.type == "mps" and torch.backends.mps.is_available())


NULL = Kind("null", lambda value: value is None)
SWITCH = Kind("true or false", lambda value: isinstance(value, bool))
TEXT = Kind("text", is_text)
PATH = Kind("a path", _is_path)
PATHS = Kind(
    "a list of paths", lambda value: isinstance(value, (list, tuple)) and bool(value) and all(map(_is_path, value))
)
DEVICE = Kind("a device of this machine", _is_there)
CHECKPOINT = Kind(
    "latest, or best_ and the name of a term or metric",
    lambda value: isinstance(value, str) and re.fullmatch(r"latest|best_\w+", value) is not None,
)
AXES = Kind("'z', or several of z, y and x, such as 'zyx'", _is_axes)
NAMES = Kind(
    "names by name",
    lambda value: isinstance(value, Mapping) and all(is_text(one) for pair in value.items() for one in pair),
)
