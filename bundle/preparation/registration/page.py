"""The page to judge a registration by: section over scan, edges, the plane in the volume, what shifts are left."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from scipy.ndimage import binary_dilation, gaussian_filter, gaussian_gradient_magnitude
from skimage.draw import line_aa
from skimage.filters import threshold_otsu

from bundle.common.html import fill, reduced, scale_bar
from bundle.common.palette import BLOCK, OTHER_EDGES, SCAN_EDGES, SHIFT, UPPER_EDGE
from bundle.images.slides import to_8bit
from bundle.preparation.registration.pair import Grid, Pair
from bundle.preparation.registration.plane import Registration
from bundle.preparation.registration.pose import Pose
from bundle.preparation.registration.warp import Blocks

SQUARES = 8  # of the checkerboard along the longer side
SHOWN = (0.5, 99.5)  # percentiles of the grey values that become black and white
LONGER = 5  # times that arrows of local shifts are drawn
VIEWS = ("z", "y", "x")


def write_page(
    name: str,
    volume: np.ndarray,
    pair: Pair,
    facts: Mapping[str, Any],
    found: Registration,
    trace: Sequence[tuple[str, float, float, int]],
) -> str:
    """The page of one registration.

    Args:
        name: of the pair.
        volume: (Z, Y, X), what was registered to.
        pair: the result.
        facts: what ``registration.json`` says.
        found: the plane and what local shifts are left.
        trace: stage, seconds, nats per pixel, evaluations.

    Returns:
        HTML that loads nothing.
    """
    um = float(facts["voxel_um"])
    bar = scale_bar(pair.grid.shape[1], um)
    grey, colour = shown_grey(pair.source), pair.target
    pictures = [
        reduced(grey, "the scan in the plane", "µCT in the plane", bar),
        reduced(colour, "the section on the same grid", "section, registered", bar),
        reduced(
            outlined(colour, grey), "outlines of the scan over the section", "the scan's outlines on the section", bar
        ),
        reduced(checkerboard(grey, colour), "checkerboard of both", "checkerboard", bar),
        reduced(edges(grey, colour), "edges of both", "edges: µCT red, section cyan, both white", bar),
        reduced(
            arrows(colour, found.finished.blocks, found.finished.warp, pair.grid),
            "local shifts that the affine transform leaves",
            f"local shifts {'taken out' if 'refined' in facts else 'that are left'}, drawn {LONGER} times as long",
            bar,
        ),
    ]
    verdict = found.verdict
    values = {
        "title": f"Registration: {name}",
        "accepted": verdict.accepted,
        "verdict": f"{verdict.sentence[0].upper()}{verdict.sentence[1:]}.",
        "pictures": pictures,
        "planes": [reduced(image, alt, alt) for image, alt in in_volume(volume, pair.grid.pose, _half(found))],
        "figures": list(_figures(facts)),
        "trace": [(stage, f"{seconds:.1f}", f"{score:.3f}", count) for stage, seconds, score, count in trace],
    }
    return fill("preparation/templates/registration.html", values)


def _figures(facts: Mapping[str, Any]) -> Iterable[tuple[str, str]]:
    down, across = facts["scale"]
    rows, columns = facts["pair"]["rows_columns"]
    left = facts["local_shifts_px"]
    yield "pair", f"{rows}×{columns} px of {facts['voxel_um']:g} µm, {facts['pair']['common']:.0%} in both images"
    yield "scale", f"{down:.4f} along rows, {across:.4f} along columns (1 is the scan's)"
    yield "residual shear", f"{facts['shear']:.4f}"
    yield "mutual information", f"{facts['mutual_information']:.3f} nats per pixel"
    yield "local shifts", f"median {left['median']:.1f} px, largest {left['largest']:.1f} px"
    if "refined" in facts:
        yield (
            "refined",
            f"local shifts taken out; least Jacobian {facts['refined']['least_jacobian']:.2f} (fold: 0)",
        )
    if "landmarks" in facts:
        marks = facts["landmarks"]
        yield (
            "landmarks",
            f"{marks['count']}: median {marks['median_in_plane_um']:.1f} µm in the plane, "
            f"{marks['median_out_of_plane_um']:.1f} µm from it",
        )


def _half(found: Registration) -> np.ndarray:
    return (np.array(found.finished.slab.shape) - 1) / 2


def shown_grey(image: np.ndarray) -> np.ndarray:
    """Grey values for the eye, (1, H, W) → uint8, clipped at percentiles."""
    low, high = np.percentile(image, SHOWN)
    return to_8bit(image, float(low), float(max(high, low + 1e-9)))


def outlined(colour: np.ndarray, grey: np.ndarray) -> np.ndarray:
    """The section with the outline of what is bright in the scan, by Otsu's threshold."""
    smooth = gaussian_filter(grey[0].astype(np.float32), 1.5)
    bright = smooth > threshold_otsu(smooth)
    image = colour.copy()
    image[:, binary_dilation(bright) & ~bright] = np.array(SCAN_EDGES, np.uint8)[:, None]
    return image


