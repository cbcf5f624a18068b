"""Files that have one trait of docs/formats.md each, and what another library reads of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

SHAPE = (6, 20, 24)
VOXELS = np.random.default_rng(0).integers(200, 5800, SHAPE).astype(np.uint16)
GREY: dict[str, Any] = {"photometric": "minisblack"}
SIGNED = VOXELS.astype(np.int16)  # NIfTI of 16 bits that all programs read


@dataclass(frozen=True)
class Case:
    """A file that has a trait.

    Attributes:
        write: makes it in a folder, and returns what is given as the scan.
        voxels: (Z, Y, X), what another library reads of it, or None where it is refused.
        spacing_um: (z, y, x); None where it must be given, as 7, 6, 5.
        origin_mm: (x, y, z).
    """

    write: Callable[[Path], Path | str]
    voxels: Callable[[Path], np.ndarray] | None = None
    spacing_um: tuple[float, float, float] | None = None
    origin_mm: tuple[float, float, float] = field(default=(0.0, 0.0, 0.0))


def truth(_: Path) -> np.ndarray:
    return VOXELS


CASES: dict[tuple[str, str], list[Case]] = {}  # by format and trait; each module here adds its own


def case(form: str, trait: str, *cases: Case) -> None:
    CASES[form, trait] = list(cases)
