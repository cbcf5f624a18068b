"""Area averages against block_reduce, numbers worked by hand, and a ramp."""

import numpy as np
import pytest
from skimage.measure import block_reduce

from bundle.images.averaging import add_block, area_weights, average_along, axis_weights, blocks, box_count, pieces


@pytest.mark.parametrize(
    ("extent", "box", "count"), [(10, 2, 5), (10, 4, 3), (10, 4.1, 2), (9.9, 4, 2), (0.3, 0.2, 2), (3, 8, 0), (4, 8, 1)]
)
def test_a_box_counts_when_half_of_it_is_inside(extent, box, count):
    assert box_count(extent, box) == count


def test_weights_by_hand():
    weights = axis_weights(5, 2.0, 3.0, 10.0).toarray()  # boxes 0–3, 3–6, 6–9; the last third box is dropped
    thirds = np.array([[2, 1, 0, 0, 0], [0, 1, 2, 0, 0], [0, 0, 0, 2, 1]]) / 3
    assert weights == pytest.approx(thirds)


def test_a_last_box_averages_what_is_there():
    assert axis_weights(5, 1.0, 3.0, 5.0).toarray()[1] == pytest.approx([0, 0, 0, 0.5, 0.5])


def test_edges_need_not_be_regular():
    weights = area_weights(np.array([0.0, 1, 4, 5]), np.array([0.0, 2, 5])).toarray()
    assert weights == pytest.approx(np.array([[0.5, 0.5, 0], [0, 2 / 3, 1 / 3]]))


@pytest.mark.parametrize(("step", "box"), [(0.1, 0.3), (5.0, 5.0), (0.65, 1.3), (0.2528, 0.2528 * 7), (1.0, 1.005)])
def test_rows_sum_to_1_and_are_banded(step, box):
    weights = axis_weights(1000, step, box, 1000 * step)
    assert np.asarray(weights.sum(1)).ravel() == pytest.approx(1)
    assert np.diff(weights.tocsr().indptr).max() <= box / step + 2


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_average_along_an_axis_is_block_reduce(axis):
    array = np.random.default_rng(0).random((6, 9, 12))
    block = tuple(3 if each == axis else 1 for each in range(3))
    size = array.shape[axis]
    averaged = average_along(array, axis_weights(size, 1.0, 3.0, size), axis)
    assert averaged == pytest.approx(block_reduce(array, block, np.mean), rel=1e-6)


def test_boxes_as_large_as_the_pixels_change_nothing():
    array = np.random.default_rng(0).integers(0, 256, (6, 4), np.uint8)
    averaged = average_along(array, axis_weights(6, 5.0, 5.0, 30.0), 0)
    assert averaged.dtype == np.float32
    np.testing.assert_array_equal(averaged, array)
    half = average_along(array, axis_weights(6, 5.0, 5.0, 30.0)[3:], 0)  # as many weights of 1, but not all pixels
    np.testing.assert_array_equal(half, array[3:])


@pytest.mark.parametrize("cut", [1, 2, 5, 12])
def test_blocks_of_any_size_add_up_to_the_same(cut):
    array = np.random.default_rng(1).random((12, 10, 3))
    weights = (axis_weights(12, 1.0, 2.5, 12.0), axis_weights(10, 1.0, 2.0, 10.0))
    whole, parts = np.zeros((2, 5, 5, 3), np.float32)
    add_block(whole, array, 0, weights)
    for start in range(0, 12, cut):
        add_block(parts, array[start : start + cut], start, weights)
    assert parts == pytest.approx(whole, rel=1e-5)


def test_a_block_past_the_last_box_adds_nothing():
    total = np.zeros((1, 4), np.float32)
    weights = (axis_weights(10, 1.0, 8.0, 10.0),)
    add_block(total, np.ones((8, 4)), 0, weights)
    add_block(total, np.full((2, 4), 9.0), 8, weights)
    assert total == pytest.approx(1)


def test_blocks_keep_whole_chunks_together():
    assert list(blocks(10, 1 << 23, 4)) == [(0, 4), (4, 8), (8, 10)]
    assert list(blocks(10, 1 << 21, 1)) == [(0, 4), (4, 8), (8, 10)]
    assert list(blocks(10, 1, 4)) == [(0, 10)]


def test_pieces_are_the_block():
    block = np.broadcast_to(np.arange(6, dtype=np.uint8)[:, None, None], (6, 2048, 2048))
    cut = list(pieces(100, block))
    assert [start for start, _ in cut] == [100, 102, 104]
    assert [piece[0, 0, 0] for _, piece in cut] == [0, 2, 4]
