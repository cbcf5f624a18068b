"""What may be registered, and the lines that say why something may not."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bundle.common.command_line import as_bool
from bundle.common.errors import InputError
from bundle.common.values import is_number
from bundle.images.finite import FILL, nan_faults
from bundle.images.volumes.geometry import SAME
from bundle.images.volumes.volume import Volume
from bundle.images.whole_slides import Section
from bundle.preparation.registration.pair import Pair

LEAST_VOXELS = 32  # of a scan and of a section along each axis
LARGER = 1.5  # times the scan's diagonal that a section may measure
EVEN = 3.0  # standard deviation below which grey levels show nothing
OVERLAP = 0.5  # of the section that must lie in the scan
PATHS = ("volume", "section", "guess", "volume_landmarks", "section_landmarks")
THICKEST_UM = 1000.0  # of a section
POSITIVE = ("voxel_um", "pixel_um", "guess_deg", "guess_um")


def size_faults(options: Mapping[str, Any], names: Sequence[str]) -> list[str]:
    """A line for each of these options that is given and no number above 0."""
    return [
        f"{name} is {options[name]!r}; it must be a number above 0."
        for name in names
        if options[name] is not None and not (is_number(options[name]) and options[name] > 0)
    ]


def check_numbers(options: Mapping[str, Any]) -> None:
    """Refuse sizes that are none.

    Raises:
        InputError: with a line for each.
    """
    faults = size_faults(options, POSITIVE)
    sizes = options["scan_voxel_um"]
    if sizes is not None:
        each = list(sizes) if isinstance(sizes, (list, tuple)) else [sizes] * 3
        if len(each) != 3 or not all(is_number(size) and size > 0 for size in each):
            faults.append(f"scan_voxel_um is {sizes!r}; give one size in µm, or three: z,y,x.")
    if not (is_number(options["slab_um"]) and 0 <= options["slab_um"] <= THICKEST_UM):
        faults.append(
            f"slab_um is {options['slab_um']!r}; give the thickness in µm, at most {THICKEST_UM:g}, or 0 for the plane "
            "alone."
        )
    if not is_number(options["turn_deg"]):
        faults.append(f"turn_deg is {options['turn_deg']!r}; give degrees.")
    if options["guess"] is None and (options["turn_deg"] or as_bool("mirrored", options["mirrored"])):
        faults.append("turn_deg and mirrored say how the section lies on a slice; name it with --guess z=… too.")
    if not isinstance(options["seed"], int) or options["seed"] < 0:
        faults.append(f"seed is {options['seed']!r}; give a whole number of at least 0.")
    if (options["volume_landmarks"] is None) != (options["section_landmarks"] is None):
        faults.append("landmarks of one image alone tell nothing; give --volume_landmarks and --section_landmarks.")
    if faults:
        raise InputError("\n".join(faults))


def voxel_sizes(sizes: Any) -> tuple[float, float, float] | None:
    """``scan_voxel_um`` as (z, y, x), µm."""
    if sizes is None:
        return None
    z, y, x = sizes if isinstance(sizes, (list, tuple)) else (sizes,) * 3
    return float(z), float(y), float(x)


def stamped(options: Mapping[str, Any], paths: tuple[str, ...] = PATHS) -> dict[str, Any]:
    """What was asked for, with size and time of the files, so that the same again is known."""
    request = dict(options)
    for name in paths:
        path = Path(str(options[name]))
        files = [path] if path.is_file() else sorted(each for each in path.rglob("*") if each.is_file())
        stats = [each.stat() for each in files] if options[name] is not None else []
        if stats:
            newest = max(status.st_mtime_ns for status in stats)
            request[f"{name}_stamp"] = [len(stats), sum(status.st_size for status in stats), newest]
    return json.loads(json.dumps(request, default=str))


def finished_before(folder: Path, result: Path, request: Mapping[str, Any]) -> bool:
    """Whether a folder holds this very registration.

    Raises:
        InputError: if it holds anything else.
    """
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return False
    if result.is_file():
        try:
            if json.loads(result.read_text(encoding="utf-8")).get("request") == request:
                return True
        except (json.JSONDecodeError, AttributeError):
            pass
        raise InputError(f"output {folder} holds another registration; name a new folder, or delete this one first.")
    raise InputError(f"output {folder} is there and is no registration; name a new folder.")


def crop_of(slide: Section, crop: Any) -> tuple[int, int, int, int]:
    """The part of the slide to register: top, left, height, width, in its own pixels.

    Raises:
        InputError: if it is not within the slide.
    """
    height, width = slide.shape
    if crop is None:
        return 0, 0, height, width
    whole = isinstance(crop, (list, tuple)) and len(crop) == 4 and all(isinstance(side, int) for side in crop)
    if not whole or min(crop[:2]) < 0 or min(crop[2:]) < 1 or crop[0] + crop[2] > height or crop[1] + crop[3] > width:
        raise InputError(
            f"crop is {crop!r}; give top,left,height,width in pixels within the slide's {height} rows, {width} columns."
        )
    return crop[0], crop[1], crop[2], crop[3]


def read_cropped(
    slide: Section, area: tuple[int, int, int, int], target_um: float
) -> tuple[np.ndarray, tuple[float, float]]:
    """The part of the slide at a pixel size, (3, H, W) uint8, and its corner, µm: the nearest of those pixels'."""
    pixels = slide.read(target_um)
    ratio = slide.pixel_um / target_um
    top, left = round(area[0] * ratio), round(area[1] * ratio)
    part = pixels[:, top : top + max(1, round(area[2] * ratio)), left : left + max(1, round(area[3] * ratio))]
    return part, (top * target_um, left * target_um)


