"""The page of a dataset of one's own pairs: whether edges fall together, pair by pair."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from bundle.common import palette
from bundle.common.html import fill, reduced, scale_bar
from bundle.images.slides import read_mask, read_slide
from bundle.preparation.pairs.page import outlined
from bundle.preparation.pairs.table import Row
from bundle.preparation.registration.page import checkerboard, edges, shown_grey


def own_page(
    name: str,
    listing: Mapping[str, Any],
    pairs: Mapping[str, Mapping[str, Path]],
    rows: Mapping[str, Row],
    told: Sequence[str],
    left_out: Sequence[str],
) -> str:
    """The page.

    Args:
        name: of the dataset.
        listing: what ``datalist.json`` declares.
        pairs: the files of each, by side; checked.
        rows: where each belongs.
        told: what was settled, a line each.
        left_out: what is in no pair, a line each.

    Returns:
        HTML that loads nothing.
    """
    sections = [
        _section(pair, files, rows[pair], listing)
        for pair, files in tqdm(pairs.items(), desc="page", unit="pair", dynamic_ncols=True)
    ]
    splits = [row.split for row in rows.values()]
    values = {
        "title": f"Dataset: {name}",
        "names": {side: listing[side]["name"] for side in ("source", "target")},
        "counts": {split: splits.count(split) for split in ("training", "testing")},
        "told": told,
        "left_out": left_out,
        "pairs": sections,
    }
    return fill("preparation/templates/own_pairs.html", values)


def _section(name: str, files: Mapping[str, Path], row: Row, listing: Mapping[str, Any]) -> dict[str, Any]:
    images = {side: read_slide(files[side]).pixels for side in ("source", "target")}
    grey = shown_grey(images["source"].mean(axis=0, keepdims=True, dtype=np.float64))
    stain = _in_eight_bits(images["target"], *listing["target"]["range"])
    mask = read_mask(files["mask"]) if "mask" in files else None
    bar = scale_bar(grey.shape[2], listing["pixel_um"])
    looks = {"source": np.repeat(grey, 3, axis=0), "target": stain}
    around = "" if mask is None else "; mask outlined"
    if mask is not None:
        looks = {side: outlined(image, mask, palette.MASK) for side, image in looks.items()}
    pictures = [
        *(
            reduced(image, f"{side} of {name}", f"{listing[side]['name']}{around}", bar)
            for side, image in looks.items()
        ),
        reduced(checkerboard(grey, stain), f"checkerboard of {name}", "checkerboard of both", bar),
        reduced(edges(grey, stain), f"edges of {name}", "edges: source red, target cyan, both white", bar),
    ]
    place = {key: str(value) for key, value in asdict(row).items() if value is not None}
    size = f"{grey.shape[1]}×{grey.shape[2]} px"
    share = {} if mask is None else {"mask": f"{mask.mean():.0%} of the image"}
    facts = {**place, "size": size, **share, "files": ", ".join(path.name for path in files.values())}
    return {"name": name, "pictures": pictures, "facts": list(facts.items())}


def _in_eight_bits(pixels: np.ndarray, low: float, high: float) -> np.ndarray:
    """A stain for the eye, (3, H, W) uint8."""
    if pixels.dtype == np.uint8 and (low, high) == (0, 255):
        return pixels
    return np.clip(np.rint((pixels.astype(np.float64) - low) * (255 / (high - low))), 0, 255).astype(np.uint8)
