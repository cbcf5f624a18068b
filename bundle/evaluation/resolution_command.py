"""Resolution of images by Fourier ring correlation, as typed."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from bundle.common.errors import InputError
from bundle.common.ids import SEED, fault_of
from bundle.common.kinds import NULL, above, between, either
from bundle.evaluation.resolution import RESOLUTION_THRESHOLD, flat_gain, resolution_px, ring_correlation, split_counts
from bundle.images.slides import read_slide

SIZE, SHARE = either(above(0), NULL), between(0, 1)


def resolution(
    *images: str,
    pixel_um: float | None = None,
    gain: float | None = None,
    flat: list[int] | tuple[int, ...] | None = None,
    offset: float = 0.0,
    threshold: float = RESOLUTION_THRESHOLD,
    between: bool = False,
    seed: int = 0,
) -> None:
    """Print the resolution of each image, or between two.

    One image is split into two by a coin for each count (Rieger et al. 2024), so its values must be counts with
    Poisson noise: (value − offset) / gain. The figure depends on the gain, so two images compare only where both gains
    are known. A sharp edge that a network invented counts as resolution, as one that is there does; only the
    correlation with another image of the same thing can tell (docs/results.md, Sharpness).

    Args:
        images: PNG, TIFF, NRRD or NIfTI; the mean of the channels is taken.
        pixel_um: pixel size; None takes the file's.
        gain: value of one count; must be given, or measured.
        flat: top, left, height and width in px of a uniform part of each image, to measure its gain on.
        offset: value of no count.
        threshold: of the correlation, 1/7 by default.
        between: correlate two images instead, by magnitude, since a stain can be a scan's negative.
        seed: of the coin.
    """
    if not images or (between and len(images) != 2):
        raise InputError(f"{len(images)} images given; name at least one, and two with --between.")
    checked = (
        ("pixel_um", pixel_um, SIZE),
        ("gain", gain, SIZE),
        ("threshold", threshold, SHARE),
        ("seed", seed, SEED),
    )
    if faults := [fault for name, value, kind in checked if (fault := fault_of(name, value, kind))]:
        raise InputError("\n".join(faults))
    slides = [read_slide(Path(path)) for path in images]
    grey = [slide.pixels.astype(np.float64).mean(0) for slide in slides]
    for path, slide in zip(images, slides, strict=True):
        if slide.pixels.min() == slide.pixels.max():
            raise InputError(f"{path} has one value, {slide.pixels.min()}, throughout; it resolves nothing.")
        if pixel_um is None and slide.pixel_um is None:
            raise InputError(f"{path} states no pixel size; pass --pixel_um.")
    if between:
        one, other = grey
        if one.shape != other.shape:
            raise InputError(f"{images[0]} is {one.shape} px and {images[1]} is {other.shape} px; register them first.")
        frequency, correlation = ring_correlation(one, other)
        _show(" and ".join(images), frequency, np.abs(correlation), threshold, pixel_um or slides[0].pixel_um)
        return
    if (gain is None) == (flat is None):
        raise InputError(
            "one image is split by its counts: pass --gain, the value of one count, or --flat [top,left,height,width], "
            "a uniform part to measure it on; or compare two images with --between."
        )
    if flat is not None and not (isinstance(flat, (list, tuple)) and [type(each) for each in flat] == [int] * 4):
        raise InputError(f"flat is {flat!r}; give [top,left,height,width] in px.")
    for path, slide, pixels in zip(images, slides, grey, strict=True):
        own = float(gain or 0) if flat is None else flat_gain(pixels, flat[0], flat[1], flat[2], flat[3], offset)
        counts = (pixels - offset) / own
        if counts.min() < 0:
            raise InputError(f"{path} has values below --offset {offset:g}, which cannot be counts; lower it.")
        halves = split_counts(counts, np.random.default_rng(seed))
        _show(f"{path}, gain {own:.3g}", *ring_correlation(*halves), threshold, pixel_um or slide.pixel_um)


def _show(name: str, frequency: np.ndarray, correlation: np.ndarray, threshold: float, pixel_um: float | None) -> None:
    period = resolution_px(frequency, correlation, threshold)
    print(f"{name}: {period * (pixel_um or 0):.2f} µm ({period:.2f} px) at FRC {threshold:.3f}")
