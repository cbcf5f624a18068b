"""Grey values that a file stores packed, turned into what they stand for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from bundle.common.errors import InputError

CF = ("scale_factor", "add_offset")  # of the CF conventions, as netCDF, xarray and HDF5 writers put them
MISSING = ("_FillValue", "missing_value")  # likewise
EXACT = 2**24  # whole numbers up to here are exact in float32


@dataclass(frozen=True)
class Line:
    """What a stored value stands for: ``value · scale + offset``, NaN where it is ``missing``.

    Attributes:
        scale: factor.
        offset: added after it.
        missing: the stored value of voxels that hold nothing; None if there is none.
    """

    scale: float
    offset: float
    missing: float | None = None

    @property
    def is_nothing(self) -> bool:
        """Whether every stored value stands for itself."""
        return self.missing is None and (self.scale, self.offset) == (1.0, 0.0)


def in_real_values(pixels: np.ndarray, line: Line) -> np.ndarray:
    """Stored values as what they stand for, of the type of :func:`real_dtype`."""
    values = pixels.astype(np.float64) * line.scale + line.offset
    if line.missing is not None:
        values[pixels == line.missing] = np.nan
    return values.astype(real_dtype(pixels.dtype, line))


def real_dtype(stored: np.dtype, line: Line) -> np.dtype:
    """The smallest type for all real values there can be: whole where they stay so, else float32 or float64."""
    if stored.kind == "f":
        return np.dtype(stored).newbyteorder("=")
    info = np.iinfo(np.uint8 if stored.kind == "b" else stored)
    ends = sorted(end * line.scale + line.offset for end in (int(info.min), int(info.max)))
    if line.missing is None and line.scale.is_integer() and line.offset.is_integer():
        for each in (np.uint8, np.int16, np.uint16, np.int32):
            if np.iinfo(each).min <= ends[0] and ends[1] <= np.iinfo(each).max:
                return np.dtype(each)
    return np.dtype(np.float32 if max(abs(info.min), info.max) < EXACT else np.float64)


def cf_line(what: str, attributes: Mapping[str, Any]) -> Line | None:
    """The line that the CF conventions' attributes of an array state; None without any.

    Args:
        what: the file and array, for messages.
        attributes: of the array.

    Raises:
        InputError: if one is not a finite number.
    """
    if not any(name in attributes for name in (*CF, *MISSING)):
        return None
    numbers = {}
    for name in (*CF, *MISSING):
        if name not in attributes:
            continue
        value = np.asarray(attributes[name])
        if value.size != 1 or value.dtype.kind not in "uif" or not (np.isfinite(value).all() or name in MISSING):
            raise InputError(f"{what} has {name} {attributes[name]!r}, which is no number; store real values.")
        numbers[name] = float(value.ravel()[0])
    missing = next((numbers[name] for name in MISSING if name in numbers), None)
    return Line(numbers.get("scale_factor", 1.0), numbers.get("add_offset", 0.0), missing)
