"""Virtual stain against the stain of a consecutive section: nothing lies pixel on pixel, so regions are compared."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from bundle.common.region import Region
from bundle.evaluation.unpaired.labelling_index import Nuclei, difference_interval, find_nuclei, index, wilson
from bundle.evaluation.unpaired.perceptual_hash import PerceptualHash, correlation, similarity
from bundle.evaluation.unpaired.tables import CARRIED
from bundle.images.stain_vectors import STAINS, densities

NO_PIXELS = (
    "Virtual and real stain are not compared pixel by pixel: the real one is of a consecutive section, whose cells are "
    "other cells and lie elsewhere, so SSIM or PSNR between the two would measure the distance of the sections."
)
COUNTS = ("positive", "nuclei")
STAINS_COMPARED = ("real", "virtual")
REGION_COLUMNS = (
    *("top", "left", "height", "width"),
    *(f"{stain}_{count}" for stain in STAINS_COMPARED for count in COUNTS),
    *(f"index_{stain}{end}" for stain in STAINS_COMPARED for end in ("", "_low", "_high")),
)

Row = dict[str, Any]


def division(shape: tuple[int, ...], side: float) -> tuple[int, int]:
    """Into how many rows and columns of equal blocks an image is divided, each about ``side`` px, at least 1 × 1."""
    rows, columns = (max(1, round(size / side)) for size in shape)
    return rows, columns


def blocks(shape: tuple[int, ...], number: tuple[int, int]) -> list[Region]:
    """Divide an image into equal blocks, every pixel in one of them, row by row.

    Args:
        shape: height and width of the image, px.
        number: of rows and columns of blocks.
    """
    tops, lefts = (
        np.linspace(0, size, count + 1).round().astype(int) for size, count in zip(shape, number, strict=True)
    )
    return [
        Region(int(top), int(left), int(bottom - top), int(right - left))
        for top, bottom in zip(tops, tops[1:], strict=False)
        for left, right in zip(lefts, lefts[1:], strict=False)
    ]


def hashed(virtual: np.ndarray, real: np.ndarray, perceptual_hash: PerceptualHash, side: float) -> list[Row]:
    """How alike virtual and real stain look, tile by tile (Liu et al. Table 1).

    Args:
        virtual: (3, H, W), uint8.
        real: (3, H', W'), uint8, of the same place; divided into as many tiles.
        perceptual_hash: gives the vector of a tile.
        side: of a tile, about, px.

    Returns:
        A row a tile: its place in the virtual stain, ``hash`` and ``hash_correlation``.
    """
    number = division(virtual.shape[1:], side)
    rows = []
    for one, other in zip(blocks(virtual.shape[1:], number), blocks(real.shape[1:], number), strict=True):
        vector, reference = perceptual_hash(one.cut(virtual)), perceptual_hash(other.cut(real))
        alike = {"hash": similarity(vector, reference), "hash_correlation": correlation(vector, reference)}
        rows.append({"top": one.top, "left": one.left, **alike})
    return rows


def nuclei_of(virtual: np.ndarray, real: np.ndarray, pixel_um: float, nucleus_um: float) -> dict[str, Nuclei]:
    """The nuclei of both stains, found by one rule; arguments as of :func:`.labelling_index.find_nuclei`."""
    return {"real": find_nuclei(real, pixel_um, nucleus_um), "virtual": find_nuclei(virtual, pixel_um, nucleus_um)}


def labelled(
    nuclei: Mapping[str, Nuclei],
    shapes: Mapping[str, tuple[int, int]],
    mask: np.ndarray | None,
    threshold: float,
    side: float,
) -> list[Row]:
    """The labelling index of virtual and real stain, region by region.

    Args:
        nuclei: of both stains, as of :func:`nuclei_of`.
        shapes: height and width of both images, px.
        mask: (H, W) of the virtual stain, bool; nuclei outside do not count, nor those of a real stain of its size.
        threshold: mean DAB density above which a nucleus is positive.
        side: of a region, about, px.

    Returns:
        A row a region: its place in the virtual stain, the counts, and the indices in % with their Wilson intervals.
    """
    number = division(shapes["virtual"], side)
    places = {stain: blocks(shape, number) for stain, shape in shapes.items()}
    rows: list[Row] = [dict(region._asdict()) for region in places["virtual"]]
    for stain in STAINS_COMPARED:
        found = nuclei[stain]
        counted = np.ones(len(found.rows), bool)
        if mask is not None and mask.shape == shapes[stain]:
            counted = found.inside(mask)
        for row, place in zip(rows, places[stain], strict=True):
            in_rows = (found.rows >= place.top) & (found.rows < place.top + place.height)
            in_columns = (found.columns >= place.left) & (found.columns < place.left + place.width)
            counts = found.counts(threshold, counted & in_rows & in_columns)
            row |= {f"{stain}_{name}": value for name, value in zip(COUNTS, counts, strict=True)}
            row |= in_percent(stain, *counts)
    return rows


def in_percent(stain: str, positive: int, nuclei: int) -> Row:
    """``index_<stain>`` and the ends of its interval, in %; None without nuclei."""
    share = index(positive, nuclei)
    low, high = wilson(positive, nuclei) or (None, None)
    names = (f"index_{stain}{end}" for end in ("", "_low", "_high"))
    return {name: None if value is None else 100 * value for name, value in zip(names, (share, low, high), strict=True)}


def pooled(rows: Sequence[Row], seed: int) -> Row:
    """The index of all regions together, and the difference of the two stains with its interval.

    The interval is over specimens or, if there is one specimen alone, over its regions.

    Args:
        rows: of :func:`labelled`, with ``specimen``.
        seed: of the bootstrap.

    Returns:
        ``regions``, ``specimens``, the counts, the indices and the difference, in %, each with ``_low`` and ``_high``.
    """
    specimens = list(dict.fromkeys(row["specimen"] for row in rows))
    several = len(specimens) > 1
    units = [[row for row in rows if row["specimen"] == each] for each in specimens] if several else [[r] for r in rows]
    counts = {
        stain: [tuple(sum(row[f"{stain}_{name}"] for row in unit) for name in COUNTS) for unit in units]
        for stain in STAINS_COMPARED
    }
    found: Row = {"regions": len(rows), "specimens": len(specimens)}
    for stain, each in counts.items():
        positive, nuclei = (sum(column) for column in zip(*each, strict=True))
        found |= {f"{stain}_positive": positive, f"{stain}_nuclei": nuclei, **in_percent(stain, positive, nuclei)}
    both = found["index_virtual"], found["index_real"]
    low, high = difference_interval(counts["virtual"], counts["real"], seed) or (None, None)
    ends = {"_low": low, "_high": high}
    found["index_difference"] = None if None in both else both[0] - both[1]
    return found | {f"index_difference{end}": None if value is None else 100 * value for end, value in ends.items()}


def carried(rgb: np.ndarray, channels: np.ndarray, names: Sequence[str], mask: np.ndarray | None) -> list[Row]:
    """Which channel of a translation carries which stain: Pearson's correlation of each with each.

    Args:
        rgb: (3, H, W), uint8, brightfield.
        channels: (C, H, W), any scale, of the same place: a translation of it, or what it is a translation of.
        names: of the channels.
        mask: (H, W), bool; None compares everywhere.

    Returns:
        A row a channel: ``channel``, and the correlation with the density of hematoxylin and of DAB; None where one
        of the two is even.
    """
    inside = np.ones(rgb.shape[1:], bool) if mask is None else mask
    stains = dict(zip(STAINS, densities(rgb), strict=True))
    rows: list[Row] = []
    for name, channel in zip(names, channels.astype(float), strict=True):
        row: Row = {"channel": name}
        for stain in CARRIED:
            one, other = channel[inside], stains[stain][inside]
            even = one.std() == 0 or other.std() == 0
            row[stain] = None if even else float(np.corrcoef(one, other)[0, 1])
        rows.append(row)
    return rows
