"""A dataset misaligned by a known amount."""

from __future__ import annotations

import numpy as np
import pytest
from skimage.registration import phase_cross_correlation

from bundle.data import load_datalist
from bundle.errors import InputError
from bundle.image_io import read_slide
from scripts.misalign import displacement, misalign
from tests.conftest import make_dataset


def test_the_displacement_has_the_length_asked_for_half_of_it_a_shift():
    field = displacement((300, 200), 10.0, np.random.default_rng(0))
    assert np.sqrt((field**2).sum(0).mean()) == pytest.approx(10)
    assert np.hypot(*field.mean((1, 2))) == pytest.approx(10 / np.sqrt(2))


def test_training_targets_move_and_test_targets_do_not(tmp_path):
    source = make_dataset(tmp_path / "data", size=(128, 136))
    moved = load_datalist(misalign(str(source), str(tmp_path / "moved"), px=4))
    for pair in moved.training:
        before, after = (read_slide(root / "target" / pair.target.name).pixels for root in (source, moved.folder))
        inner = [one[1, 20:-20, 20:-20] - one.mean() for one in (before, after)]
        shift = phase_cross_correlation(*inner, upsample_factor=10, normalization=None)[0]
        assert 1 < np.hypot(*shift) < 7
    assert len(moved.training) == 2
    test = moved.testing[0].target
    np.testing.assert_array_equal(read_slide(test).pixels, read_slide(source / "target" / test.name).pixels)


def test_no_displacement_changes_nothing_and_bad_input_is_refused(tmp_path):
    source = make_dataset(tmp_path / "data")
    still = load_datalist(misalign(str(source), str(tmp_path / "still"), px=0))
    for pair in still.training:
        np.testing.assert_array_equal(
            read_slide(pair.target).pixels, read_slide(source / "target" / pair.target.name).pixels
        )
    with pytest.raises(InputError, match="is not empty"):
        misalign(str(source), str(tmp_path / "still"), px=1)
    with pytest.raises(InputError, match="px is -1"):
        misalign(str(source), str(tmp_path / "new"), px=-1)
