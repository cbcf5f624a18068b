"""The page to judge a registration of two slides by: one over the other, edges, what shifts are left."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from bundle.common.html import fill, reduced, scale_bar
from bundle.common.palette import BLOCK, SHIFT
from bundle.preparation.registration.page import LONGER, checkerboard, draw_line, edges
from bundle.preparation.registration.two_slides.blocks import BLOCK_PX
from bundle.preparation.registration.two_slides.density import shrunk
from bundle.preparation.registration.two_slides.verdict import TOLD, WIDE_PX
from bundle.preparation.registration.warp import match_blocks

if TYPE_CHECKING:
    from bundle.preparation.registration.two_slides.images import SlidePair
    from bundle.preparation.registration.two_slides.run import Found

SHOWN_PX = 1000  # of the longer side of a picture


def write_page(name: str, pair: SlidePair, found: Found, facts: Mapping[str, Any]) -> str:
    """The page of one registration of two slides.

    Args:
        name: of the pair.
        pair: the result.
        found: how it was found.
        facts: what ``registration.json`` says.

    Returns:
        HTML that loads nothing.
    """
    factor = max(max(pair.field.shape) / SHOWN_PX, 1.0)
    source, target = (_small(image, factor) for image in (pair.source, pair.target))
    bar = scale_bar(source.shape[2], facts["pixel_um"] * factor)
    grey = np.rint(source.mean(0, keepdims=True)).astype(np.uint8)
    overlay = np.rint((source.astype(np.float32) + target) / 2).astype(np.uint8)
    pictures = [
        reduced(source, "the source", "source", bar),
        reduced(target, "the target on the source's grid", "target, registered", bar),
        reduced(checkerboard(source, target), "checkerboard of both", "checkerboard", bar),
        reduced(edges(grey, target), "edges of both", "edges: source red, target cyan, both white", bar),
        reduced(overlay, "mean of both", "both laid over one another", bar),
        reduced(
            left_shifts(found, pair, source, factor, facts["pixel_um"]),
            "local shifts that are left",
            f"local shifts that are left, drawn {LONGER} times as long",
            bar,
        ),
    ]
    sentence = found.verdict.sentence
    values = {
        "title": f"Two slides: {name}",
        "accepted": found.verdict.accepted,
        "verdict": f"{sentence[0].upper()}{sentence[1:]}.",
        "pictures": pictures,
        "figures": list(_figures(facts)),
        "models": [
            (
                model.name,
                f"{model.told:.3f}",
                f"{model.gain:+.4f} ± {model.error:.4f}" if np.isfinite(model.error) and model.error else "",
                "yes" if model.kept else "no",
            )
            for model in found.models
        ],
        "marks": [
            (name, f"{each['median_um']:.1f}", f"{each['ninety_percent_um']:.1f}")
            for name, each in facts.get("landmarks", {}).items()
            if isinstance(each, dict)
        ],
    }
    return fill("preparation/templates/two_slides.html", values)


def _small(image: np.ndarray, factor: float) -> np.ndarray:
    return np.stack([np.clip(np.rint(shrunk(channel, factor)), 0, 255).astype(np.uint8) for channel in image])


def left_shifts(found: Found, pair: SlidePair, source: np.ndarray, factor: float, pixel_um: float) -> np.ndarray:
    """The source, paler, with a line for the shift left at each block that tells enough."""
    both, model = found.both, found.model
    warp = model.warp if model.warp is not None else np.zeros((2, *both.shape))
    blocks = match_blocks(both.level, both.pose(model.placing), WIDE_PX, warp, BLOCK_PX)
    every = blocks.matches.reshape(-1, *blocks.matches.shape[2:])
    asked = every.max(0) - np.median(every, axis=0) > TOLD
    image = (255 - (255 - source.astype(np.int16)) // 2).astype(np.uint8)
    per_block = both.pixel_um / (pixel_um * factor)
    rows, columns = np.meshgrid(blocks.rows, blocks.columns, indexing="ij")
    for row, column, shift in zip(rows[asked], columns[asked], blocks.shifts[:, asked].T, strict=True):
        at = (np.array([row, column]) + 0.5) * per_block - np.array(pair.corner) / factor
        draw_line(image, at, at + shift * per_block * LONGER, SHIFT)
        draw_line(image, at - (0, 1), at + (0, 1), BLOCK)
    return image


def _figures(facts: Mapping[str, Any]) -> Iterable[tuple[str, str]]:
    rows, columns = facts["pair"]["rows_columns"]
    yield "pair", f"{rows}×{columns} px of {facts['pixel_um']:g} µm, {facts['pair']['common']:.0%} in both slides"
    side = ", one of the sections lies face down (mirrored)" if facts["mirrored"] else ""
    yield "turn", f"{facts['turn_deg']:.1f}°{side}"
    yield "scale", f"{facts['scale'][0]:.4f} to {facts['scale'][1]:.4f} (1 is the source's)"
    yield "kept", f"{facts['model']}, {facts['mutual_information']:.3f} nats per pixel in held-out squares"
    if "local_shifts_um" in facts:
        shifts = facts["local_shifts_um"]
        yield (
            "local shifts taken out",
            f"median {shifts['median']:.1f} µm, largest {shifts['largest']:.1f} µm, least Jacobian "
            f"{facts['least_jacobian']:.2f} (fold: 0)",
        )
