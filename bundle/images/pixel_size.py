"""How large pixels and voxels are, as files state it."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import tifffile

from bundle.common.errors import InputError

SAME = 0.01  # pixel sizes closer than 1 % are one: a scanner's calibration is no better
UM_PER_INCH = 25400.0
UM_PER_TIFF_UNIT = {2: UM_PER_INCH, 3: 10000.0}
UM_PER_UNIT = {
    **dict.fromkeys(("µm", "um", "micron", "microns", "micrometer", "micrometre"), 1.0),
    **dict.fromkeys(("nm", "nanometer", "nanometre"), 1e-3),
    **dict.fromkeys(("mm", "millimeter", "millimetre"), 1e3),
    **dict.fromkeys(("cm", "centimeter", "centimetre"), 1e4),
    **dict.fromkeys(("m", "meter", "metre"), 1e6),
    **dict.fromkeys(("in", "inch"), UM_PER_INCH),
}


def um_per(unit: str | None) -> float | None:
    """How many µm a unit of length is, as formats spell it; None if it is no unit of length."""
    spelled = (unit or "").strip().lower()
    return UM_PER_UNIT.get(spelled.replace("\\u00b5", "µ").replace("\N{GREEK SMALL LETTER MU}", "µ"))


def side_of(path: Path, row_um: float, column_um: float, way: str = "resample it, or mend what it states") -> float:
    """The one side of square pixels.

    Args:
        path: for the message.
        row_um: their height.
        column_um: their width.
        way: out, likewise.

    Raises:
        InputError: if they are no squares within 1 %.
    """
    if not abs(row_um / column_um - 1) <= SAME:
        raise InputError(f"{path} has pixels of {row_um:.6g}×{column_um:.6g} µm, not squares; {way}.")
    return column_um


def tiff_voxel_um(file: tifffile.TiffFile) -> tuple[float | None, float, float] | None:
    """The voxel size that a TIFF states: in OME metadata, else ImageJ's, else its resolution tags.

    Returns:
        (slice or None, row, column) spacing in µm; None if none is stated. Only OME and ImageJ state the first.
    """
    ome = _ome_voxel_um(file.ome_metadata) if file.is_ome else None
    if ome is not None:
        return ome
    tags = file.pages.first.tags
    column, row = (tags[name].value if name in tags else (0, 1) for name in ("XResolution", "YResolution"))
    if not all((*row, *column)):
        return None
    imagej: dict[str, Any] = (file.imagej_metadata if file.is_imagej else None) or {}
    unit_um = um_per(imagej.get("unit"))
    if unit_um is not None:  # ImageJ writes no spacing where it is 1, which is also what it has where nobody gave one
        spacing = float(imagej.get("spacing", 0.0))
        return abs(unit_um * spacing) or None, unit_um * row[1] / row[0], unit_um * column[1] / column[0]
    unit_um = UM_PER_TIFF_UNIT.get(int(tags["ResolutionUnit"].value) if "ResolutionUnit" in tags else 1)
    if unit_um is None or column[0] == column[1]:  # 1/1 is what writers put when they know none
        return None
    return None, unit_um * row[1] / row[0], unit_um * column[1] / column[0]


def _ome_voxel_um(xml: str | None) -> tuple[float | None, float, float] | None:
    """``PhysicalSizeZ``, ``Y`` and ``X`` of the first image of OME metadata, in µm; None without the latter two."""
    nodes = ElementTree.fromstring(xml or "<OME/>").iter()
    given = next((node.attrib for node in nodes if node.tag.endswith("Pixels")), {})
    sizes: list[float | None] = []
    for axis in "ZYX":
        unit_um = um_per(given.get(f"PhysicalSize{axis}Unit", "µm"))
        size = float(given.get(f"PhysicalSize{axis}", 0))
        sizes.append(unit_um * size if unit_um and size else None)
    return (sizes[0], sizes[1], sizes[2]) if sizes[1] and sizes[2] else None
