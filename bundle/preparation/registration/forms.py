"""The forms of ``scripts.register``: a section in a scan, two slides, and a table of either."""

from __future__ import annotations

import inspect
from collections.abc import Sequence

from bundle.common.errors import InputError
from bundle.preparation.registration.run import register
from bundle.preparation.registration.two_slides.run import register_slides

SCAN, SLIDES = ("volume", "section"), ("source", "target")


def is_of_table(words: Sequence[str]) -> bool:
    """Whether a command line, without the program's name, means a table of registrations."""
    return any(word.split("=")[0] == "--table" for word in words)


def is_of_slides(words: Sequence[str]) -> bool:
    """Whether a command line means two slides.

    Args:
        words: of the command line, without the program's name.

    Returns:
        Whether it names a source or a target; else it is a section in a scan, if anything.

    Raises:
        InputError: if it mixes the two.
    """
    named = [word[2:].split("=")[0].replace("-", "_") for word in words if word.startswith("--")]
    scan, slides = ([name for name in names if name in named] for names in (SCAN, SLIDES))
    if scan and slides:
        raise InputError(
            f"--{scan[0]} belongs to a section in a scan (--volume SCAN --section SLIDE) and --{slides[0]} to two "
            "slides (--source SLIDE --target SLIDE); give one of the two."
        )
    if not slides:
        return False
    missing = [name for name in SLIDES if name not in named]
    if missing and "help" not in named:
        raise InputError(f"--{missing[0]} is missing; two slides are registered by --source SLIDE --target SLIDE.")
    other = set(inspect.signature(register).parameters) - set(inspect.signature(register_slides).parameters)
    strange = [name for name in named if name in other]
    if strange:
        raise InputError(
            f"--{strange[0]} belongs to a section in a scan (--volume SCAN --section SLIDE); two slides "
            "know no such option."
        )
    return True


def form_of(words: Sequence[str]) -> int:
    """Which form a command line means: 0 a section in a scan, 1 two slides, 2 a table.

    Args:
        words: of the command line, without the program's name.

    Raises:
        InputError: if it mixes the first two.
    """
    return 2 if is_of_table(words) else int(is_of_slides(words))
