"""Planes of volumes on a page, beside each other, with a slider along each axis."""

from __future__ import annotations

import io
import os
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import numpy as np
from PIL import Image

from bundle.common.html import Key, data_uri, scale_bar
from bundle.images.volumes.planes import ACROSS
from bundle.staining.pictures import written_length

AXES = "zyx"
SHOWN_PX = 440  # of the longest side of a volume on the screen
SIDE_BY_SIDE = 2  # volumes of that size; more are shown smaller
BUDGET = 6_000_000  # bytes of all frames, a third more on the page; 150 of a noisy scan take 3 MB at the best quality
QUALITIES = (80, 60, 40, 20)  # WebP; the first that keeps to the budget

SCRIPT = "staining/templates/viewer.js"


def viewer(
    volumes: Mapping[str, Sequence[np.ndarray]],
    places: Sequence[Sequence[int]],
    shape: Sequence[int],
    spacing_um: Sequence[float],
    pixel_um: float,
    keys: Mapping[str, Key] | None = None,
) -> Iterable[dict[str, Any]]:
    """Three rows, one for each axis: a slider and the plane there of each volume.

    Args:
        volumes: by name, the planes across z, y and x, each (N, H, W) or (N, H, W, 3), uint8.
        places: of the planes across z, y and x, voxels.
        shape: (Z, Y, X) of the volumes, voxels.
        spacing_um: their voxel size along (z, y, x), µm.
        pixel_um: pixel size of the planes, µm.
        keys: by name of a volume, what stands below it in place of a scale bar.

    Yields:
        What ``viewer.html`` names, of each axis.
    """
    encoded = encode(volumes)
    longest_um = max(size * step for size, step in zip(shape, spacing_um, strict=True))
    zoom = SHOWN_PX * min(1, SIDE_BY_SIDE / len(volumes)) * pixel_um / longest_um
    shares = [[100 * (place + 0.5) / size for place in along] for along, size in zip(places, shape, strict=True)]
    for axis, name in enumerate(AXES):
        down, along = ACROSS[axis]
        labels = [
            f"{name} = {place} of 0 to {shape[axis] - 1}, {written_length(place * spacing_um[axis])}"
            for place in places[axis]
        ]
        stacks = []
        for title, planes in volumes.items():
            height, width = planes[axis].shape[1:3]
            stacks.append(
                {
                    "title": title,
                    "shown_px": max(1, round(width * zoom)),
                    "width": width,
                    "height": height,
                    "bar": (keys or {}).get(title) or scale_bar(width, pixel_um),
                    "uris": map(data_uri, encoded[title][axis]),
                }
            )
        yield {
            "name": name,
            "plane": AXES[along] + AXES[down],
            "labels": labels,
            "shares": shares[axis],
            "middle": len(labels) // 2,
            "lines": [
                {"kind": kind, "of": AXES[other], "edge": edge, "share": _middle(shares[other])}
                for kind, edge, other in (("upright", "left", along), ("level", "top", down))
            ],
            "stacks": stacks,
        }


def encode(volumes: Mapping[str, Sequence[np.ndarray]], budget: int = BUDGET) -> dict[str, list[list[bytes]]]:
    """All frames as WebP, of one quality, the best with which they keep to a budget, or else the least.

    Args:
        volumes: as of :func:`viewer`.
        budget: bytes.

    Returns:
        By name and axis, the files.
    """
    for quality in QUALITIES:
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            files = {
                title: [list(pool.map(partial(_webp, quality=quality), frames)) for frames in planes]
                for title, planes in volumes.items()
            }
        if sum(len(file) for planes in files.values() for frames in planes for file in frames) <= budget:
            break
    return files


def _webp(frame: np.ndarray, quality: int) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(frame)).convert("RGB").save(buffer, "WEBP", quality=quality, method=4)
    return buffer.getvalue()


def _middle(values: Sequence[float]) -> float:
    return values[len(values) // 2]
