"""Bone and background of a new scan, so that a trained network can stain it (§2.5)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from skimage.filters import threshold_otsu

from bundle.common.atomic import check_writable
from bundle.common.command_line import as_bool
from bundle.common.errors import InputError
from bundle.common.palette import BACKGROUND_REGION, BONE_REGION
from bundle.common.places import is_remote
from bundle.common.places import place as path_of
from bundle.common.values import is_number
from bundle.images.finite import nan_faults
from bundle.images.parts import eroded
from bundle.images.slides import read_slide, suffix_of, write_slide
from bundle.images.volumes.fill import Fill, find_fill, some_slices
from bundle.images.volumes.volume import described, open_unsized
from bundle.preparation.pairs.normalisation import SourceScale, source_scale
from bundle.preparation.pairs.page import outlined, shown_source
from bundle.preparation.pairs.proposal import (
    BACKGROUND,
    BONE,
    KEEP_OFF_PX,
    MODE_PX,
    SMOOTH_PX,
    mode,
    pieces,
    saturation,
    smoothed,
)
from bundle.preparation.pairs.rois import paint_rectangles, read_label_image, read_object

SHOWN = 3  # slices in the picture
# How far from background metal is, in units of bone (ours). Phantom titanium is 1.75 to 2.4; bone itself is 4 times and
# more as far as soft tissue, so an unknown body beyond 3 may be bone.
LEAST_METAL, MOST_METAL = 1.5, 3.0
LEAST_SHARE = 0.002  # of all voxels that a class must have


@dataclass(frozen=True)
class Sampled:
    """Some slices of a scan.

    Attributes:
        slices: (N, H, W), the scan's own type and grey values.
        places: which slices of the scan they are, from 0.
        fill: what lies outside the reconstruction circle, if one value does.
        scan: what was understood of it, in one line; empty for a slide.
    """

    slices: np.ndarray
    places: list[int]
    fill: Fill | None
    scan: str = ""

    @property
    def inside(self) -> np.ndarray:
        """Where there is a scan, (H, W) bool."""
        return np.ones(self.slices.shape[1:], bool) if self.fill is None else ~self.fill.outside


@dataclass(frozen=True)
class Found:
    """Regions in some slices, and the grey values they give.

    Attributes:
        labels: (N, H, W), uint8: 1 bone, 2 background.
        scale: the two means.
        metal: whether something brighter than bone was left out.
    """

    labels: np.ndarray
    scale: SourceScale
    metal: bool


def intensities(
    input: str,  # noqa: A002  the id of configs/inference.json
    rois: str | None = None,
    slice: int | None = None,  # noqa: A002
    metal: bool | None = None,
    output: str = "intensities.png",
) -> str:
    """Find the mean grey values of bone and of background in a scan, for ``configs/inference.json``.

    Args:
        input: a slide, or a scan of which some nine slices are read.
        rois: your own regions: JSON ``{"bone": [[top, left, height, width], …], "background": […]}``, with
            ``"slice": 120`` for a scan; or a label image (1 bone, 2 background). Without it they are proposed.
        slice: the slice of a scan, from 0, that ``rois`` was drawn on.
        metal: whether the scan shows metal brighter than bone (a titanium screw); without it grey values decide.
        output: a picture of the regions, to be looked at before the numbers are used.

    Returns:
        The two numbers, what they rest on, and the options to paste.

    Raises:
        InputError: if the scan or the regions cannot be read, or bone and background not told apart.
    """
    picture = Path(str(output))
    if picture.suffix.lower() != ".png":
        raise InputError(f"output is {picture}; name a .png file.")
    check_writable(picture.parent, "the folder of output")
    path = path_of(str(input))
    drawn = None if rois is None else Path(str(rois))
    if drawn is None:
        sampled = sample(path)
        with _naming(path):
            found = propose_alone(sampled.slices, None if metal is None else as_bool("metal", metal), sampled.inside)
    else:
        sampled = sample(path, _drawn_slice(drawn, slice))
        if len(sampled.slices) > 1:
            raise InputError(f"rois {drawn} says of no slice of {path} that it is drawn on it; pass --slice NUMBER.")
        labels = np.where(sampled.inside, _drawn_labels(drawn, sampled.slices.shape[1:]), 0).astype(np.uint8)
        with _naming(drawn):
            found = Found(labels[None], _scale(sampled.slices, labels[None]), False)
    write_slide(picture, picture_of(sampled, found))
    return summary(path, sampled, found, drawn, picture)


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Say of which file a fault is."""
    try:
        yield
    except InputError as error:
        raise InputError(f"{path}: {error}") from error


