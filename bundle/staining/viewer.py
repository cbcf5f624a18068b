"""Planes of a volume on a page, two volumes beside each other, with a slider along each axis."""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping, Sequence
from html import escape

import numpy as np
from PIL import Image

from bundle.common.html import data_uri, scale_bar
from bundle.images.volumes.planes import ACROSS
from bundle.staining.pictures import written_length

AXES = "zyx"
SHOWN_PX = 440  # of the longest side of a volume on the screen
BUDGET = 6_000_000  # bytes of all frames, a third more on the page; 150 of a noisy scan take 3 MB at the best quality
QUALITIES = (80, 60, 40, 20)  # WebP; the first that keeps to the budget

CSS = """
[hidden] { display: none !important; }
.view { margin: 1.2rem 0 2rem; }
.pair { display: flex; align-items: flex-start; gap: .8rem 1.4rem; }
@media (max-width: 34rem) { .pair { flex-wrap: wrap; } }
.pair figure { max-width: 100%; }
.stack { position: relative; }
.stack i { position: absolute; pointer-events: none; background: var(--mark); opacity: .65; }
.stack i.upright { top: 0; bottom: 0; width: 1px; }
.stack i.level { left: 0; right: 0; height: 1px; }
.plain .stack i { display: none; }
.slider { display: flex; align-items: center; gap: .8rem; max-width: 58rem; }
.slider label { white-space: nowrap; }
.slider input { flex: 1; min-width: 0; height: 2.2rem; accent-color: var(--link); }
.where { margin: 0 0 .5rem; font-variant-numeric: tabular-nums; }
.picture { max-width: 52rem; margin-bottom: 1.6rem; }
.picture img, .views img { outline: 0; }
@media screen { .views { overflow-x: auto; } .views img { min-width: 44rem; } }
@media print { .slider, .lines { display: none; } .view { break-inside: avoid; } }
"""

SCRIPT = """
"use strict";
for (const view of document.querySelectorAll(".view")) {
  const slider = view.querySelector("input");
  const where = view.querySelector("output");
  const stacks = [...view.querySelectorAll(".stack")].map((stack) => stack.querySelectorAll("img"));
  const lines = document.querySelectorAll(`.stack i[data-of="${view.dataset.axis}"]`);
  const show = () => {
    const at = Number(slider.value);
    for (const images of stacks) images.forEach((image, number) => { image.hidden = number !== at; });
    const { label, share } = stacks[0][at].dataset;
    where.textContent = label;
    slider.setAttribute("aria-valuetext", label);
    for (const line of lines) line.style[line.className === "upright" ? "left" : "top"] = `${share}%`;
  };
  slider.addEventListener("input", show);
  slider.parentElement.hidden = false;
  show();
}
const drawn = document.getElementById("lines");
drawn.parentElement.hidden = false;
drawn.addEventListener("change", () => document.body.classList.toggle("plain", !drawn.checked));
"""


def viewer(
    volumes: Mapping[str, Sequence[np.ndarray]],
    places: Sequence[Sequence[int]],
    shape: Sequence[int],
    spacing_um: Sequence[float],
    pixel_um: float,
) -> Iterable[str]:
    """Three rows, one for each axis: a slider and the plane there of each volume.

    Without the script the middle planes are seen.

    Args:
        volumes: by name, the planes across z, y and x, each (N, H, W) or (N, H, W, 3), uint8.
        places: of the planes across z, y and x, voxels.
        shape: (Z, Y, X) of the volumes, voxels.
        spacing_um: their voxel size along (z, y, x), µm.
        pixel_um: pixel size of the planes, µm.

    Yields:
        HTML that needs ``CSS`` and ``SCRIPT``.
    """
    encoded = encode(volumes)
    zoom = SHOWN_PX * pixel_um / max(size * step for size, step in zip(shape, spacing_um, strict=True))
    shares = [[100 * (place + 0.5) / size for place in along] for along, size in zip(places, shape, strict=True)]
    yield '<p class="lines" hidden><input type="checkbox" id="lines" checked> '
    yield '<label for="lines">Lines show where the other two planes lie.</label></p>'
    yield "<noscript><p>The sliders need JavaScript; without it, the middle planes are shown.</p></noscript>"
    for axis, name in enumerate(AXES):
        down, along = ACROSS[axis]
        plane = AXES[along] + AXES[down]
        labels = [
            f"{name} = {place} of 0 to {shape[axis] - 1}, {written_length(place * spacing_um[axis])}"
            for place in places[axis]
        ]
        middle = len(labels) // 2
        crossing = [("upright", "left", along), ("level", "top", down)]
        lines = "".join(
            f'<i class="{kind}" data-of="{AXES[other]}" style="{edge}:{_middle(shares[other]):.3f}%"></i>'
            for kind, edge, other in crossing
        )
        yield f'<div class="view" data-axis="{name}"><h3>Across {name}: {plane}</h3>'
        yield (
            f'<div class="slider" hidden><label for="slider-{name}">along {name}</label><input type="range" '
            f'id="slider-{name}" min="0" max="{len(labels) - 1}" step="1" value="{middle}" autocomplete="off"></div>'
            f'<p class="where"><output for="slider-{name}" aria-live="off">{labels[middle]}</output></p>'
        )
        yield '<div class="pair">'
        for title, planes in volumes.items():
            height, width = planes[axis].shape[1:3]
            images = "\n".join(
                _frame(content, (width, height), f"{title}, {plane} plane at {label}", label, share, number == middle)
                for number, (content, label, share) in enumerate(
                    zip(encoded[title][axis], labels, shares[axis], strict=True)
                )
            )
            yield (
                f'<figure style="width:{max(1, round(width * zoom))}px"><div class="stack">{images}{lines}</div>'
                f"<figcaption>{scale_bar(width, pixel_um)}{escape(title)}</figcaption></figure>"
            )
        yield "</div></div>"


def encode(volumes: Mapping[str, Sequence[np.ndarray]], budget: int = BUDGET) -> dict[str, list[list[bytes]]]:
    """All frames as WebP, of one quality, the best with which they keep to a budget, or else the least.

    Args:
        volumes: as of :func:`viewer`.
        budget: bytes.

    Returns:
        By name and axis, the files.
    """
    for quality in QUALITIES:
        files = {
            title: [[_webp(frame, quality) for frame in frames] for frames in planes]
            for title, planes in volumes.items()
        }
        if sum(len(file) for planes in files.values() for frames in planes for file in frames) <= budget:
            break
    return files


def _webp(frame: np.ndarray, quality: int) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(frame)).convert("RGB").save(buffer, "WEBP", quality=quality, method=4)
    return buffer.getvalue()


def _frame(content: bytes, size: tuple[int, int], alt: str, label: str, share: float, shown: bool) -> str:
    # decoded before it is shown, so that moving a slider does not flicker
    return (
        f'<img src="{data_uri(content)}" alt="{escape(alt)}" width="{size[0]}" height="{size[1]}" decoding="sync" '
        f'data-label="{label}" data-share="{share:.3f}"{"" if shown else " hidden"}>'
    )


def _middle(values: Sequence[float]) -> float:
    return values[len(values) // 2]
