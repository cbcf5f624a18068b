"""Where the slices of a series lie, and whether that is an even, upright stack."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from bundle.common.errors import InputError
from bundle.images.dicom.headers import Header

PLACE = 0.1  # slices: how far one may be from its even place; scanners write positions rounded to a µm
DRIFT = 0.5  # pixels: how far the last slice may be beside the first
TURN = 1e-4  # how far direction cosines may differ between slices; a tenth of a pixel in a thousand
ROUNDED_MM = 0.01  # exporters round positions to a µm or to this; what is coarser is meant as it stands
FEW = 0.25  # of the steps: so many gaps of whole slices are slices missing, more are mixed spacing


def grid(headers: Sequence[Header]) -> tuple[list[int], float, np.ndarray]:
    """The order of slices along their normal, the step and the axes.

    Args:
        headers: of the slices, in any order.

    Returns:
        Places in ``headers`` in order; the distance of slices, mm; (3, 3), columns are the x, y and z axes, LPS.

    Raises:
        InputError: if these are not one even, upright stack of at least two slices; a line per fault.
    """
    faults = [*_differences(headers), *_copies(headers)]
    if faults:
        raise InputError("\n".join(faults))
    series = f"series {headers[0].one['SeriesInstanceUID']}"
    if len(headers) < 2:
        raise InputError(f"{series} has one slice, {headers[0].name}; a scan has at least 2.")
    row, column = headers[0].orientation
    normal = np.cross(row, column)
    normal /= np.linalg.norm(normal)
    positions = np.stack([header.position_mm for header in headers])
    heights = positions @ normal
    order = np.argsort(heights, kind="stable").tolist()
    in_order = [headers[place] for place in order]
    step = float((heights[order[-1]] - heights[order[0]]) / (len(order) - 1))
    rounding_mm = 0.0
    faults = _uneven(in_order, heights[order])
    numbered = _as_numbered(headers, heights, _rounding(positions) * np.abs(normal).sum()) if faults else None
    if numbered:
        order, step, rounding_mm = numbered
        in_order, faults = [headers[place] for place in order], []
    if not faults:
        faults = _tilted(in_order, normal, rounding_mm)
    if faults:
        raise InputError("\n".join(f"{series} {fault}" for fault in faults))
    return order, float(f"{step:.9g}"), np.stack([row, column, normal], axis=1)


def _rounding(positions: np.ndarray) -> float:
    """To what, mm, all coordinates are rounded; at most ROUNDED_MM, and 0 if to nothing that would matter."""
    units = (ROUNDED_MM, 0.001, 0.0001)
    return next((unit for unit in units if np.abs(np.rint(positions / unit) * unit - positions).max() < 1e-9), 0.0)


def _as_numbered(
    headers: Sequence[Header], heights: np.ndarray, rounding_mm: float
) -> tuple[list[int], float, float] | None:
    """Order and step of slices by what they say of them, where positions are rounded too coarsely to tell.

    Slices of 5 µm whose positions are written to 10 µm lie two at a place. They are even if their instance numbers
    count on without a gap, they state one step, and all positions are those of such a stack, rounded. A step of whole
    units is not changed by rounding, so that its positions are taken as they stand.

    Returns:
        Places in ``headers`` in order, the step and the rounding, mm; None if that is not so.
    """
    numbers = [header.number for header in headers if header.number is not None]
    steps = {header.step_mm for header in headers}
    step = steps.pop()
    if len(numbers) < len(headers) or steps or step is None or rounding_mm <= PLACE * step:
        return None
    order = np.argsort(numbers)
    if heights[order[-1]] < heights[order[0]]:
        order = order[::-1]
    counted = np.abs(np.diff(np.asarray(numbers)[order])) == 1
    units = step / rounding_mm
    off = heights[order] - step * np.arange(len(order))
    if not counted.all() or abs(units - round(units)) < 1e-6 or np.ptp(off) > rounding_mm * (1 + 1e-6):
        return None
    return order.tolist(), step, rounding_mm


def _differences(headers: Sequence[Header]) -> list[str]:
    """What is not the same in all slices and must be."""
    faults = []
    first = headers[0]
    for name, value in first.one.items():
        others = [header for header in headers if header.one[name] != value]
        if others:
            found = f"{others[0].name} has {others[0].one[name]}, {first.name} {value}"
            if name == "PatientID":  # not for a log
                found = f"{others[0].name} and {first.name} differ"
            faults.append(f"{name} is not the same in all slices: {found}; give the slices of one scan.")
    turned = [header for header in headers if np.abs(header.orientation - first.orientation).max() > TURN]
    if turned:
        axes = ["\\".join(f"{each:g}" for each in header.orientation.ravel()) for header in (turned[0], first)]
        faults.append(
            f"ImageOrientationPatient is not the same in all slices: {turned[0].name} has {axes[0]}, {first.name}"
            f" {axes[1]}; take {len(turned)} such slices out (a localizer?)."
        )
    return faults


def _copies(headers: Sequence[Header]) -> list[str]:
    """Slices that have a UID in common."""
    named: dict[str, str] = {}
    faults = []
    for header in headers:
        if header.uid in named:
            faults.append(f"{header.name} has the SOPInstanceUID of {named[header.uid]}, {header.uid}; remove one.")
        named.setdefault(header.uid, header.name)
    return faults[:3] + ([f"… and {len(faults) - 3} more of the kind."] if len(faults) > 3 else [])


def _at(header: Header) -> str:
    """``a.dcm (0, 0, 1.5 mm)``."""
    return f"{header.name} ({', '.join(f'{place:g}' for place in header.position_mm)} mm)"


def _uneven(headers: Sequence[Header], heights: np.ndarray) -> list[str]:
    """Slices at one place, slices missing, or uneven steps; heights (mm) ascend."""
    steps = np.diff(heights)
    usual = float(np.median(steps))
    twice = np.flatnonzero(steps <= PLACE * usual)
    if len(twice):
        first = int(twice[0])
        more = f", and {len(twice) - 1} more pairs" if len(twice) > 1 else ""
        pair = f"{_at(headers[first])} and {_at(headers[first + 1])}"
        return [f"has two slices at one position: {pair}{more}; give one scan, each slice once."]
    counts = np.rint(steps / usual)
    gaps = np.flatnonzero((counts > 1) & (np.abs(steps / usual - counts) <= 2 * PLACE)).tolist()
    if 0 < len(gaps) <= max(1, FEW * len(steps)) and len(steps) > 1:
        return [
            f"lacks {int(counts[gap]) - 1} slice{'s' * bool(counts[gap] > 2)} between {_at(headers[gap])} and"
            f" {_at(headers[gap + 1])}, where slices are {usual:g} mm apart; fetch it again, whole."
            for gap in gaps
        ]
    even = np.linspace(heights[0], heights[-1], len(heights))
    off = np.abs(heights - even)
    if off.max() > PLACE * usual or not np.isfinite(off).all():
        return [
            f"has slices {steps.min():g} to {steps.max():g} mm apart, {_at(headers[int(off.argmax())])} is out of an"
            " even step; only even steps can be stained, so resample the scan."
        ]
    return []


def _tilted(headers: Sequence[Header], normal: np.ndarray, rounding_mm: float) -> list[str]:
    """Whether the stack leans by more than its positions are rounded: its slices are not above each other."""
    way = headers[-1].position_mm - headers[0].position_mm
    beside = way - (way @ normal) * normal
    row_mm, column_mm = headers[0].pixel_mm
    across, down = headers[0].orientation @ beside
    if abs(across) <= max(DRIFT * column_mm, rounding_mm) and abs(down) <= max(DRIFT * row_mm, rounding_mm):
        return _wandering(headers, normal, max(2 * DRIFT * min(row_mm, column_mm), rounding_mm))
    angle = np.degrees(np.arctan2(np.linalg.norm(beside), way @ normal))
    return [
        f"is tilted: its last slice lies {np.linalg.norm(beside):g} mm beside its first, an angle of {angle:.2g}°"
        " (gantry tilt); resample it upright (dcm2niix does)."
    ]


def _wandering(headers: Sequence[Header], normal: np.ndarray, most_mm: float) -> list[str]:
    """Whether a slice lies beside the others, by more than may be."""
    ways = np.stack([header.position_mm - headers[0].position_mm for header in headers])
    beside = np.linalg.norm(ways - np.outer(ways @ normal, normal), axis=1)
    worst = int(beside.argmax())
    if beside[worst] <= most_mm:
        return []
    return [f"has {_at(headers[worst])} {beside[worst]:g} mm beside the first slice; give the slices of one scan."]
