"""A real section and its µCT slice brought together again after a known error (rat jaw, H&E, 10.2 µm).

The authors' µCT slice is an affine fit to the section (``microct_affine.png``) or a non-rigid one (``microct.png``).
The first is turned, shifted, stretched and sheared by known amounts, and :func:`planar.find_affine` is asked. Three
distances are printed, since the authors' affine fit is no truth: it lies a median 6.9 px from their non-rigid fit, and
the affine transform nearest to that lies 6.8 px from it.

- undone: from what is found without an error, median over the mask; the planted error that is left.
- start: from the authors' affine fit, median over the mask.
- fit: from the authors' non-rigid fit, by optical flow between their two slices, median over the tissue.

And the normalised correlation, over the tissue, of ``microct_affine.png``, so moved, with ``microct.png``.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from scipy.ndimage import gaussian_filter, label, map_coordinates
from skimage.registration import optical_flow_tvl1

from bundle.common.command_line import command
from bundle.images.slides import read_slide
from bundle.preparation.registration.planar import Planar, find_affine

MARGIN_PX = 60  # of the moved slice's frame, so that no error moves data out of it
ANGLE_DEG, SHIFT_PX, SCALE, SHEAR = 8.0, 25.0, 0.05, 0.03  # largest errors
EMPTY_PX = 50  # black places larger than this are no data
WHITE, TISSUE_BLUR_PX, TISSUE_SHARE = 225, 6, 0.4  # a section's tissue: mean of its colours, how even, how much


@dataclass(frozen=True)
class Jaw:
    """The pair and the authors' fits.

    Attributes:
        section: (3, H, W), uint8.
        source: (H, W), float, affine fit; NaN where it has no data.
        fitted: (H, W), float, non-rigid fit.
        mask: (H, W), bool, True where the pair may be compared.
        tissue: (H, W), bool, the mask's pixels that show tissue.
        flow: (2, H, W), px; the non-rigid fit's pixel p shows the affine fit at p + flow.
    """

    section: np.ndarray
    source: np.ndarray
    fitted: np.ndarray
    mask: np.ndarray
    tissue: np.ndarray
    flow: np.ndarray


@dataclass(frozen=True)
class Error:
    """A known affine error: the moved slice's pixel q from its middle shows the source at linear @ q + shift from its.

    Attributes:
        linear: (2, 2).
        shift: (2,), px.
    """

    linear: np.ndarray
    shift: np.ndarray


def main(dataset_dir: str, split: str = "train", seeds: int = 20) -> None:
    """Print a line for the pair as it is, one for each seed, and the medians.

    Args:
        dataset_dir: the pair's dataset.
        split: ``train`` or ``validation``, its folder.
        seeds: errors tried.
    """
    jaw = read_jaw(Path(dataset_dir) / split)
    alone = found_in(jaw, Error(np.eye(2), np.zeros(2)))
    print("| error | undone, px | start, px | fit, px: start, affine, warp | correlation: start, affine, warp |")
    print("|---|---|---|---|---|")
    rows = [measures(jaw, alone, alone)]
    print(_line("none", rows[0]), flush=True)
    for seed in range(seeds):
        rows.append(measures(jaw, found_in(jaw, random_error(seed)), alone))
        print(_line(f"seed {seed}", rows[-1]), flush=True)
    planted = np.array(rows[1:])
    for name, values in (("median", np.median(planted, 0)), ("least", planted.min(0)), ("most", planted.max(0))):
        print(_line(name, values))


def _line(name: str, values: np.ndarray) -> str:
    undone, start, *rest = values
    fit, correlation = " ".join(f"{value:.2f}" for value in rest[:3]), " ".join(f"{value:.4f}" for value in rest[3:])
    return f"| {name} | {undone:.2f} | {start:.2f} | {fit} | {correlation} |"


def read_jaw(folder: Path) -> Jaw:
    """Read the pair; black places in the source become NaN."""
    section = read_slide(folder / "histology.png").pixels
    affine, fitted = (
        read_slide(folder / f"{name}.png").pixels[0].astype(float) for name in ("microct_affine", "microct")
    )
    mask = read_slide(folder / "mask.png").pixels[0] > 0
    tissue = mask & (gaussian_filter((section.mean(0) < WHITE).astype(float), TISSUE_BLUR_PX) > TISSUE_SHARE)
    flow = np.stack(optical_flow_tvl1(fitted / 255, affine / 255, attachment=30, num_warp=20))
    return Jaw(section, np.where(_empty(affine), np.nan, affine), fitted, mask, tissue, flow)


def _empty(image: np.ndarray) -> np.ndarray:
    """Large black places."""
    places, _ = label(image == 0)
    large = np.bincount(places.ravel()) > EMPTY_PX
    large[0] = False
    return large[places]


def random_error(seed: int) -> Error:
    """A turn, shift, two scales and a shear, each uniform up to the largest."""
    rng = np.random.default_rng(seed)
    angle = np.deg2rad(rng.uniform(-ANGLE_DEG, ANGLE_DEG))
    rows, columns = 1 + rng.uniform(-SCALE, SCALE, 2)
    stretch = np.array([[rows, rng.uniform(-SHEAR, SHEAR)], [0, columns]])
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    direction, length = rng.uniform(0, 2 * np.pi), SHIFT_PX * np.sqrt(rng.random())
    return Error(turn @ stretch, length * np.array([np.cos(direction), np.sin(direction)]))


def moved_slice(source: np.ndarray, error: Error) -> np.ndarray:
    """The source (H, W) with an error, in a frame larger by ``MARGIN_PX`` on each side; NaN where it has no data."""
    middle = (np.array(source.shape) - 1) / 2
    size = tuple(side + 2 * MARGIN_PX for side in source.shape)
    places = np.indices(size) - (middle + MARGIN_PX)[:, None, None]
    places = np.tensordot(error.linear, places, 1) + (error.shift + middle)[:, None, None]
    return map_coordinates(source, places, order=1, cval=np.nan)


def found_in(jaw: Jaw, error: Error) -> tuple[np.ndarray, np.ndarray]:
    """Where the section's pixels lie in the unmoved source, (2, H, W) each: by the affine transform, and with warp."""
    found = find_affine(moved_slice(jaw.source, error), jaw.section, jaw.mask)
    middle = (np.array(jaw.mask.shape) - 1) / 2

    def back(planar: Planar) -> np.ndarray:
        from_middle = planar.places() - (middle + MARGIN_PX)[:, None, None]
        return np.tensordot(error.linear, from_middle, 1) + (error.shift + middle)[:, None, None]

    return back(replace(found, warp=np.zeros_like(found.warp))), back(found)


def measures(jaw: Jaw, found: tuple[np.ndarray, np.ndarray], alone: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    """Undone, start, three times fit, three times correlation, (8,); see the module."""
    start = np.indices(jaw.mask.shape).astype(float)
    fields = (start, *found)
    fit = [_apart(field, start + jaw.flow, jaw.tissue) for field in fields]
    undone, from_start = (_apart(found[0], other, jaw.mask) for other in (alone[0], start))
    return np.array([undone, from_start, *fit, *(correlation(jaw, field) for field in fields)])


def _apart(one: np.ndarray, other: np.ndarray, where: np.ndarray) -> float:
    """Median distance of two fields of places, px."""
    return float(np.median(np.hypot(*(one - other)[:, where])))


def correlation(jaw: Jaw, places: np.ndarray) -> float:
    """Normalised correlation over the tissue of the source at places (2, H, W) with the non-rigid fit."""
    moved = map_coordinates(jaw.source, places, order=1, cval=np.nan)
    known = jaw.tissue & np.isfinite(moved)
    return float(np.corrcoef(moved[known], jaw.fitted[known])[0, 1])


if __name__ == "__main__":
    command(main)
