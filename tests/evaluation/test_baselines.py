"""Stains without a network: a table by hand, and planted colours recovered."""

import numpy as np
import pytest

from bundle.evaluation.baselines import ColourTable, inverted, raw

GREYS = np.array([[[0, 63, 255]]], np.uint8)
COLOURS = np.array([[10, 20, 90], [20, 40, 120], [30, 50, 150]], np.uint8)[:, None]  # (3, 1, 3)
EVERYWHERE = np.ones((1, 3), bool)


def test_a_table_of_four_bins_by_hand():
    # 0 and 63 share the first bin, whose colour is (15, 30, 40); the last is (90, 120, 150); two empty ones between
    table = ColourTable([(GREYS, COLOURS, EVERYWHERE)], bins=4)
    expected = [(15, 30, 40), (40, 60, 77), (65, 90, 113), (90, 120, 150)]
    assert np.array_equal(table.table, np.repeat(expected, 64, axis=0))
    assert table.table.dtype == np.uint8
    assert table.mean_rgb == pytest.approx([40, 60, 230 / 3])
    image = np.array([[[0, 64], [191, 192]]], np.uint8)
    assert table(image)[:, 0, 1].tolist() == [40, 60, 77]
    assert table(image)[:, 1].T.tolist() == [[65, 90, 113], [90, 120, 150]]
    assert table.mean_colour(image).tolist() == [[[40, 40]] * 2, [[60, 60]] * 2, [[77, 77]] * 2]


def test_greys_beyond_those_seen_take_the_nearest_colour():
    source = np.array([[[100, 120]]], np.uint8)
    target = np.array([[[50, 80]], [[60, 60]], [[70, 10]]], np.uint8)
    table = ColourTable([(source, target, np.ones((1, 2), bool))]).table
    assert table[[0, 255]].tolist() == [[50, 60, 70], [80, 60, 10]]
    assert table[110].tolist() == [62, 60, 46]  # bin 27, two fifths of the way from bin 25 to bin 30


def test_only_pixels_in_the_mask_count():
    table = ColourTable([(GREYS, COLOURS, np.array([[True, False, True]]))], bins=4)
    assert table.table[0].tolist() == [10, 20, 30]
    assert table.mean_rgb == pytest.approx([50, 70, 90])


def test_pixels_weigh_the_same_in_every_pair():
    black = np.zeros((1, 1, 3), np.uint8)
    pairs = [
        (black, np.full((3, 1, 3), 10, np.uint8), EVERYWHERE),
        (black, np.full((3, 1, 3), 50, np.uint8), np.array([[True, False, False]])),
    ]
    assert ColourTable(iter(pairs)).table[0].tolist() == [20, 20, 20]


def planted(grey):
    """A smooth dependence of colour on grey, of slopes up to 1.6."""
    return np.stack([255 - 0.6 * grey, 127 + 100 * np.sin(grey / 63), 0.9 * grey + 20])


@pytest.mark.parametrize("channels", [1, 2, 3, 5])
def test_a_planted_dependence_of_colour_on_grey_is_recovered(channels):
    rng = np.random.default_rng(0)
    sources = rng.integers(0, 256, (3, 1, 48, 48))
    targets = [planted(source[0]) + rng.normal(0, 2, (3, 48, 48)) for source in sources]
    pairs = [
        (source.repeat(channels, 0).astype(np.uint8), np.clip(target, 0, 255).astype(np.uint8), np.ones((48, 48), bool))
        for source, target in zip(sources, targets, strict=True)
    ]
    table = ColourTable(pairs)
    # a bin is four greys wide: up to 1.6 · 2 levels, and the noise of a mean of about 100 pixels
    assert np.abs(table.table.T - planted(np.arange(256))).max() < 5
    found = table(pairs[0][0])
    assert found.shape == (3, 48, 48)
    assert np.abs(found - planted(sources[0, 0])).max() < 5


def test_raw_and_inverted_have_three_channels_of_their_own():
    grey = np.array([[[0, 100, 255]]], np.uint8)
    assert raw(grey).tolist() == [[[0, 100, 255]]] * 3
    assert inverted(grey).tolist() == [[[255, 155, 0]]] * 3
    assert np.array_equal(raw(COLOURS), COLOURS)
    two = np.array([[[0, 100, 255]], [[100, 101, 255]]], np.uint8)
    assert raw(two).tolist() == [[[50, 100, 255]]] * 3
    assert inverted(two).tolist() == [[[205, 155, 0]]] * 3
    raw(grey)[0] = 7
    assert grey.tolist() == [[[0, 100, 255]]]
