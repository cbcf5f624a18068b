"""What two slides may be, and the lines that say why they may not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bundle.common.errors import InputError
from bundle.images.pixel_size import SAME
from bundle.images.slides import read_mask
from bundle.images.whole_slides import Section, open_section
from bundle.preparation.registration.checks import size_faults
from bundle.preparation.registration.two_slides.density import density, is_blank

LEAST_PX = 64  # of a slide along each axis, at the pair's pixel size
MOST_PX = 150_000_000  # of a slide at the pair's pixel size; both are held whole, some 15 bytes a pixel
POSITIVE = ("pixel_um", "source_pixel_um", "target_pixel_um")
PATHS = ("source", "target", "source_mask", "target_mask", "source_landmarks", "target_landmarks")


@dataclass(frozen=True)
class Slide:
    """A slide and where it may be compared.

    Attributes:
        role: ``source`` or ``target``.
        section: its file.
        mask: (R, C), bool, of any size, over all of it; None for everywhere.
    """

    role: str
    section: Section
    mask: np.ndarray | None

    def known(self, shape: tuple[int, ...]) -> np.ndarray:
        """The mask at another size, bool, by the nearest pixel."""
        if self.mask is None:
            return np.ones(shape, bool)
        rows, columns = (np.arange(new) * old // new for new, old in zip(shape, self.mask.shape, strict=True))
        return self.mask[np.ix_(rows, columns)]


def check_options(options: Mapping[str, Any]) -> None:
    """Refuse options that make no sense.

    Raises:
        InputError: with a line for each.
    """
    faults = size_faults(options, POSITIVE)
    if type(options["seed"]) is not int or options["seed"] < 0:
        faults.append(f"seed is {options['seed']!r}; give a whole number of at least 0.")
    if (options["source_landmarks"] is None) != (options["target_landmarks"] is None):
        faults.append("landmarks of one slide alone tell nothing; give --source_landmarks and --target_landmarks.")
    source, target = (Path(str(options[role])) for role in ("source", "target"))
    if source.exists() and target.exists() and source.samefile(target):
        faults.append(f"source and target are the same file, {source}; name two slides.")
    if faults:
        raise InputError("\n".join(faults))


def open_slide(role: str, path: str, pixel_um: float | None, mask: str | None) -> Slide:
    """Open one of the two slides.

    Raises:
        InputError: as :func:`bundle.images.whole_slides.open_section`, or if the mask has another shape.
    """
    try:
        section = open_section(Path(str(path)), pixel_um)
    except InputError as error:
        raise InputError(f"{role} {str(error).replace('--pixel_um', f'--{role}_pixel_um')}") from error
    if mask is None:
        return Slide(role, section, None)
    known = read_mask(str(mask))
    sides = [of_slide / of_mask for of_slide, of_mask in zip(section.shape, known.shape, strict=True)]
    if abs(sides[0] / sides[1] - 1) > 1 / min(known.shape) + 0.01:
        raise InputError(
            f"{role}_mask {mask} is {known.shape[0]}×{known.shape[1]} px, another shape than {section.path} "
            f"({section.shape[0]}×{section.shape[1]} px); draw it over the whole slide."
        )
    return Slide(role, section, known)


def pair_um(source: Slide, target: Slide, pixel_um: float | None) -> float:
    """The pair's pixel size: what was asked for, else the coarser slide's.

    Raises:
        InputError: if it is finer than a slide's, or a slide is too small or too large at it.
    """
    coarser = max((source, target), key=lambda slide: slide.section.pixel_um)
    least = coarser.section.pixel_um
    step = least if pixel_um is None else float(pixel_um)
    if step < least * (1 - SAME):
        raise InputError(
            f"pixel_um is {step:g}, finer than the {coarser.role}'s pixels of {least:g} µm ({coarser.section.path}); "
            f"give {least:g} or more."
        )
    for slide in (source, target):
        rows, columns = (int(size * slide.section.pixel_um / step) for size in slide.section.shape)
        if min(rows, columns) < LEAST_PX:
            raise InputError(
                f"{slide.role} {slide.section.path} is only {rows}×{columns} px of {step:g} µm; {LEAST_PX} along each "
                "side is the least that can be registered. Check the pixel sizes, or give a smaller --pixel_um."
            )
        if rows * columns > MOST_PX:
            fits = step * np.sqrt(rows * columns / MOST_PX)
            raise InputError(
                f"{slide.role} {slide.section.path} is {rows}×{columns} px of {step:g} µm, more than is held at once; "
                f"give --pixel_um {np.ceil(fits * 100) / 100:g} or more."
            )
    return step


def check_shown(slide: Slide, pixels: np.ndarray) -> np.ndarray:
    """The density (H, W) of a slide's pixels (3, H, W).

    Raises:
        InputError: if it shows nothing.
    """
    tissue = density(pixels)
    known = slide.known(tissue.shape)
    if is_blank(np.where(known, tissue, 0)):
        raise InputError(
            f"{slide.role} {slide.section.path} is blank: its densities spread by {tissue.std():.4f} only; check the "
            "file."
        )
    return tissue


def check_unlike(source: Slide, target: Slide, one: np.ndarray, other: np.ndarray) -> None:
    """Refuse two files with the same pixels.

    Raises:
        InputError: naming both.
    """
    if one.shape == other.shape and (one == other).all():
        raise InputError(f"{source.section.path} and {target.section.path} hold the same pixels; name two slides.")
