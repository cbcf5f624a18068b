"""Whether nuclei are where their labels are: by another library, by hand, and on images that people labelled."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torchmetrics.functional.classification import binary_auroc

from bundle.images.slides import read_slide
from bundle.nuclei.insilico.morphology import LEAST_OVERLAP, denser_share, morphology, nuclear_density, rank_overlap


def test_overlap_is_the_area_under_the_curve_of_torchmetrics():
    rng = np.random.default_rng(0)
    inside = rng.random((40, 50)) < 0.3
    density = (rng.normal(size=(40, 50)) + 0.7 * inside).round(1)  # with ties
    theirs = binary_auroc(torch.sigmoid(torch.from_numpy(density)), torch.from_numpy(inside).int())
    assert rank_overlap(density, inside) == pytest.approx(float(theirs), abs=1e-6)


def test_morphology_of_a_case_by_hand():
    labels = np.zeros((20, 30), np.uint16)
    labels[5:9, 5:9], labels[5:9, 20:24] = 1, 2
    density = np.where(labels == 1, 1.0, 0.0)  # the second nucleus is gone
    found = morphology(density, labels)
    assert (found.nuclei, found.denser_nuclei) == (2, 0.5)
    assert found.dice == pytest.approx(2 * 16 / (16 + 32))
    assert found.overlap == pytest.approx(0.5 + 0.5 * 0.5)
    assert denser_share(-density, labels) == 0
    even = morphology(np.ones((20, 30)), labels)
    assert (even.overlap, even.dice) == (0.5, 0)


def test_real_stained_nuclei_pass_and_moved_labels_do_not(shared):
    folder = shared / "data" / "nuclei" / "colour"
    overlaps = []
    for path in sorted(folder.glob("*_labels.png")):
        labels = read_slide(path).pixels[0]
        density = nuclear_density(read_slide(folder / path.name.replace("_labels", "")).pixels)
        diameter = 2 * np.sqrt(np.median(np.unique(labels[labels > 0], return_counts=True)[1]) / np.pi)
        moved = np.roll(labels, round(diameter), 1)
        overlaps.append([rank_overlap(density, each > 0) for each in (labels, moved)])
    right, wrong = np.array(overlaps).T
    assert len(right) == 48
    assert right.min() > LEAST_OVERLAP + 0.05
    assert wrong.max() < LEAST_OVERLAP