def sample(path: Path | str, place: int | None = None) -> Sampled:
    """Read a slide, or evenly spaced slices of a scan.

    Args:
        path: what :func:`bundle.images.slides.read_slide` or ``bundle.images.volumes.volume.open_volume`` reads.
        place: read only this slice of a scan.

    Returns:
        The slices, without those that hold one value only.

    Raises:
        InputError: if neither can read it, it has colour, or ``place`` is not in it.
    """
    path = path_of(path)
    if not is_slide(path):
        return _sample_volume(path, place)
    pixels = read_slide(path).pixels
    if len(pixels) != 1:
        raise InputError(f"{path} has {len(pixels)} channels; a scan has one.")
    return _sampled(path, pixels, [0])


def is_slide(path: Path) -> bool:
    """Whether a path is one 2D image rather than a scan; unreadable files count as slides, whose reader says why."""
    if is_remote(path):
        return False
    if not path.is_file() or not suffix_of(path):
        return not path.exists()
    with suppress(InputError):
        if len(read_slide(path).pixels) == 1:  # grey pages of a TIFF are channels to it, and slices to a scan's reader
            return True
    try:
        open_unsized(path)
    except InputError:
        return True
    return False


def _sample_volume(path: Path, place: int | None) -> Sampled:
    volume = open_unsized(path)
    depth = volume.shape[0]
    if place is not None and not 0 <= place < depth:
        raise InputError(f"slice is {place}, but {path} has slices 0 to {depth - 1}.")
    slices, places = some_slices(volume) if place is None else (volume.read(place, place + 1), [place])
    sampled = _sampled(path, slices, places)
    least, greatest = np.nanmin(slices), np.nanmax(slices)
    return replace(sampled, scan=described(volume, float(least), float(greatest), len(places)))


def _sampled(path: Path, slices: np.ndarray, places: list[int]) -> Sampled:
    sampled = Sampled(slices, places, find_fill(slices))
    faults = nan_faults(f"{path}, in the slices read,", slices[:, sampled.inside])
    if faults:
        raise InputError("\n".join(faults))
    return sampled


def propose_alone(slices: np.ndarray, metal: bool | None = None, inside: np.ndarray | None = None) -> Found:
    """Propose bone and background from grey values alone.

    Metal is left out (:func:`bone_and_metal`). Background is the darkest peak of what is dark, bone the highest of
    what is left, both away from edges. PEEK is as dark as soft tissue and stays out of bone by itself; **Mg has the
    grey of bone and counts as bone**: without a section the two cannot be told apart.

    Args:
        slices: (N, H, W), any units.
        metal: whether there is metal brighter than bone; None decides by grey.
        inside: (H, W), bool, where there is a scan; None for everywhere.

    Returns:
        Regions and means.

    Raises:
        InputError: if one of the two is not found.
    """
    end = saturation(slices)
    scanned = np.ones(slices.shape[1:], bool) if inside is None else inside
    smooth = np.stack([smoothed(plane, scanned, SMOOTH_PX) for plane in slices])
    wide = np.stack([smoothed(plane, scanned, MODE_PX) for plane in slices])
    low, high = np.percentile(smooth[:, scanned], (0.1, 99.9))
    if high <= low:
        raise InputError("the slices hold one grey value only, so no bone can be found.")
    bright, metallic = bone_and_metal(smooth, low, high, metal, scanned)
    areas = {BONE: bright & ~metallic, BACKGROUND: ~bright & scanned}
    labels = np.zeros(slices.shape, np.uint8)
    for value, area in areas.items():
        inner = np.stack([eroded(plane, KEEP_OFF_PX) for plane in area]) & (slices < end)
        if inner.sum() < LEAST_SHARE * inner.size:
            continue  # the region stays empty, which _scale reports
        centre, width = mode(wide[inner], highest=value == BONE)
        near = inner & (np.abs(wide - centre) <= 2 * width)
        labels[np.stack([pieces(plane) for plane in near])] = value
    return Found(labels, _scale(slices, labels), bool(metallic.any()))


