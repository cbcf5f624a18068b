"""What MONAI's notice at the start of every run means, in one line; said once."""

from __future__ import annotations

import sys

_told: list[str] = []


def explain(where: str) -> None:
    """Say what MONAI's notice of ``eval()`` means, unless that has been said.

    Args:
        where: the notice stands, ``above`` or ``below``.
    """
    if _told:
        return
    _told.append(where)
    print(
        f"note: MONAI's notice {where} comes with every run, as a config names code that is run. Worry only if a "
        "config or a trained bundle came from someone whom you would not let run a program here.",
        file=sys.stderr,
    )
