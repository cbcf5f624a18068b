"""Nuclei as star-convex polygons: what a network learns of a label image, and labels from what it predicts.

Schmidt et al., Cell detection with star-convex polygons, MICCAI 2018. Geometry and non-maximum suppression are those
of the authors' package ``stardist``, of which nothing is imported that needs TensorFlow.
"""

from __future__ import annotations

import numpy as np
from stardist.geometry import polygons_to_label, star_dist
from stardist.nms import non_maximum_suppression
from stardist.utils import edt_prob

MOST_CANDIDATES = 0.2  # of the pixels; nuclei that fill an image have half of that above 0.5
LEAST_DISTANCE = 1e-3  # px; as in stardist.models, polygons without area trouble what computes their overlap


def star_targets(labels: np.ndarray, rays: int, grid: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """What the network is to predict: object probability and distances to the nucleus' border (Schmidt et al. §2).

    The probability is each pixel's distance to the background or another nucleus, divided by its largest value in
    the nucleus. The distances run along equally spaced rays to where the label ends: ray k points to
    (sin 2πk/rays, cos 2πk/rays) in (rows, columns).

    Args:
        labels: (H, W), whole numbers from 0 (background) to 65535, a number a nucleus.
        rays: how many, at least 3.
        grid: every how many pixels there is a prediction.

    Returns:
        Probability (⌈H/grid⌉, ⌈W/grid⌉) in [0, 1] and distances (rays, ⌈H/grid⌉, ⌈W/grid⌉) in px of the image, both
        float32 and 0 in the background.
    """
    whole = labels.astype(np.int32)
    probability = edt_prob(whole[::grid, ::grid])
    distances = star_dist(whole, rays, grid=(grid, grid))
    return probability.astype(np.float32), np.ascontiguousarray(distances.transpose(2, 0, 1))


def polygons(
    probability: np.ndarray, distances: np.ndarray, grid: int, probability_threshold: float, nms_threshold: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The polygons that remain of a prediction, the most probable first.

    Args:
        probability: (h, w) in [0, 1].
        distances: (rays, h, w), px of the image.
        grid: pixels of the image between two predictions.
        probability_threshold: less probable polygons are left out.
        nms_threshold: of two polygons the less probable is left out if their intersection is more than this share
            of the smaller one.

    Returns:
        Centres (n, 2) as row and column in px of the image, probabilities (n,), distances (n, rays). Only the most
        probable fifth of a prediction is looked at where more is above the threshold.
    """
    most = int(MOST_CANDIDATES * probability.size)
    if (probability > probability_threshold).sum() > most:  # of a network that has learnt nothing yet: hours
        probability_threshold = float(np.partition(probability.ravel(), -most - 1)[-most - 1])
    return non_maximum_suppression(
        np.maximum(distances, LEAST_DISTANCE).transpose(1, 2, 0),
        probability,
        grid=(grid, grid),
        b=0,  # stardist leaves 2 rows out at the border, with the small nuclei that the image cuts
        nms_thresh=nms_threshold,
        prob_thresh=probability_threshold,
    )


def drawn(
    centres: np.ndarray, probabilities: np.ndarray, distances: np.ndarray, shape: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray]:
    """Polygons as a label image; where two overlap the more probable one is on top.

    Args:
        centres: (n, 2), row and column in px.
        probabilities: (n,), the largest first.
        distances: (n, rays), px.
        shape: H, W.

    Returns:
        Labels (H, W), int32, from 1 without gaps in the order of the probabilities, and the probabilities of those
        that are seen: one hidden by others, or smaller than a pixel, is no nucleus.
    """
    if not len(centres):
        return np.zeros(shape, np.int32), np.zeros(0, np.float32)
    labels = polygons_to_label(distances, centres, shape, prob=probabilities)
    seen = np.unique(labels[labels > 0])
    numbers = np.zeros(len(centres) + 1, np.int32)
    numbers[seen] = np.arange(1, len(seen) + 1)
    return numbers[labels], probabilities[seen - 1]