def bone_and_metal(
    smooth: np.ndarray, low: float, high: float, metal: bool | None, inside: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """What is bright, and what of it is metal.

    Otsu's threshold may fall between bone and soft tissue, or, with titanium, between titanium and bone; so both sides
    are parted once more. Two neighbouring parts are bone and metal if both have an inside (the blurred rim of a bright
    body has none) and the brighter is 1.5 to 3 times as far from background.

    Args:
        smooth: (N, H, W), smoothed grey values.
        low: the lowest that counts.
        high: the highest that counts.
        metal: whether there is metal, if it is known; the upper limit of 3 does not hold then.
        inside: (H, W), bool, where there is a scan.

    Returns:
        Two (N, H, W) bool: bone and metal, and metal alone, which may be empty.
    """
    first = threshold_otsu(np.clip(smooth[:, inside], low, high))
    upper, lower = inside & (smooth > first), inside & (smooth <= first)
    none = np.zeros_like(upper)
    if metal is False or not lower.any() or not upper.any():
        return upper, none
    background, _ = mode(smooth[:, inside], highest=False, share=0.1)
    second = threshold_otsu(np.clip(smooth[upper], low, high))
    third = threshold_otsu(np.clip(smooth[lower], low, high))
    for above, below in ((upper & (smooth > second), upper & (smooth <= second)), (upper, lower & (smooth > third))):
        inner = [np.stack([eroded(plane, KEEP_OFF_PX) for plane in area]) for area in (above, below)]
        if min(area.sum() for area in inner) < LEAST_SHARE * smooth.size:
            continue
        metal_level, bone_level = (float(np.median(smooth[area])) - background for area in inner)
        most = np.inf if metal else MOST_METAL
        if bone_level > 0 and LEAST_METAL <= metal_level / bone_level <= most:
            return above | below, above
    return upper, none


def _scale(slices: np.ndarray, labels: np.ndarray) -> SourceScale:
    return source_scale(slices[labels == BONE], slices[labels == BACKGROUND])


def _drawn_slice(drawn: Path, stated: int | None) -> int | None:
    if drawn.suffix.lower() != ".json":
        return stated
    place: Any = read_object(drawn).get("slice", stated) if drawn.is_file() else stated
    if place is not None and not (is_number(place) and int(place) == place):
        raise InputError(f"{drawn}: slice is {place!r}; give the number of the slice, from 0.")
    return None if place is None else int(place)


def _drawn_labels(drawn: Path, shape: tuple[int, ...]) -> np.ndarray:
    if not drawn.is_file():
        raise InputError(f"rois {drawn} does not exist.")
    rows, columns = shape
    if drawn.suffix.lower() != ".json":
        return read_label_image(drawn, (rows, columns))
    faults: list[str] = []
    listed = {key: value for key, value in read_object(drawn).items() if key != "slice"}
    labels = paint_rectangles(listed, str(drawn), (rows, columns), faults)
    if faults:
        raise InputError("\n".join(faults))
    return labels


def picture_of(sampled: Sampled, found: Found) -> np.ndarray:
    """A few slices side by side with their regions outlined: orange bone, blue background, (3, H, W') uint8."""
    places = sorted({int(place) for place in np.linspace(0, len(sampled.slices) - 1, SHOWN).round()})
    shown = []
    for place in places:
        image = shown_source(sampled.slices[place], found.scale.background, found.scale.bone)
        for value, colour in ((BONE, BONE_REGION), (BACKGROUND, BACKGROUND_REGION)):
            image = outlined(image, found.labels[place] == value, colour)
        shown.append(image)
    return np.concatenate(shown, axis=2)


def one_valued(values: np.ndarray) -> bool:
    """Whether nine in ten values are one and the same."""
    return bool(np.unique(values, return_counts=True)[1].max(initial=0) > 0.9 * values.size)


def summary(path: Path, sampled: Sampled, found: Found, drawn: Path | None, picture: Path) -> str:
    """The two numbers and what they rest on, as text."""
    shares = {value: float((found.labels == value).mean()) for value in (BONE, BACKGROUND)}
    count = len(sampled.places)
    slices = "the slide" if count == 1 and sampled.places == [0] else f"slices {', '.join(map(str, sampled.places))}"
    lines = [
        *([sampled.scan] if sampled.scan else []),
        f"{path}, {slices}, regions {'proposed' if drawn is None else f'of {drawn}'}:",
        f"bone        {found.scale.bone:.6g}, from {shares[BONE]:.2%} of the voxels read",
        f"background  {found.scale.background:.6g}, from {shares[BACKGROUND]:.2%}",
    ]
    if sampled.fill is not None:
        lines.append(f"Left out: {sampled.fill}.")
    if sampled.fill is not None and np.isnan(sampled.fill.value):
        lines.append(
            f"configs/volume.json and scripts.register take NaN there with --fill_nan {found.scale.background:.6g}."
        )
    if drawn is None and one_valued(sampled.slices[found.labels == BACKGROUND]):
        lines.append(
            "Nearly all of background is one exact value; measured air has noise, so look whether it is a fill, and "
            "draw air yourself (--rois) if so."
        )
    if found.metal:
        lines.append("Something brighter than bone was taken for metal and left out.")
    elif drawn is None:
        lines.append("No metal was told from bone; if the scan shows a titanium screw, pass --metal true.")
    if drawn is None:
        lines.append(
            "Proposed from grey values alone: a magnesium screw has the grey of bone and may be part of “bone”; bone "
            f"with no air beside it has no background. Look at {picture} before you use them."
        )
    scale = found.scale
    lines.append(f"--bone_intensity {scale.bone:.6g} --background_intensity {scale.background:.6g}")
    return "\n".join(lines)
