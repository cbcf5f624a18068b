"""Scores of segmented nuclei against labelled ones, and how sure they are."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from stardist.matching import accuracy, f1, matching, precision, recall

IOUS = tuple(round(0.5 + 0.05 * step, 2) for step in range(9))  # 0.5, 0.55 … 0.9
DRAWS = 1000
LEVEL = 0.95
SCORES: dict[str, Callable[[float, float, float], float]] = {
    "f1": f1,
    "precision": precision,
    "sensitivity": recall,
    "ap": accuracy,  # TP / (TP + FP + FN), what the 2018 Data Science Bowl and StarDist call average precision
}


@dataclass(frozen=True)
class Counts:
    """What matches between two label images.

    Attributes:
        image: name of the image.
        specimen: what it is of.
        tp: nuclei that are matched, at each of ``IOUS``.
        true: nuclei that are labelled.
        found: nuclei that were segmented.
    """

    image: str
    specimen: str
    tp: tuple[int, ...]
    true: int
    found: int


def count(true: np.ndarray, found: np.ndarray, image: str = "", specimen: str = "") -> Counts:
    """Match nuclei one to one, the most matches with the greatest overlap (``stardist.matching``).

    Args:
        true: (H, W), labels.
        found: (H, W), labels.
        image: name of the image.
        specimen: what it is of.
    """
    matched: Any = matching(true.astype(np.int32), found.astype(np.int32), thresh=IOUS)
    return Counts(image, specimen, tuple(int(each.tp) for each in matched), matched[0].n_true, matched[0].n_pred)


def rows(counts: Sequence[Counts]) -> list[dict[str, Any]]:
    """A row for each image and IoU: counts, and scores; empty where they are 0/0."""
    table = []
    for each in counts:
        for iou, tp in zip(IOUS, each.tp, strict=True):
            fp, fn = each.found - tp, each.true - tp
            counted = {"image": each.image, "specimen": each.specimen, "iou": iou, "tp": tp, "fp": fp, "fn": fn}
            defined = {"precision": each.found, "sensitivity": each.true}
            scored = {
                name: round(score(tp, fp, fn), 6) if defined.get(name, each.found + each.true) else ""
                for name, score in SCORES.items()
            }
            table.append(counted | scored)
    return table


def pooled(counts: Sequence[Counts]) -> dict[str, np.ndarray]:
    """Scores over the nuclei of all images together.

    Returns:
        By name, one value for each of ``IOUS``; 0 where nothing matches.
    """
    tp = np.sum([each.tp for each in counts], axis=0)
    fp = sum(each.found for each in counts) - tp
    fn = sum(each.true for each in counts) - tp
    triples = list(zip(tp.tolist(), fp.tolist(), fn.tolist(), strict=True))
    return {name: np.asarray([score(*each) for each in triples], float) for name, score in SCORES.items()}


def summary(counts: Sequence[Counts], seed: int = 0, draws: int = DRAWS) -> dict[str, Any]:
    """Pooled scores with their intervals.

    The intervals are percentiles of a bootstrap: specimens are drawn with replacement, as many as there are, each with
    all its images. A dataset that names no specimens has one an image.

    Args:
        counts: of every image.
        seed: of the draws.
        draws: how many.

    Returns:
        Plain JSON: ``f1``, ``precision``, ``sensitivity`` and ``ap`` at IoU 0.5, ``ap_over_iou`` at each IoU and
        ``mean_ap`` over them, each ``{"value", "low", "high"}``; how many images, specimens and nuclei they are of. The
        limits are null where there is but one specimen.
    """
    specimens: dict[str, list[Counts]] = {}
    for each in counts:
        specimens.setdefault(each.specimen, []).append(each)
    groups = list(specimens.values())
    generator = np.random.default_rng(seed)
    drawn = []
    for places in generator.integers(len(groups), size=(draws, len(groups))) if len(groups) > 1 else ():
        drawn.append(pooled([each for place in places for each in groups[place]]))
    whole = pooled(counts)

    def score(read: Callable[[dict[str, np.ndarray]], float]) -> dict[str, float | None]:
        tail = (1 - LEVEL) / 2
        limits = np.quantile([read(each) for each in drawn], (tail, 1 - tail)).tolist() if drawn else [None, None]
        return dict(zip(("value", "low", "high"), (float(read(whole)), *limits), strict=True))

    return {
        "images": len(counts),
        "specimens": len(groups),
        "nuclei": sum(each.true for each in counts),
        "found": sum(each.found for each in counts),
        "iou": IOUS[0],
        **{name: score(lambda scores, name=name: scores[name][0]) for name in SCORES},  # type: ignore[misc]
        "ap_over_iou": {
            f"{iou:.2f}": score(lambda scores, place=place: scores["ap"][place])  # type: ignore[misc]
            for place, iou in enumerate(IOUS)
        },
        "mean_ap": score(lambda scores: float(scores["ap"].mean())),
        "interval": f"{LEVEL:.0%}, bootstrap over {'specimens' if len(groups) < len(counts) else 'images'}, "
        f"{draws} draws, seed {seed}",
    }
