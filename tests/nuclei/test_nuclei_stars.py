"""Star-convex targets, losses, non-maximum suppression and scores against references and hand-made cases."""

import sys

import numpy as np
import pytest
import torch
from skimage.draw import disk
from skimage.measure import label
from stardist.geometry import star_dist

from bundle.images.slides import read_slide
from bundle.nuclei.dataset import read_nuclei
from bundle.nuclei.losses import StarLoss, distance_loss, object_loss
from bundle.nuclei.scoring import IOUS, count, pooled, rows, summary
from bundle.nuclei.stars import drawn, polygons, star_targets


def discs(size=96, places=((30, 30, 12), (60, 66, 15), (80, 20, 8))):
    labels = np.zeros((size, size), np.int32)
    for number, (row, column, radius) in enumerate(places, 1):
        labels[disk((row, column), radius, shape=labels.shape)] = number
    return labels


def segmented(labels, rays=32, grid=1):
    """Labels → targets → labels, as a perfect network would give them."""
    probability, distances = star_targets(labels, rays, grid)
    found = polygons(probability, distances, grid, 0.5, 0.4)
    return drawn(*found, labels.shape)


def test_no_tensorflow_is_imported():
    assert "bundle.nuclei.stars" in sys.modules
    assert not any(name.split(".")[0] in ("tensorflow", "keras") for name in sys.modules)