def checkerboard(grey: np.ndarray, colour: np.ndarray) -> np.ndarray:
    """Squares of scan and section in turn."""
    height, width = grey.shape[1:]
    side = max(height, width) / SQUARES
    rows, columns = np.arange(height) // side, np.arange(width) // side
    return np.where((rows[:, None] + columns) % 2 == 0, np.broadcast_to(grey, colour.shape), colour)


def edges(grey: np.ndarray, colour: np.ndarray) -> np.ndarray:
    """Gradients: the scan's in red, the section's in green and blue."""
    strengths = [gaussian_gradient_magnitude(image.astype(np.float32), 1.5) for image in (grey[0], colour.mean(0))]
    scaled = [to_8bit(strength, 0.0, float(max(np.percentile(strength, 98), 1e-9))) for strength in strengths]
    return np.stack([scaled[0], scaled[1], scaled[1]])


def arrows(colour: np.ndarray, blocks: Blocks, warp: np.ndarray, pair: Grid) -> np.ndarray:
    """The section, paler, with a line for the shift left at each block that tells enough."""
    image = (255 - (255 - colour.astype(np.int16)) // 2).astype(np.uint8)
    rows, columns = np.meshgrid(blocks.rows, blocks.columns, indexing="ij")
    sure = blocks.weights > np.quantile(blocks.weights, 0.3)
    middle = (np.array(warp.shape[1:]) - 1) / 2
    for row, column in zip(rows[sure], columns[sure], strict=True):
        start = pair.pose.linear @ (np.array([row, column]) - middle) - (pair.top, pair.left)
        shift = pair.pose.linear @ warp[:, row, column] * LONGER
        draw_line(image, start, start + shift, SHIFT)
        draw_line(image, start - (0, 1), start + (0, 1), BLOCK)
    return image


def draw_line(image: np.ndarray, start: np.ndarray, end: np.ndarray, colour: tuple[int, int, int]) -> None:
    """Draw a line into (3, H, W), what lies outside left out."""
    rows, columns, weights = line_aa(*np.rint(start).astype(int), *np.rint(end).astype(int))
    inside = (rows >= 0) & (columns >= 0) & (rows < image.shape[1]) & (columns < image.shape[2])
    rows, columns, weights = rows[inside], columns[inside], weights[inside]
    for channel, value in enumerate(colour):
        image[channel, rows, columns] = image[channel, rows, columns] * (1 - weights) + value * weights


def in_volume(volume: np.ndarray, pose: Pose, half: np.ndarray) -> Iterable[tuple[np.ndarray, str]]:
    """A slice through the section's middle along each axis, with the section's outline as seen along that axis."""
    corners = pose.points(np.array([[-1, -1], [-1, 1], [1, 1], [1, -1]]) * half)
    at = np.clip(np.rint(pose.centre), 0, np.array(volume.shape) - 1).astype(int)
    low, high = np.percentile(volume[:: max(1, len(volume) // 16)], SHOWN)
    for axis, name in enumerate(VIEWS):
        flat = to_8bit(np.take(volume, at[axis], axis).astype(np.float32), float(low), float(max(high, low + 1e-9)))
        image = np.repeat(flat[None], 3, axis=0)
        seen = np.delete(corners, axis, axis=1)
        for number in range(4):
            draw_line(image, seen[number], seen[(number + 1) % 4], UPPER_EDGE if number == 0 else OTHER_EDGES)
        yield image, f"slice {name} = {at[axis]}; the section's outline as seen along {name}, its upper edge red"