def check_sizes(scan: Volume, slide: Section, area: tuple[int, int, int, int], step_um: float) -> None:
    """Refuse sizes that cannot belong together, before anything is read.

    Raises:
        InputError: if the section is coarser than the voxels, larger than the scan, or either is too small to tell.
    """
    if slide.pixel_um > step_um * (1 + SAME):
        raise InputError(
            f"{slide.path} has pixels of {slide.pixel_um:g} µm, larger than the voxels of {step_um:g} µm. Check "
            f"--pixel_um and --scan_voxel_um; if both are right, --voxel_um {slide.pixel_um:g} averages the scan."
        )
    scan_mm = [size * voxel / 1000 for size, voxel in zip(scan.shape, scan.geometry.spacing_um, strict=True)]
    section_mm = [side * slide.pixel_um / 1000 for side in area[2:]]
    if max(section_mm) > LARGER * float(np.linalg.norm(scan_mm)):
        raise InputError(
            f"{slide.path} is larger than the scan: {section_mm[0]:.3g}×{section_mm[1]:.3g} mm ({slide.pixel_um:g} µm "
            f"pixels) against {scan_mm[0]:.3g}×{scan_mm[1]:.3g}×{scan_mm[2]:.3g} mm ({scan.path}). Check --pixel_um "
            "and --scan_voxel_um, or cut the section out with --crop top,left,height,width."
        )
    for what, path, sides in (("scan", scan.path, scan_mm), ("section", slide.path, section_mm)):
        if min(sides) * 1000 / step_um < LEAST_VOXELS:
            counts = "×".join(f"{side * 1000 / step_um:.0f}" for side in sides)
            raise InputError(
                f"{path}: the {what} is only {counts} voxels of {step_um:g} µm; {LEAST_VOXELS} along each side is the "
                "least that can be registered. Check the sizes, or take smaller voxels."
            )


def check_images(scan: Volume, greys: np.ndarray, slide: Section, section: np.ndarray) -> None:
    """Refuse images that show nothing.

    Raises:
        InputError: naming the one.
    """
    sample = greys[:: max(1, len(greys) // 32)]
    faults = nan_faults(str(scan.path), greys, f"fill or crop them; {FILL}")
    if faults:
        raise InputError("\n".join(faults))
    if sample.min() == sample.max():
        raise InputError(f"{scan.path} is empty: every voxel seen is {sample.flat[0]:g}.")
    spread = float(section.mean(0).std())
    if spread < EVEN and float(section.std(axis=(1, 2)).max()) < EVEN:
        raise InputError(
            f"{slide.path} is empty: its grey levels spread by {spread:.1f} only; check the file, or --crop."
        )


def check_pair(pair: Pair, section: tuple[int, int], path: Path, dark_background: bool) -> None:
    """Refuse a pair that has too little in common, or whose section is inverted.

    Raises:
        InputError: naming what was found.
    """
    share = float(
        pair.field.sum() * abs(np.linalg.det(np.linalg.inv(pair.grid.pose.linear))) / (section[0] * section[1])
    )
    if share < OVERLAP:
        raise InputError(
            f"{path}: only {share:.0%} of the section lies in the scan where it fits best, so it probably "
            "belongs elsewhere; check the sizes, give a --guess, or cut the glass around the section off with --crop."
        )
    greys, light = pair.source[0][pair.field], pair.target.mean(0)[pair.field]
    low, high = np.percentile(greys, [10, 50])
    air, tissue = float(np.median(light[greys <= low])), float(np.median(light[greys >= high]))
    if air < tissue - EVEN and not dark_background:
        raise InputError(
            f"{path} looks inverted: where the scan is dark it has {air:.0f} and where the scan is bright {tissue:.0f} "
            "of 255, but a stain is dark on a bright background. Invert the image, or pass --dark_background true if "
            "that is meant."
        )