@pytest.mark.parametrize("grid", [1, 2])
def test_distances_from_the_middle_of_a_disc_are_its_radius(grid):
    probability, distances = star_targets(discs(), 32, grid)
    assert probability.shape == (96 // grid, 96 // grid)
    assert distances.shape == (32, 96 // grid, 96 // grid)
    for row, column, radius in ((30, 30, 12), (60, 66, 15), (80, 20, 8)):
        middle = distances[:, row // grid, column // grid]
        assert np.abs(middle - radius).max() < 1.0
        assert probability[row // grid, column // grid] > 0.85


def test_ray_0_points_along_the_columns_and_ray_8_of_32_along_the_rows():
    labels = np.zeros((64, 64), np.int32)
    labels[20:30, 10:50] = 1  # 10 rows, 40 columns
    _, distances = star_targets(labels, 32)
    assert distances[[0, 8, 16, 24], 24, 20] == pytest.approx([29.5, 5.5, 10.5, 4.5], abs=0.5)


def test_distances_are_those_of_the_slow_reference_in_python():
    labels = discs(24, ((7, 7, 5), (16, 16, 4)))
    _, distances = star_targets(labels, 8)
    assert np.abs(distances - star_dist(labels, 8, mode="python").transpose(2, 0, 1)).max() < 1e-3


def test_touching_nuclei_have_low_probability_along_their_common_border():
    labels = np.zeros((40, 40), np.int32)
    labels[10:30, 5:20], labels[10:30, 20:35] = 1, 2
    probability, _ = star_targets(labels, 8)
    assert probability[20, 19] < 0.2 > probability[20, 20]
    assert probability[20, 12] > 0.8


def test_background_alone_gives_no_target_and_no_nucleus():
    probability, distances = star_targets(np.zeros((32, 48), np.int32), 8, 2)
    assert probability.shape == (16, 24)
    assert not probability.any()
    assert not distances.any()
    labels, probabilities = segmented(np.zeros((32, 48), np.int32))
    assert labels.shape == (32, 48)
    assert not labels.any()
    assert not len(probabilities)


@pytest.mark.parametrize("grid", [1, 2])
def test_real_nuclei_come_back_from_their_own_targets(shared, grid):
    files = sorted((shared / "data" / "nuclei" / "colour").glob("*_labels.png"))[:3]
    counts = []
    for file in files:
        labels = read_nuclei(file)
        found, probabilities = segmented(labels, grid=grid)
        assert len(probabilities) == found.max()
        counts.append(count(labels, found))
    scores = pooled(counts)
    assert scores["f1"][0] > 0.95
    ious = [iou for file in files for iou in overlaps(read_nuclei(file), segmented(read_nuclei(file), grid=grid)[0])]
    assert np.median(ious) > 0.9


def overlaps(true, found):
    """IoU of each labelled nucleus with what covers most of it, by counting pixels."""
    for number in np.unique(true[true > 0]):
        inside = true == number
        best = np.bincount(found[inside]).argmax()
        yield (inside & (found == best)).sum() / (inside | (found == best)).sum() if best else 0.0


def test_of_two_polygons_at_one_place_the_more_probable_stays():
    probability, distances = np.zeros((40, 40), np.float32), np.zeros((16, 40, 40), np.float32)
    probability[20, 20], probability[20, 23], probability[20, 34] = 0.9, 0.8, 0.7
    distances[:, 20, 20] = distances[:, 20, 23] = 8
    distances[:, 20, 34] = 3
    centres, probabilities, _ = polygons(probability, distances, 1, 0.5, 0.4)
    assert centres.tolist() == [[20, 20], [20, 34]]
    assert probabilities == pytest.approx([0.9, 0.7])
    assert len(polygons(probability, distances, 1, 0.75, 0.4)[0]) == 1
    assert len(polygons(probability, distances, 1, 0.5, 0.9)[0]) == 3


def test_hidden_polygons_are_not_counted_and_labels_have_no_gap():
    centres, probabilities = np.asarray([[20, 20], [20, 20], [40, 40]]), np.asarray([0.9, 0.8, 0.7])
    labels, kept = drawn(centres, probabilities, np.asarray([[8.0] * 16, [4.0] * 16, [5.0] * 16]), (60, 60))
    assert np.unique(labels).tolist() == [0, 1, 2]
    assert kept.tolist() == [0.9, 0.7]
    assert labels[20, 20] == 1
    assert labels[40, 40] == 2


def inverse_softplus(value):
    return torch.log(torch.expm1(value))


def test_losses_of_a_hand_made_case():
    probability = torch.tensor([[[[1.0, 0.5], [0.0, 0.0]]]])
    distances = torch.tensor([[4.0, 2.0]]).view(1, 2, 1, 1).expand(1, 2, 2, 2)
    predicted = distances.clone()
    predicted[0, 0, 0, 0] += 3  # mean over 2 rays: 1.5, weight 1
    predicted[0, 1, 0, 1] -= 1  # mean 0.5, weight 0.5
    assert distance_loss(predicted, distances, probability).item() == pytest.approx((1.5 + 0.25) / 1.5)
    logit = torch.zeros(1, 1, 2, 2)
    assert object_loss(logit, probability).item() == pytest.approx(np.log(2))
    total, terms = StarLoss(0.2, 0.01, 5.0)(
        torch.cat([logit, inverse_softplus(predicted / 5)], 1), probability, distances
    )
    background = (0.5 * 2.5 + 3 + 3) / 4
    assert terms["background"].item() == pytest.approx(background)
    assert total.item() == pytest.approx(np.log(2) + 0.2 * (1.75 / 1.5 + 0.01 * background))
    assert distance_loss(predicted, distances, torch.zeros(1, 1, 2, 2)).item() == 0
    with pytest.raises(ValueError, match="targets are"):
        StarLoss()(torch.zeros(1, 4, 2, 2), probability, distances)


def test_scores_of_a_case_counted_by_hand():
    true, found = np.zeros((40, 40), np.int32), np.zeros((40, 40), np.int32)
    true[0:10, 0:10], found[0:10, 0:10] = 1, 5  # the same
    true[20:30, 0:10], found[22:30, 0:10] = 2, 3  # IoU 0.8
    true[0:10, 20:30], found[0:10, 25:30] = 7, 9  # IoU 0.5
    true[20:30, 20:30] = 4  # missed
    found[32:40, 32:40] = 1  # nothing there
    counted = count(true, found, "a.png", "slide 1")
    assert (counted.true, counted.found) == (4, 4)
    assert counted.tp == (3, *[2] * 6, 1, 1)
    scores = pooled([counted])
    assert {name: scores[name][0] for name in scores} == {
        "f1": pytest.approx(6 / 8),
        "precision": pytest.approx(3 / 4),
        "sensitivity": pytest.approx(3 / 4),
        "ap": pytest.approx(3 / 5),
    }
    assert scores["ap"][-1] == pytest.approx(1 / 7)
    table = rows([counted, count(np.zeros_like(true), np.zeros_like(true), "empty.png")])
    assert len(table) == 2 * len(IOUS)
    assert table[1]["iou"] == 0.55
    assert (table[1]["tp"], table[1]["fp"], table[1]["fn"]) == (2, 2, 2)
    assert [table[-1][name] for name in ("tp", "fp", "fn", "f1", "precision")] == [0, 0, 0, "", ""]


def test_a_planted_shift_of_the_labels_lowers_every_score_and_none_gives_1(shared):
    labels = read_nuclei(sorted((shared / "data" / "nuclei" / "fluorescence").glob("*_labels.png"))[0])
    values = [pooled([count(labels, np.roll(labels, shift, 1))]) for shift in (0, 2, 5, 20)]
    for name in ("f1", "precision", "sensitivity", "ap"):
        assert values[0][name].tolist() == [1.0] * len(IOUS)
    means = [each["ap"].mean() for each in values]
    assert means == sorted(means, reverse=True)
    assert values[3]["f1"][0] < 0.5


def test_pooled_scores_count_nuclei_not_images_and_intervals_hold_them():
    many, one = discs(), discs(96, ((30, 30, 12),))
    counts = [count(many, many, "a", "s1"), count(one, np.zeros_like(one), "b", "s2"), count(many, many, "c", "s3")]
    found = summary(counts, seed=3)
    assert found["sensitivity"]["value"] == pytest.approx(6 / 7)
    assert found["precision"]["value"] == 1
    assert found["sensitivity"]["low"] < 6 / 7 < found["sensitivity"]["high"] <= 1
    assert found == summary(counts, seed=3)
    assert list(found["ap_over_iou"]) == [f"{iou:.2f}" for iou in IOUS]
    assert "over images" in found["interval"]
    together = summary([count(many, many, "a", "s1"), count(one, one, "b", "s1")])
    assert together["specimens"] == 1
    assert together["f1"] == {"value": 1.0, "low": None, "high": None}


def test_labels_of_any_numbers_count_alike(shared):
    file = sorted((shared / "data" / "nuclei" / "fluorescence").glob("*_labels.png"))[1]
    labels = read_nuclei(file)
    assert np.array_equal(labels, read_slide(file).pixels[0])
    numbered = label(labels > 0).astype(np.int32)
    assert count(labels * 7 + (labels > 0), numbered).tp == count(labels, numbered).tp
