"""What a trained bundle says of slices that are not like its training, and how wrong their stain really is.

Phantoms of ``python -m scripts.phantom``, whose truth is known. Each slice is stained as a slide by itself. What is
said of a slice of a volume, where the network is not asked for the slice's own statistics, stands beside it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from scipy.ndimage import gaussian_filter, zoom

from bundle.common.command_line import command
from bundle.common.verdicts import DOUBTFUL, LIKE, UNLIKE, Verdict
from bundle.staining.model import TrainedModel, load_model
from scripts.bench.reference import Phantom

THROUGH = (0.4, 0.45, 0.5, 0.55, 0.6)  # of the depth: slices through the screw
BESIDE, FAR = (0.23, 0.28, 0.72, 0.77), (0.06, 0.12, 0.88, 0.94)
BONE, AIR = 30000.0, 10000.0  # grey values of phantoms


class Slice(NamedTuple):
    """A slice and its truth: (H, W), (H, W, 3), and where its tissue is, (H, W)."""

    scan: np.ndarray
    truth: np.ndarray
    inside: np.ndarray


class Judged(NamedTuple):
    """What is said of a slice, and how it is: mean absolute error of its tissue, levels."""

    as_slide: Verdict
    in_volume: Verdict
    error: float
    expected: float


def scaled(factor: float) -> Callable[[Slice, float], Slice]:
    """A scan whose contrast to air is another, as at another energy."""
    return lambda given, noise: given._replace(scan=AIR + factor * (given.scan - AIR))


def flattened(given: Slice, noise: float) -> Slice:
    """Soft tissue nearer to bone, bone and air where they were: what grey values of both do not show."""
    share = (given.scan - AIR) / (BONE - AIR)
    return given._replace(scan=AIR + (BONE - AIR) * np.sign(share) * np.abs(share) ** 0.7)


def halved(given: Slice, noise: float) -> Slice:
    """Pixels of twice the size."""
    half = (0.5, 0.5)
    parts = zoom(given.scan, half, order=1), zoom(given.truth.astype(float), (*half, 1), order=1)
    return Slice(parts[0], parts[1], zoom(given.inside.astype(float), half, order=1) > 0.5)


def blurred(given: Slice, noise: float) -> Slice:
    """Half the resolution in as many pixels."""
    small = zoom(gaussian_filter(given.scan, 1.0), 0.5, order=1)
    return given._replace(scan=zoom(small, 2.0, order=1))


def inverted(given: Slice, noise: float) -> Slice:
    """Bone as dark as air, and air as bright as bone."""
    return given._replace(scan=BONE + AIR - given.scan)


def noisy(given: Slice, noise: float) -> Slice:
    """Three times the noise of its air."""
    more = np.sqrt(3.0**2 - 1) * noise
    return given._replace(scan=given.scan + np.random.default_rng(0).normal(0, more, given.scan.shape))


def air(given: Slice, noise: float) -> Slice:
    """Nothing but air; its truth is what the section has beside its tissue."""
    glass = np.median(given.truth[~given.inside], axis=0)
    values = np.random.default_rng(0).normal(AIR, noise, given.scan.shape)
    return Slice(values, np.broadcast_to(glass, given.truth.shape), np.ones_like(given.inside))


def as_it_is(given: Slice, noise: float) -> Slice:
    """The slice."""
    return given


CASES: dict[str, tuple[tuple[float, ...], Callable[[Slice, float], Slice]]] = {
    "through the screw": (THROUGH, as_it_is),
    "beside the screw": (BESIDE, as_it_is),
    "far from the screw": (FAR, as_it_is),
    "air alone": (THROUGH[2:3], air),
    "contrast × 1.3": (THROUGH[2:3], scaled(1.3)),
    "contrast × 1.15": (THROUGH[2:3], scaled(1.15)),
    "contrast × 0.75": (THROUGH[2:3], scaled(0.75)),
    "soft tissue nearer to bone": (THROUGH[2:3], flattened),
    "pixels of twice the size": (THROUGH[2:3], halved),
    "half the resolution": (THROUGH[2:3], blurred),
    "inverted": (THROUGH[2:3], inverted),
    "noise × 3": (THROUGH[2:3], noisy),
}


def judge(model: TrainedModel, given: Slice) -> Judged:
    """Stain a slice and compare it with what is right."""
    pixels = np.clip(given.scan, 0, 65535)[None].astype(np.float32)
    stain, _, verdict = model.judged(pixels)
    likeness, (_, expected) = model.trust.judge(model.prepared(pixels)), model.with_error(pixels)
    assert verdict is not None
    assert likeness is not None
    off = np.abs(stain.transpose(1, 2, 0).astype(float) - given.truth).mean(-1)[given.inside]
    return Judged(
        verdict,
        likeness,
        float(off.mean()) if len(off) else float("nan"),
        float("nan") if expected is None else float(expected.mean()),
    )


def slices(folder: Path, places: tuple[float, ...], change: Callable[[Slice, float], Slice]) -> Iterator[Slice]:
    """Slices of a specimen, changed."""
    phantom = Phantom.read(folder, 1)
    for place in places:
        number = int(place * len(phantom.scan))
        scan = phantom.scan[number].astype(float)
        noise = float(scan[:12, :12].std())  # a corner, which is outside the tube
        yield change(Slice(scan, phantom.truth[number], phantom.inside[number]), noise)


def row(name: str, found: list[Judged]) -> str:
    """One line of the table."""
    counts = [sum(each.as_slide.word == word for each in found) for word in (LIKE, DOUBTFUL, UNLIKE)]
    doubted = sum(each.in_volume.word != LIKE for each in found)
    ratio = np.median([each.in_volume.ratio or np.nan for each in found])
    error, expected = (np.nanmedian([getattr(each, what) for each in found]) for what in ("error", "expected"))
    shown = [name, len(found), *counts, f"{doubted} of {len(found)}", f"{ratio:.1f}", f"{error:.0f}", f"{expected:.0f}"]
    return "| " + " | ".join(map(str, shown)) + " |"


def main(bundle: str, dataset_dir: str, *specimens: str) -> None:
    """Print a table as Markdown.

    Args:
        bundle: trained.
        dataset_dir: of the phantoms, with their volumes.
        specimens: names of those to stain.
    """
    torch.set_num_threads(1)
    model = load_model(bundle)
    materials: dict[str, list[Path]] = {}
    for name in specimens:
        folder = Path(dataset_dir) / "specimens" / f"{int(name):02d}"
        material = json.loads((folder / "truth.json").read_text(encoding="utf-8"))["material"]
        materials.setdefault(material, []).append(folder)
    print(
        "| slices | how many | like | doubtful | unlike | doubtful or unlike in a volume | distance (×) "
        "| true error (levels) | expected error, if it were believed |"
    )
    print("|---|---|---|---|---|---|---|---|---|")
    for material, folders in materials.items():
        cases = CASES if material == "Mg" else {"through the screw": CASES["through the screw"]}
        for case, (places, change) in cases.items():
            found = [judge(model, each) for folder in folders for each in slices(folder, places, change)]
            print(row(f"{material}, {case}", found), flush=True)


if __name__ == "__main__":
    command(main)
