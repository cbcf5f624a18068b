"""Registered pairs of two slides in, a dataset of stain to stain out: nothing in them is bone, so nothing is scaled."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from bundle.common import palette
from bundle.common.atomic import write_json
from bundle.common.checks import listed
from bundle.common.errors import InputError
from bundle.common.html import fill, reduced, scale_bar
from bundle.data.datalist import DATALIST
from bundle.images.slides import write_slide
from bundle.preparation.pairs.page import outlined
from bundle.preparation.pairs.registered import Registration, read_images
from bundle.preparation.pairs.table import Row, splits_of

DATASET_PAGE, RECORD = "dataset.html", "preparation.json"
OWN_PAIRS = "own pairs"  # of a record: the dataset is of scripts.pairs, not of scripts.prepare
FOLDERS = ("source", "target", "mask")


def all_slides(root: Path, pairs: list[Registration]) -> bool:
    """Whether the pairs are of two slides each.

    Raises:
        InputError: if some are and others are not.
    """
    slides = [pair.name for pair in pairs if pair.slides]
    if slides and len(slides) < len(pairs):
        others = [pair.name for pair in pairs if not pair.slides]
        raise InputError(
            f"pairs {root} has pairs of two slides ({listed(slides)}) and of scan and section ({listed(others)}); put "
            "them into two folders, one dataset each."
        )
    return bool(slides)


def write_slide_pairs(
    folder: Path,
    name: str,
    pairs: list[Registration],
    rows: dict[str, Row],
    names: Mapping[str, str],
    left_out: Mapping[str, str],
) -> None:
    """Write the dataset: images as registered, masks of the field and what users drew, datalist, record and page.

    Args:
        folder: to fill.
        name: of the dataset.
        pairs: of two slides each.
        rows: where each belongs.
        names: what reports call source and target.
        left_out: pairs that are not taken, with the reason.

    Raises:
        InputError: with a line for each fault of the images.
    """
    faults: list[str] = []
    facts: dict[str, Any] = {}
    sections: list[dict[str, Any]] = []
    for pair in tqdm(pairs, desc="pairs", unit="pair", dynamic_ncols=True):
        try:
            images = read_images(pair.folder, slides=True)
        except InputError as error:
            faults.append(str(error))
            continue
        mask = images.field & images.manual
        if not mask.any():
            faults.append(f"{pair.name}: the mask is empty; check field.png and the drawn masks in {pair.folder}.")
            continue
        written = images.source, images.target, mask[None].astype(np.uint8) * 255
        for where, pixels in zip(FOLDERS, written, strict=True):
            write_slide(folder / where / f"{pair.name}.png", pixels, pair.voxel_um)
        facts[pair.name] = {
            "source": pair.volume,
            "target": pair.section,
            "accepted": "yes" if pair.accepted else "no",
            **pair.measures,
            "size_px": list(mask.shape),
            "mask_share": float(mask.mean()),
        }
        bar = scale_bar(mask.shape[1], pair.voxel_um)
        pictures = [
            reduced(outlined(image, mask, palette.MASK), f"{role} of {pair.name}", f"{role}; mask outlined", bar)
            for role, image in (("source", images.source), ("target", images.target))
        ]
        sections.append(
            {"name": pair.name, "pictures": pictures, "facts": list(_told(facts[pair.name], rows[pair.name]))}
        )
    if faults:
        raise InputError("\n".join(faults))
    modalities = {role: {"name": names[role], "channels": 3, "range": [0, 255]} for role in ("source", "target")}
    write_json(folder / RECORD, {"kind": "two slides", "left_out": dict(left_out), "pairs": facts})
    write_json(folder / DATALIST, {"pixel_um": pairs[0].voxel_um, **modalities, **splits_of(rows, FOLDERS)})
    values = {"title": f"Dataset: {name}", "left_out": left_out, "pairs": sections}
    (folder / DATASET_PAGE).write_text(fill("preparation/templates/slide_pairs.html", values), encoding="utf-8")


def _told(facts: Mapping[str, Any], row: Row) -> list[tuple[str, str]]:
    place = {key: value for key, value in asdict(row).items() if value is not None}
    words = {
        **facts,
        **place,
        "size_px": "×".join(map(str, facts["size_px"])),
        "mask_share": f"{facts['mask_share']:.0%}",
    }
    return [
        (key.replace("_", " "), f"{value:.3g}" if isinstance(value, float) else str(value))
        for key, value in words.items()
    ]
